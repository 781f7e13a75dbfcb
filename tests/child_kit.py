"""What tests of children share: a spec for the fake llama-server, an observer that remembers, and a life to run."""

from __future__ import annotations

import asyncio
import os
import sys
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from llamarouter.core.child_protocol import LoadProgress
from llamarouter.core.exits import Exit
from llamarouter.host.child_log import LogRing
from llamarouter.host.process import ChildSpec, ReadyChild, live
from llamarouter.host.runtime_folder import RuntimeFolder

FAKE = (sys.executable, "-S", "-E", str(Path(__file__).with_name("fake_llama_server.py")))


def fake_spec(*faults: str, **changes: Any) -> ChildSpec:
    """A fake child with `--fake-...` faults: `fake_spec("wedge=1", stop_timeout=1.0)`."""
    flags = tuple(word for fault in faults for word in (f"--fake-{fault.partition('=')[0]}", fault.partition("=")[2]))
    values: dict[str, Any] = {
        "model": "m",
        "command": (*FAKE, "--model", "/models/m.gguf", "--alias", "m", "-np", "2", *flags),
        "env": {"PATH": os.environ["PATH"]},
        "unix_socket": True,
        "state_lines": True,
        "stop_timeout": 5.0,
        "load_stall": 30.0,
        "busy_stall": 30.0,
    }
    return ChildSpec(**{**values, **changes})


@dataclass
class Watcher:
    """A `ChildObserver` that remembers, and whose requests and silence a test sets."""

    inside: int = 0
    quiet_since: float | None = None
    pid: int = 0
    steps: list[LoadProgress] = field(default_factory=list)
    states: list[str] = field(default_factory=list)
    cuts: int = 0
    spawns: int = 0
    ready_child: ReadyChild | None = None
    is_ready: asyncio.Event = field(default_factory=asyncio.Event)
    is_spawned: asyncio.Event = field(default_factory=asyncio.Event)

    def spawned(self, pid: int) -> None:
        self.pid = pid
        self.spawns += 1
        self.is_spawned.set()

    def progress(self, value: LoadProgress) -> None:
        self.steps.append(value)

    def ready(self, ready: ReadyChild) -> None:
        self.ready_child = ready
        self.is_ready.set()

    def state(self, word: str) -> None:
        self.states.append(word)

    def leases(self) -> int:
        return self.inside

    def silence(self) -> float:
        if self.quiet_since is None:
            return 0.0
        return asyncio.get_running_loop().time() - self.quiet_since

    def close_connections(self) -> None:
        self.cuts += 1

    def begin_silence(self) -> None:
        """From now on a request is inside and nothing comes."""
        self.inside, self.quiet_since = 1, asyncio.get_running_loop().time()


@dataclass
class Life:
    """A running life and what it tells."""

    task: asyncio.Task[Exit]
    watcher: Watcher
    log: LogRing
    folder: RuntimeFolder

    async def ready(self) -> ReadyChild:
        """The child, once it answers; fails if it ends first."""
        waiting = asyncio.ensure_future(self.watcher.is_ready.wait())
        await asyncio.wait({waiting, self.task}, timeout=20, return_when=asyncio.FIRST_COMPLETED)
        waiting.cancel()
        child = self.watcher.ready_child
        assert child is not None, f"not ready: {self.task}, {self.log.lines()}"
        return child

    async def stop(self) -> None:
        """Cancel the life and wait for its end."""
        self.task.cancel()
        await asyncio.wait({self.task}, timeout=20)
        assert self.task.done()


@asynccontextmanager
async def living(spec: ChildSpec) -> AsyncIterator[Life]:
    """Live a child in the background, and leave nothing of it behind."""
    with (
        # pytest's own folders may be too long for a socket.
        tempfile.TemporaryDirectory(prefix="lr-", dir="/tmp") as base,
        RuntimeFolder.open({"LR_RUNTIME_DIR": base}, None) as folder,
    ):
        log, watcher = LogRing(), Watcher()
        task = asyncio.get_running_loop().create_task(live(spec, folder, log, watcher))
        life = Life(task, watcher, log, folder)
        try:
            yield life
        finally:
            while not task.done():
                task.cancel()
                await asyncio.wait({task}, timeout=0.02)


def is_alive(pid: int) -> bool:
    """Whether a process runs: zombies are not alive."""
    try:
        return Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()[0] not in (b"Z", b"X")
    except (FileNotFoundError, ProcessLookupError):
        return False


def proc(pid: int, name: str) -> bytes:
    """A file of `/proc`."""
    return Path(f"/proc/{pid}/{name}").read_bytes()


def exists(path: object) -> bool:
    """Whether there is anything at this path of a UNIX socket."""
    return isinstance(path, str) and os.path.lexists(path)


def children() -> list[int]:
    """Processes, zombies included, whose parent we are."""
    return [int(pid) for pid in Path(f"/proc/{os.getpid()}/task/{os.getpid()}/children").read_text().split()]
