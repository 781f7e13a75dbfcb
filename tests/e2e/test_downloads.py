"""A router that fetches: at the first request, by `lr pull` and `lr rm`; and what its end and its reloads meet."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest

from tests.e2e.conftest import ROOT, Router, Serve, until
from tests.fake_hub import FakeHub, Fault, running
from tests.tiny_gguf import write_llama

SPEC = "user/repo:F32"
FILE = "repo-F32.gguf"


@pytest.fixture
def hub(tmp_path: Path) -> Iterator[FakeHub]:
    with running() as hub:
        hub.add("user/repo", {FILE: write_llama(tmp_path / "source.gguf").read_bytes()})
        yield hub


@pytest.fixture
def router(serve: Serve, hub: FakeHub, tmp_path: Path) -> Router:
    (tmp_path / "models").mkdir()
    (tmp_path / "p.ini").write_text(f"[wanted]\nhf-repo = {SPEC}\nctx-size = 256\n", encoding="utf-8")
    words = ("--models-dir", tmp_path / "models", "--models-preset", tmp_path / "p.ini")
    return serve(None, *words, HF_ENDPOINT=hub.endpoint)


def progress_of(router: Router, model: str) -> float:
    entry = router.models().get(model, {"status": {}, "lr": {}})
    status, ours = entry["status"], entry["lr"]
    assert isinstance(status, dict)
    assert isinstance(ours, dict)
    return float(ours["progress"] or 0) if status.get("value") == "downloading" else 0.0


def processes_about(folder: Path) -> list[str]:
    """The command lines that name a folder of this test."""
    lines = []
    for file in Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):
            lines.append(file.read_text())
    return [line for line in lines if str(folder) in line]


class Reader:
    """Reads a stream of the router in a thread until it ends."""

    def __init__(self, router: Router, path: str) -> None:
        self.text = ""
        self.ended_well = False
        self._begun = threading.Event()
        self._thread = threading.Thread(target=self._read, args=(router, path), daemon=True)
        self._thread.start()
        assert self._begun.wait(10)

    def _read(self, router: Router, path: str) -> None:
        with router.client() as client, client.stream("GET", path) as answer:
            self._begun.set()
            for text in answer.iter_text():
                self.text += text
        self.ended_well = True

    def join(self) -> None:
        self._thread.join(10)
        assert self.ended_well

    def events(self) -> list[str]:
        lines = [json.loads(line[6:]) for line in self.text.splitlines() if line.startswith("data: ")]
        return [line["event"] for line in lines if line["model"] in ("wanted", SPEC)]


def test_the_first_request_fetches_what_a_preset_wants(router: Router, hub: FakeHub) -> None:
    hold = threading.Event()
    hub.faults.append(Fault(cut=200_000, hold=hold))
    events = Reader(router, "/models/sse")
    with router.client() as client, ThreadPoolExecutor(1) as pool:
        asking = pool.submit(client.post, "/tokenize", json={"model": "wanted", "content": "x"})
        until(lambda: progress_of(router, "wanted") > 0, 20)
        assert "wanted" in router.lr("ls").stdout
        hold.set()
        assert asking.result().status_code == 200
    assert router.models()["wanted"]["lr"]["n_ctx"] == 256  # type: ignore[index]
    # The child is started by path and asks no network.
    arguments = router.models()["wanted"]["status"]["args"]  # type: ignore[index]
    assert "--offline" in arguments
    assert "--hf-repo" not in arguments
    assert router.stop() == 0
    events.join()
    order = events.events()
    assert order[0] == "model_status"
    assert order.index("download_progress") < order.index("download_finished") < order.index("status_change")


def test_pull_and_rm_go_through_the_running_router(router: Router, hub: FakeHub, tmp_path: Path) -> None:
    pulled = router.lr("pull", "user/repo:F32")
    assert SPEC in pulled.stdout + pulled.stderr
    # What the router itself writes is private; a cache may be shared, as far as who started it lets others read.
    os.umask(umask := os.umask(0))
    (fetched_file,) = (tmp_path / "cache").rglob("*.gguf")
    assert fetched_file.stat().st_mode & 0o777 == 0o644 & ~umask
    assert fetched_file.parent.stat().st_mode & 0o777 == 0o777 & ~umask
    assert router.models()[SPEC]["source"] == "cache"
    assert SPEC in router.lr("ls").stdout
    fetched = len(hub.fetched())
    router.lr("pull", "user/repo:F32")
    assert len(hub.fetched()) == fetched
    with router.client() as client:
        for model in (SPEC, "wanted"):
            assert client.post("/tokenize", json={"model": model, "content": "x"}).status_code == 200
    missing = router.lr("pull", "user/nothing", code=3)
    assert "user/nothing" in missing.stderr + missing.stdout
    assert "Traceback" not in missing.stderr
    shared = router.lr("rm", SPEC, "--yes", code=1)
    assert "'wanted'" in shared.stderr
    router.lr("rm", SPEC, "--yes", "--force")
    assert SPEC not in router.models()
    assert not list((tmp_path / "cache").rglob("*.gguf"))


def test_a_pull_that_is_interrupted_leaves_the_router_fetching_and_rm_stops_it(
    router: Router, hub: FakeHub, tmp_path: Path
) -> None:
    hub.faults.append(Fault(cut=100_000, hold=threading.Event()))
    command = [sys.executable, "-m", "llamarouter", "pull", SPEC]
    pull = subprocess.Popen(command, env=router.environ, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    until(lambda: progress_of(router, SPEC) > 0, 20)
    pull.send_signal(signal.SIGINT)
    said, _ = pull.communicate(timeout=10)
    assert pull.returncode == 130, said
    assert progress_of(router, SPEC) > 0
    with router.client() as client:
        assert client.delete("/models", params={"model": SPEC}).json() == {"success": True}
    assert SPEC not in router.models()
    (partial,) = (tmp_path / "cache").rglob("*.lr-partial")
    assert partial.stat().st_size > 0


def test_the_end_waits_neither_for_a_download_nor_for_readers_of_events_and_logs(
    router: Router, hub: FakeHub, tmp_path: Path
) -> None:
    write_llama(tmp_path / "models" / "m.gguf")
    hub.faults.append(Fault(cut=100_000, hold=threading.Event()))
    with router.client() as client:
        client.get("/models?reload=1")
        assert client.post("/models/load", json={"model": "m", "wait": True}).status_code == 200
        readers = [Reader(router, "/models/sse"), Reader(router, "/lr/logs?model=m&follow=1")]
        with ThreadPoolExecutor(1) as pool:
            asking = pool.submit(client.post, "/tokenize", json={"model": "wanted", "content": "x"})
            until(lambda: progress_of(router, "wanted") > 0, 20)
            router.process.send_signal(signal.SIGTERM)
            assert until(lambda: router.process.poll() is not None, 20) < 4
            assert asking.result().json()["error"]["reason"] == "draining"
    assert router.process.returncode == 0
    for reader in readers:
        reader.join()
    assert not processes_about(tmp_path)


def test_a_reload_by_signal_takes_what_is_new_and_refuses_what_cannot_be_read(
    serve: Serve, models_dir: Path, tmp_path: Path
) -> None:
    preset = tmp_path / "p.ini"
    text = "[one]\nmodel = models/a.gguf\nctx-size = {}\n"
    preset.write_text(text.format(256), encoding="utf-8")
    router = serve(None, "--models-dir", models_dir, "--models-preset", preset)
    with router.client() as client:
        for model in ("one", "b"):
            assert client.post("/models/load", json={"model": model, "wait": True}).status_code == 200
        pids = {model: router.pid(model) for model in ("one", "b")}
        preset.write_bytes(b"\xff\xfe")
        for _ in range(3):
            router.process.send_signal(signal.SIGHUP)
        until(lambda: any("reload refused" in line for line in router.output))
        assert {model: router.pid(model) for model in ("one", "b")} == pids
        preset.write_text(text.format(512) + "[two]\nmodel = models/c.gguf\n", encoding="utf-8")
        router.process.send_signal(signal.SIGHUP)
        until(lambda: "two" in router.models())
        until(lambda: router.state("one") == "unloaded")
        assert router.pid("b") == pids["b"]
        assert client.post("/tokenize", json={"model": "one", "content": "x"}).status_code == 200
        assert router.models()["one"]["lr"]["n_ctx"] == 512  # type: ignore[index]
    assert router.process.poll() is None


def test_a_client_sees_progress_end_when_the_hub_refuses(router: Router, hub: FakeHub) -> None:
    hub.add("user/repo", {FILE: b"x"}, gated=True)
    answer = httpx.post(
        f"{router.url}/v1/chat/completions", json={"model": "wanted", "messages": []}, trust_env=False, timeout=30
    )
    assert (answer.status_code, answer.json()["error"]["reason"]) == (403, "forbidden")
    assert "cannot be downloaded" in answer.json()["error"]["message"]
    assert "forbidden" in json.dumps(router.models()["wanted"]["lr"])
