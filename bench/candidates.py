"""The candidates: the same model on the same binary, reached directly, through the reference, and through `lr`."""

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
from dataclasses import dataclass
from pathlib import Path

_PATIENCE = 60.0


@dataclass(frozen=True, slots=True)
class Candidate:
    """One way to the model: where it listens, and the process whose CPU time is counted (None: not counted)."""

    name: str
    port: int
    pid: int | None

    @property
    def url(self) -> str:
        """The base of its URLs."""
        return f"http://127.0.0.1:{self.port}"


@contextlib.contextmanager
def direct(server: Path, model: Path, slots: int) -> Iterator[Candidate]:
    """llama-server with one model and no router."""
    with _running("direct", [str(server), "-m", str(model), "-np", str(slots), "--threads-http", "64"]) as candidate:
        yield Candidate(candidate.name, candidate.port, None)


@contextlib.contextmanager
def reference(server: Path, folder: Path, slots: int) -> Iterator[Candidate]:
    """llama-server's own router mode."""
    argv = [str(server), "--models-dir", str(folder), "-np", str(slots), "--threads-http", "64"]
    with _running("reference", argv) as candidate:
        yield candidate


@contextlib.contextmanager
def ours(server: Path, folder: Path, slots: int, *options: str) -> Iterator[Candidate]:
    """`lr serve`."""
    argv = [sys.executable, "-m", "llamarouter", "serve", "--engine", str(server), "--models-dir", str(folder)]
    with _running("lr", [*argv, "-np", str(slots), *options]) as candidate:
        yield candidate


@contextlib.contextmanager
def _running(name: str, argv: list[str]) -> Iterator[Candidate]:
    port = _free_port()
    log = Path(os.environ.get("TMPDIR", "/tmp")) / f"bench-{name}-{port}.log"
    with log.open("wb") as output:
        process = subprocess.Popen([*argv, "--port", str(port)], stdout=output, stderr=output, stdin=subprocess.DEVNULL)
        try:
            _until_healthy(process, port, log)
            yield Candidate(name, port, process.pid)
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
        if process.poll() is not None:
            raise SystemExit(f"bench: {process.args!r} ended with {process.returncode}; its log is {log}")
        with contextlib.suppress(OSError), urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=5):
            return
    raise SystemExit(f"bench: {process.args!r} did not answer within {_PATIENCE:.0f} s; its log is {log}")


def warm_up(candidate: Candidate, model: str) -> None:
    """Have the model loaded and one answer given."""
    body = json.dumps({"model": model, "content": "warm", "messages": [{"role": "user", "content": "a"}]}).encode()
    request = urllib.request.Request(f"{candidate.url}/tokenize", body, {"content-type": "application/json"})
    with urllib.request.urlopen(request, timeout=_PATIENCE) as answer:
        answer.read()


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
