"""The candidates: the same model on the same binary, reached directly, through the reference, and through `lr`.

Each runs with a home of its own, so that nothing that a user has cached, configured or downloaded takes part.
"""

from __future__ import annotations

import contextlib
import json
import os
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

_PATIENCE = 60.0
_HTTP_THREADS = ("--threads-http", "64")
# The fast lane is off with a uvicorn that it does not know.
_NO_FAST_LANE = "import uvicorn; uvicorn.__version__ = '0'; from llamarouter.cli.main import main; main()"


@dataclass(frozen=True, slots=True)
class Candidate:
    """One way to the model: where it listens, and the process whose CPU time is counted (None: not counted)."""

    name: str
    port: int
    pid: int | None
    until_listening: float = 0.0  # seconds from its start
    key: str | None = None  # what its clients have to send

    @property
    def url(self) -> str:
        """The base of its URLs."""
        return f"http://127.0.0.1:{self.port}"


@contextlib.contextmanager
def direct(server: Path, model: Path, slots: int) -> Iterator[Candidate]:
    """llama-server with one model and no router."""
    argv = [str(server), "-m", str(model), "-np", str(slots), *_HTTP_THREADS]
    with _running("direct", argv) as candidate:
        yield Candidate(candidate.name, candidate.port, None, candidate.until_listening)


@contextlib.contextmanager
def reference(server: Path, folder: Path, slots: int, *options: str) -> Iterator[Candidate]:
    """llama-server's own router mode."""
    argv = [str(server), "--models-dir", str(folder), "-np", str(slots), *_HTTP_THREADS, *options]
    with _running("reference", argv) as candidate:
        yield candidate


@contextlib.contextmanager
def ours(server: Path, folder: Path, slots: int, *options: str) -> Iterator[Candidate]:
    """`lr serve`."""
    with _running("lr", _serve(["-m", "llamarouter"], server, folder, slots, options)) as candidate:
        yield candidate


@contextlib.contextmanager
def with_a_key(server: Path, folder: Path, slots: int) -> Iterator[Candidate]:
    """`lr serve` with a key that has some models and limits; requests are counted and written down everywhere."""
    home = Path(os.environ["HOME"]) / "with-a-key"
    home.mkdir(mode=0o700)
    outside = ["env", f"HOME={home}", f"XDG_RUNTIME_DIR={home}"]
    # Requests a minute are not limited: the most that can be said is less than what comes.
    limits = ["--models", "t*", "--concurrent", "1000", "--tokens-per-day", "1000000000000"]
    command = [*outside, sys.executable, "-m", "llamarouter", "key", "add", "bench", "--json", *limits]
    made = subprocess.run(command, check=True, capture_output=True, timeout=_PATIENCE).stdout
    argv = [*outside, *_serve(["-m", "llamarouter"], server, folder, slots, ())]
    with _running("with a key", argv) as candidate:
        yield replace(candidate, key=json.loads(made)["secret"])


@contextlib.contextmanager
def without_fast_lane(server: Path, folder: Path, slots: int) -> Iterator[Candidate]:
    """`lr serve` with every request through Starlette."""
    with _running("slow lane", _serve(["-c", _NO_FAST_LANE], server, folder, slots, ())) as candidate:
        yield candidate


def _serve(program: list[str], server: Path, folder: Path, slots: int, options: tuple[str, ...]) -> list[str]:
    own = ["serve", "--engine", str(server), "--models-dir", str(folder), "-np", str(slots)]
    return [sys.executable, *program, *own, *options]


@contextlib.contextmanager
def _running(name: str, argv: list[str]) -> Iterator[Candidate]:
    port = _free_port()
    home = Path(os.environ["HOME"])
    log = home / f"{name.replace(' ', '-')}-{port}.log"
    started = time.monotonic()
    with log.open("wb") as output:
        process = subprocess.Popen([*argv, "--port", str(port)], stdout=output, stderr=output, stdin=subprocess.DEVNULL)
        try:
            _until_healthy(process, port, log)
            yield Candidate(name, port, process.pid, time.monotonic() - started)
        finally:
            process.terminate()
            try:
                process.wait(20)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
    log.unlink(missing_ok=True)


def _until_healthy(process: subprocess.Popen[bytes], port: int, log: Path) -> None:
    end = time.monotonic() + _PATIENCE
    while time.monotonic() < end:
        with contextlib.suppress(OSError), urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=5):
            return
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(0.001)
            raise SystemExit(f"bench: {process.args!r} ended:\n{log.read_text(errors='replace')[-2000:]}")
    raise SystemExit(f"bench: {process.args!r} did not answer within {_PATIENCE:.0f} s")


def warm_up(candidate: Candidate, model: str) -> None:
    """Have the model loaded and one answer given."""
    post(candidate, "/tokenize", {"model": model, "content": "warm"})


def post(candidate: Candidate, path: str, body: dict[str, object]) -> bytes:
    """Ask once, on a connection of its own. Raises `OSError` where that fails."""
    headers = {"content-type": "application/json", **({} if candidate.key is None else {"x-api-key": candidate.key})}
    request = urllib.request.Request(candidate.url + path, json.dumps(body).encode(), headers)
    with urllib.request.urlopen(request, timeout=_PATIENCE) as answer:
        told: bytes = answer.read()
    return told


@contextlib.contextmanager
def home_of_its_own(folder: Path) -> Iterator[None]:
    """Whatever is started within has its caches, settings and sockets below `folder`."""
    folder.mkdir(mode=0o700)
    before = dict(os.environ)
    for name in list(os.environ):
        if name.startswith(("LR_", "LLAMA_", "HF_", "XDG_")):
            del os.environ[name]
    os.environ |= {"HOME": str(folder), "XDG_RUNTIME_DIR": str(folder)}
    try:
        yield
    finally:
        os.environ.clear()
        os.environ |= before


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
