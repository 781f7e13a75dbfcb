"""The router under test, as its user runs it: folders of its own, tiny models, a preset, `lr serve`, `lr` beside it."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import NoReturn

from soak.pause import pause, until
from tests.tiny_gguf import write_llama

MODELS = ("ada", "bea", "cleo", "dora", "eve")
GUEST = "guest"  # a section that comes and goes
PLACES = 3
# What bounds a request, so that who is lost is found soon: seconds.
QUEUE_TIMEOUT = 60
STALL = 10
_COMES_UP = 60.0
_COMMAND = 90.0  # no `lr` of ours takes longer: an unload drains for `_DRAIN`
_DRAIN = 20
_END = 60.0
_WIDE = 256  # so that an answer takes a moment, in which something can happen to it


class RouterGoneError(Exception):
    """The router has ended, and nobody had asked it to."""


@dataclass(slots=True)
class Box:
    """Its folders, and what its preset says now."""

    folder: Path
    environ: dict[str, str]
    port: int
    preset: Path
    sections: dict[str, dict[str, str]] = field(default_factory=dict)
    process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int:
        assert self.process is not None
        return self.process.pid

    @property
    def log(self) -> Path:
        return self.folder / "router.log"

    @property
    def runtime(self) -> Path:
        return self.folder / "run"

    def write_preset(self, spoilt: str = "") -> None:
        """The sections as they are, and `spoilt` behind them; renamed into place, so a reload sees one of two."""
        lines = []
        for name, keys in self.sections.items():
            lines += [f"[{name}]", *(f"{key} = {value}" for key, value in keys.items()), ""]
        beside = self.preset.with_suffix(".new")
        beside.write_text("\n".join(lines) + spoilt, encoding="utf-8")
        beside.replace(self.preset)

    def model_file(self, name: str) -> Path:
        return self.folder / "files" / f"{name}.gguf"

    async def lr(self, *arguments: str) -> tuple[int, str, str]:
        """Run `lr`; its exit code (-1: it did not end in time) and what it printed."""
        argv = (sys.executable, "-m", "llamarouter", *arguments)
        pipe = asyncio.subprocess.PIPE
        process = await asyncio.create_subprocess_exec(
            *argv, env=self.environ, stdin=asyncio.subprocess.DEVNULL, stdout=pipe, stderr=pipe
        )
        try:
            async with asyncio.timeout(_COMMAND):
                out, err = await process.communicate()
        except TimeoutError:
            return -1, "", f"not ended after {_COMMAND:.0f} s"
        finally:
            if process.returncode is None:
                process.kill()
                await process.wait()
        assert process.returncode is not None
        return process.returncode, out.decode(), err.decode()


@contextlib.asynccontextmanager
async def box(folder: Path, engine: str, model: Path | None, options: list[str]) -> AsyncIterator[Box]:
    """A running router; at the end it is gone, by force where it must be."""
    made = _furnished(folder, model)
    _start(made, engine, options)
    try:
        if not await until(lambda: _answers(made), _COMES_UP):
            raise SystemExit(f"soak: lr serve did not come up:\n{made.log.read_text(errors='replace')[-3000:]}")
        yield made
    finally:
        end_of(made)


def _start(made: Box, engine: str, options: list[str]) -> None:
    argv = [sys.executable, "-m", "llamarouter", "serve", "--engine", engine, "--models-preset", str(made.preset)]
    argv += ["--port", str(made.port), "--models-max", str(PLACES), "--max-wait", "2", "-np", "2", "--threads", "1"]
    argv += ["--queue-timeout", str(QUEUE_TIMEOUT), "--load-stall", str(STALL), "--busy-stall", str(STALL)]
    argv += ["--drain-timeout", str(_DRAIN), "--stop-timeout", "5", "--wait-comment", "1", *options]
    with made.log.open("ab") as log:
        made.process = subprocess.Popen(
            argv, env=made.environ, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True
        )


def end_of(made: Box) -> None:
    """Whatever is still there of the router is killed; its children go with it."""
    if made.process is not None and made.process.poll() is None:
        made.process.kill()
        with contextlib.suppress(subprocess.TimeoutExpired):
            made.process.wait(10)


async def until_gone(made: Box) -> NoReturn:
    """Watch it; raises `RouterGoneError` when it has ended."""
    assert made.process is not None
    while made.process.poll() is None:
        await pause(0.2)
    tail = made.log.read_text(errors="replace")[-3000:]
    raise RouterGoneError(f"NOT WELL: the router has ended by itself, with {made.process.returncode}:\n{tail}")


async def stopped(made: Box) -> int | None:
    """Ask the router to end, and its exit code; None: it did not within a minute."""
    assert made.process is not None
    made.process.send_signal(signal.SIGTERM)
    await until(lambda: made.process is not None and made.process.poll() is not None, _END)
    return made.process.returncode


def _furnished(folder: Path, model: Path | None) -> Box:
    (folder / "run").mkdir(mode=0o700)
    (folder / "files").mkdir()
    environ = {name: value for name, value in os.environ.items() if not _is_foreign(name)}
    environ |= {"HOME": str(folder), "XDG_RUNTIME_DIR": str(folder / "run"), "LR_STATE_DIR": str(folder / "state")}
    environ |= {"PYTHONUNBUFFERED": "1", "NO_COLOR": "1"}
    made = Box(folder, environ, _free_port(), folder / "preset.ini")
    for seed, name in enumerate((*MODELS, GUEST)):
        if model is None:
            write_llama(made.model_file(name), seed=seed, n_ctx=1024, n_embd=_WIDE, n_layer=8)
        else:
            made.model_file(name).symlink_to(model.absolute())
    for name in MODELS:
        made.sections[name] = {"model": str(made.model_file(name)), "ctx-size": "1024"}
    made.write_preset()
    return made


def _is_foreign(name: str) -> bool:
    return name.startswith(("LR_", "LLAMA_", "HF_", "XDG_")) or name.lower().endswith("_proxy")


def _answers(made: Box) -> bool:
    assert made.process is not None
    if made.process.poll() is not None:
        raise SystemExit(f"soak: lr serve ended:\n{made.log.read_text(errors='replace')[-3000:]}")
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", made.port), 1) as client:
        client.sendall(b"GET /health HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n")
        return client.recv(64).startswith(b"HTTP/1.1 200")
    return False


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def child_of(made: Box, model: str) -> int | None:
    """The process that serves a model now."""
    return next((pid for pid, served in children_of(made.pid) if served == model), None)


def children_of(pid: int) -> Iterator[tuple[int, str | None]]:
    """The processes that it has started and not reaped, each with the model that it serves, if any."""
    with contextlib.suppress(OSError):
        for task in Path(f"/proc/{pid}/task").iterdir():
            for child in map(int, (task / "children").read_text().split()):
                yield child, _model_of(child)


def _model_of(pid: int) -> str | None:
    """A child is told its model's name by `--alias`."""
    try:
        arguments = Path(f"/proc/{pid}/cmdline").read_bytes().decode(errors="replace").split("\0")
        return arguments[arguments.index("--alias") + 1]
    except (OSError, ValueError, IndexError):
        return None


@contextlib.contextmanager
def folder_of_its_own() -> Iterator[Path]:
    """A short path: a socket's has at most 100 bytes."""
    folder = Path(f"/tmp/soak-{os.getpid()}")
    folder.mkdir(mode=0o700)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def secret_in(printed: str) -> str:
    """What `lr key add --json` and `rotate --json` print."""
    said = json.loads(printed)
    return str(said["secret"])
