"""A router on the models of this check, as its user runs it: folders of its own, `lr serve`, `lr` beside it."""

from __future__ import annotations

import contextlib
import json
import os
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from soak.box import children_of
from tests.gpu.card import seconds_until

ROOT = Path(__file__).resolve().parents[2]
_COMES_UP = 30.0
_COMMAND = 60.0
_NO_PROXY = urllib.request.build_opener(urllib.request.ProxyHandler({}))


@dataclass(frozen=True, slots=True)
class Answer:
    """What a client has of a request. `body`: None where it was no JSON, or nothing came."""

    status: int | None
    body: Any
    seconds: float

    @property
    def is_whole(self) -> bool:
        """Whether it is what a model says: an end, and the number of tokens."""
        return self.status == 200 and isinstance(self.body, dict) and self.body.get("stop") is True


@dataclass(frozen=True, slots=True)
class Router:
    """A running `lr serve`."""

    process: subprocess.Popen[bytes]
    port: int
    environ: Mapping[str, str]
    log: Path

    def ask(self, path: str, body: object = None, seconds: float = 120.0) -> Answer:
        """POST a body, or GET; whatever comes back."""
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(
            f"http://127.0.0.1:{self.port}{path}", data, {"content-type": "application/json"}
        )
        began = time.monotonic()
        status: int | None = None
        try:
            with _NO_PROXY.open(request, timeout=seconds) as answer:
                status, text = answer.status, answer.read()
        except urllib.error.HTTPError as error:
            status, text = error.code, error.read()
        except OSError:
            text = b""
        try:
            return Answer(status, json.loads(text), time.monotonic() - began)
        except ValueError:
            return Answer(status, None, time.monotonic() - began)

    def complete(self, model: str, *, first: int = 5, tokens: int = 64, seconds: float = 120.0) -> Answer:
        """Have a model answer a prompt of tokens, that begins with another one for each `first`."""
        prompt = [5 + (first + index) % 200 for index in range(tokens)]
        body = {"model": model, "prompt": prompt, "n_predict": 4, "ignore_eos": True, "temperature": 0}
        return self.ask("/completion", body, seconds)

    def entries(self) -> dict[str, dict[str, Any]]:
        """The models by id, as `GET /models` has them."""
        return {entry["id"]: entry for entry in self.ask("/models").body["data"]}

    def loaded(self) -> set[str]:
        """Those that are in memory."""
        return {id for id, entry in self.entries().items() if entry["status"]["value"] == "loaded"}

    def device(self, name: str) -> dict[str, Any]:
        """A device as the router has it."""
        found: dict[str, Any] = next(each for each in self.ask("/lr/devices").body["devices"] if each["name"] == name)
        return found

    def children(self) -> dict[str, int]:
        """The processes that serve models."""
        return {model: pid for pid, model in children_of(self.process.pid) if model is not None}

    def lr(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run `lr` beside it."""
        return subprocess.run(
            [sys.executable, "-m", "llamarouter", *arguments],
            env=dict(self.environ),
            cwd=ROOT,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=_COMMAND,
            check=False,
        )


@contextlib.contextmanager
def serving(engine: Path, preset: Path, folder: Path, options: str) -> Iterator[Router]:
    """A router with these models; at the end it is gone, by force where it must be."""
    home = folder / "home"
    shutil.rmtree(home, ignore_errors=True)
    home.mkdir(mode=0o700)
    with tempfile.TemporaryDirectory(prefix="lr-") as run:  # a socket's path is a short one
        yield from _serving(engine, preset, folder, options, environ_of(home, Path(run)))


def _serving(engine: Path, preset: Path, folder: Path, options: str, environ: dict[str, str]) -> Iterator[Router]:
    port = _free_port()
    command = [sys.executable, "-m", "llamarouter", "serve", "--engine", str(engine), "--models-preset", str(preset)]
    log = folder / "router.log"
    with log.open("ab") as output:
        process = subprocess.Popen(
            [*command, "--port", str(port), *shlex.split(options)],
            env=environ,
            cwd=ROOT,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
        )
    router = Router(process, port, environ, log)
    try:
        if seconds_until(lambda: process.poll() is not None or _answers(router), _COMES_UP) is None or process.poll():
            raise RuntimeError(f"lr serve does not come up: {log.read_text(errors='replace')[-2000:]}")
        yield router
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def environ_of(home: Path, run: Path) -> dict[str, str]:
    """An environment in which nothing of the user's takes part."""
    kept = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("LR_", "LLAMA_", "HF_", "XDG_")) and not name.lower().endswith("_proxy")
    }
    paths = os.pathsep.join((str(ROOT), *filter(None, (os.environ.get("PYTHONPATH"),))))
    own = {"HOME": str(home), "XDG_RUNTIME_DIR": str(run), "NO_COLOR": "1", "PYTHONPATH": paths}
    return {**kept, **own}


def preset_of(sections: Mapping[str, Mapping[str, str]]) -> str:
    """The text of a preset."""
    return "\n".join(
        f"[{name}]\n" + "".join(f"{key} = {value}\n" for key, value in keys.items()) for name, keys in sections.items()
    )


def _answers(router: Router) -> bool:
    return router.ask("/health", seconds=2.0).status == 200


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
