"""`lr pull` and `lr rm`, by themselves and through a running router."""

from __future__ import annotations

import json
import os
import pty
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import quote

import pytest

from tests.fake_hub import FakeHub, Fault, running
from tests.tiny_gguf import write_llama

REPO = "user/tiny-GGUF"
MODEL = f"{REPO}:Q4_K_M"
URL = f"https://hub/{REPO}/resolve/{'0' * 40}/tiny-Q4_K_M.gguf"


@pytest.fixture
def hub(tmp_path: Path) -> Iterator[FakeHub]:
    data = write_llama(tmp_path / "tiny.gguf").read_bytes()
    with running() as hub:
        hub.add(REPO, {"tiny-Q4_K_M.gguf": data, "tiny-Q8_0.gguf": data[:-1] + b"x"})
        yield hub


@pytest.fixture
def environ(tmp_path: Path) -> dict[str, str]:
    home = tmp_path / "home"
    home.mkdir()
    kept = {name: os.environ[name] for name in ("PATH",)}
    return {**kept, "HOME": str(home), "XDG_RUNTIME_DIR": str(tmp_path), "LLAMA_CACHE": str(tmp_path / "cache")}


def lr(environ: dict[str, str], *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "llamarouter", *arguments]
    return subprocess.run(
        command, env=environ, capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL, timeout=30
    )


def test_pull_and_rm_without_a_router(hub: FakeHub, environ: dict[str, str]) -> None:
    environ["HF_ENDPOINT"] = hub.endpoint
    pulled = lr(environ, "pull", REPO)
    assert (pulled.returncode, pulled.stderr) == (0, "")
    assert f"{MODEL} into {environ['LLAMA_CACHE']}: 1 file, 631 kB" in pulled.stdout
    assert "tiny-Q4_K_M.gguf 100% 631 kB of 631 kB" in pulled.stdout
    assert f"{MODEL} is here (631 kB in" in pulled.stdout

    again = lr(environ, "pull", "--json", REPO)
    assert [json.loads(line)["event"] for line in again.stdout.splitlines()] == ["planned", "fetched"]

    unasked = lr(environ, "rm", MODEL)
    assert (unasked.returncode, unasked.stderr) == (2, "lr: nobody is there to be asked: say -y to delete it\n")
    assert lr(environ, "rm", "-y", MODEL).returncode == 0
    gone = lr(environ, "rm", "-y", MODEL)
    assert gone.returncode == 1
    assert "there is no model" in gone.stderr


def test_rm_takes_nothing_that_is_not_the_caches_own(hub: FakeHub, environ: dict[str, str], tmp_path: Path) -> None:
    environ["HF_ENDPOINT"] = hub.endpoint
    assert lr(environ, "pull", REPO).returncode == 0
    (pulled,) = Path(environ["LLAMA_CACHE"]).rglob("tiny-Q4_K_M.gguf")
    models = tmp_path / "models"
    models.mkdir()
    (models / "mine.gguf").symlink_to(pulled)
    environ["LLAMA_ARG_MODELS_DIR"] = str(models)
    refused = lr(environ, "rm", "-y", "mine")
    assert refused.returncode == 1
    assert "'mine' is not removable: it does not lie in a cache" in refused.stderr
    refused = lr(environ, "rm", "-y", MODEL)
    assert refused.returncode == 1
    assert f"the files of model '{MODEL}' are those of 'mine', too" in refused.stderr
    assert pulled.exists()
    assert lr(environ, "rm", "-y", "--force", MODEL).returncode == 0
    assert not pulled.exists()


@pytest.mark.parametrize(
    ("spec", "code", "message"),
    [
        (f"{REPO}:Q2_K", 3, f"lr: {REPO} has no Q2_K; it has Q4_K_M, Q8_0\n"),
        ("nonsense", 2, "lr: 'nonsense': not the name of a model on the Hub; write user/repo, "),
    ],
)
def test_a_wrong_name_is_one_line_and_a_code(
    hub: FakeHub, environ: dict[str, str], spec: str, code: int, message: str
) -> None:
    environ["HF_ENDPOINT"] = hub.endpoint
    done = lr(environ, "pull", spec)
    assert done.returncode == code
    assert done.stderr.startswith(message)
    assert done.stderr.count("\n") == 1


def test_a_terminal_gets_a_bar_for_each_file(hub: FakeHub, environ: dict[str, str]) -> None:
    environ |= {"HF_ENDPOINT": hub.endpoint, "TERM": "xterm", "COLUMNS": "120"}
    ours, theirs = pty.openpty()
    command = [sys.executable, "-m", "llamarouter", "pull", MODEL]
    process = subprocess.Popen(command, env=environ, stdin=theirs, stdout=theirs, stderr=theirs)
    os.close(theirs)
    shown = b""
    try:
        while chunk := os.read(ours, 65536):
            shown += chunk
    except OSError:  # Linux says so when the other side is closed
        pass
    finally:
        os.close(ours)
    assert process.wait() == 0
    assert b"100%" in shown
    assert b"631.0/631.0 kB" in shown
    assert b"is here" in shown


def test_an_interrupt_keeps_what_came(hub: FakeHub, environ: dict[str, str], tmp_path: Path) -> None:
    hold = threading.Event()
    hub.faults += [Fault(cut=100_000, hold=hold)]
    environ["HF_ENDPOINT"] = hub.endpoint
    process = subprocess.Popen(
        [sys.executable, "-m", "llamarouter", "pull", "--json", MODEL], env=environ, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    for line in process.stdout:
        if json.loads(line).get("done"):
            break
    process.send_signal(2)
    last = process.stdout.read().splitlines()[-1]
    assert process.wait() == 130
    process.stdout.close()
    hold.set()
    assert f"`lr pull {MODEL}` goes on from there" in json.loads(last)["message"]
    assert lr(environ, "pull", MODEL).returncode == 0
    assert hub.fetched()[-1].headers["range"].startswith("bytes=")


class Router(BaseHTTPRequestHandler):
    """As much of a router's API as the two commands need."""

    events: tuple[dict[str, object], ...] = ()
    refusal: tuple[int, str] | None = None
    state = "unloaded"
    asked: list[tuple[str, str, bytes]]

    def log_message(self, *_: object) -> None:
        return

    def answer(self, status: int, body: object) -> None:
        data = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def do_GET(self) -> None:
        if self.path == "/models/sse":
            self.send_response(200)
            self.end_headers()
            for event in self.events:
                self.wfile.write(b": ping\n\ndata: " + json.dumps(event).encode() + b"\n\n")
        elif self.path == "/models":
            status = {"value": self.state}
            self.answer(200, {"data": [{"id": MODEL, "status": status, "lr": {"size": 1000, "path": "/c/m.gguf"}}]})
        else:
            self.answer(200, {"hub_cache": "/srv/hub"})

    def do_POST(self) -> None:
        self.asked.append(("POST", self.path, self.rfile.read(int(self.headers["Content-Length"]))))
        if self.refusal is not None:
            self.answer(self.refusal[0], {"error": {"code": self.refusal[0], "message": self.refusal[1]}})
        else:
            self.answer(200, {"success": True})

    def do_DELETE(self) -> None:
        self.asked.append(("DELETE", self.path, b""))
        self.answer(200, {"success": True})


@contextmanager
def router(**more: object) -> Iterator[tuple[str, list[tuple[str, str, bytes]]]]:
    asked: list[tuple[str, str, bytes]] = []
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("R", (Router,), {**more, "asked": asked}))
    threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}", asked
    finally:
        server.shutdown()
        server.server_close()


def progress(done: int) -> dict[str, object]:
    state = {"progress": {URL: {"done": done, "total": 1000}}}
    return {"model": MODEL, "event": "download_progress", "data": state}


def test_pull_through_a_router_says_which_cache_it_fills(environ: dict[str, str]) -> None:
    other = {"model": "else/where:Q8_0", "event": "download_failed"}
    events = (other, progress(10), progress(1000), {"model": MODEL, "event": "download_finished"})
    with router(events=events) as (url, asked):
        done = lr(environ, "pull", "--url", url, MODEL)
    assert (done.returncode, done.stderr) == (0, "")
    assert asked == [("POST", "/models", json.dumps({"model": MODEL}).encode())]
    assert done.stdout.splitlines()[0] == f"{url} fetches it into /srv/hub"
    assert "tiny-Q4_K_M.gguf 100% 1.0 kB of 1.0 kB" in done.stdout
    assert done.stdout.splitlines()[-1] == f"{MODEL} is here; `lr run {MODEL}` talks to it"


def test_a_failure_in_the_router_keeps_its_reason_and_code(environ: dict[str, str]) -> None:
    failed = {"model": MODEL, "event": "download_failed", "data": {"reason": "gated", "message": "it is gated"}}
    with router(events=(failed,)) as (url, _):
        done = lr(environ, "pull", "--url", url, MODEL)
    assert (done.returncode, done.stderr) == (4, "lr: it is gated\n")
    with router(events=({"model": MODEL, "event": "download_failed"},)) as (url, _):
        assert lr(environ, "pull", "--url", url, MODEL).returncode == 1
    with router(events=()) as (url, _):
        done = lr(environ, "pull", "--url", url, MODEL)
    assert (done.returncode, "hung up" in done.stderr) == (1, True)


def test_what_the_router_has_is_not_fetched(environ: dict[str, str]) -> None:
    refusal = (400, f"model '{MODEL}' already exists")
    with router(refusal=refusal) as (url, _):
        done = lr(environ, "pull", "--url", url, MODEL)
    assert (done.returncode, done.stdout) == (0, f"{MODEL} is here; `lr run {MODEL}` talks to it\n")
    events = ({"model": MODEL, "event": "download_finished"},)
    with router(refusal=refusal, state="downloading", events=events) as (url, _):
        assert "fetches it into" in lr(environ, "pull", "--url", url, MODEL).stdout


def test_rm_through_a_router(environ: dict[str, str]) -> None:
    with router() as (url, asked):
        done = lr(environ, "rm", "-y", "--url", url, f"{REPO}:q4_k_m")
        assert (done.returncode, done.stderr) == (0, "")
        assert asked == [("DELETE", f"/models?model={quote(MODEL, safe='')}", b"")]
        assert lr(environ, "rm", "-y", "--force", "--url", url, MODEL).returncode == 0
        assert asked[-1] == ("DELETE", f"/models?model={quote(MODEL, safe='')}&force=1", b"")
        wrong = lr(environ, "rm", "-y", "--url", url, "nothing/such:Q1")
    assert wrong.returncode == 1
    assert "there is no model" in wrong.stderr
