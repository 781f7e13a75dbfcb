"""A process started by posix_spawn(3) in a process group of its own, with three pipes to it, and its end.

    Spawned.start(argv, env, listener) -> pid, stdin; the listener hears its output and its end

asyncio would do the same but for the group: it knows only a new session. Linux schedules the processes of a session as
one (sched(7), autogroup), and a wake-up from one session into another costs the scheduler so much more that a model in
a session of its own took a tenth of the router's small requests. A new group is enough for a signal to reach all that
a child forks, and for the terminal's Ctrl-C not to reach it.
"""

from __future__ import annotations

import asyncio
import fcntl
import os
import signal
import sys
import threading
from collections.abc import Mapping
from functools import partial
from typing import Protocol, Self

_NOBODY_KNOWS = 255  # its exit code, where somebody else has reaped it
# The dispositions that Python, or whoever started the router (nohup), has set to be ignored would be inherited.
_SIGNALS = signal.valid_signals() - {signal.SIGKILL, signal.SIGSTOP}


class Listener(Protocol):
    """Who hears of a process; the names are those of `asyncio.SubprocessProtocol`."""

    def pipe_data_received(self, fd: int, data: bytes) -> None: ...
    def pipe_connection_lost(self, fd: int, exc: Exception | None) -> None: ...
    def process_exited(self) -> None:
        """It is reaped, and `code` is known."""


class _Output(asyncio.Protocol):
    """What comes by one of its pipes."""

    def __init__(self, fd: int, listener: Listener) -> None:
        self._fd = fd
        self._listener = listener

    def data_received(self, data: bytes) -> None:
        self._listener.pipe_data_received(self._fd, data)

    def connection_lost(self, exc: Exception | None) -> None:
        self._listener.pipe_connection_lost(self._fd, exc)


class Spawned:
    """A process from its start until it is reaped; `close` when its pipes are of no use any more."""

    def __init__(self, listener: Listener) -> None:
        self.pid = 0
        self.code: int | None = None  # once it has ended; of a signal its number, negative
        self.stdin: asyncio.WriteTransport
        self._listener = listener
        self._loop = asyncio.get_running_loop()
        self._transports: list[asyncio.BaseTransport] = []

    @classmethod
    async def start(cls, argv: tuple[str, ...], env: Mapping[str, str], listener: Listener) -> Self:
        """Start `argv`, whose first word is a path. Raises `OSError`, and `ValueError` for a word with a zero in it."""
        process = cls(listener)
        pipes = [os.pipe() for _ in range(3)]
        ours = [pipes[0][1], pipes[1][0], pipes[2][0]]
        try:
            process._spawn(argv, env, [pipes[0][0], pipes[1][1], pipes[2][1]])
        except BaseException:
            for end in ours:
                os.close(end)
            raise
        process._await_end()
        await process._listen(ours)  # what it says meanwhile waits in the pipes
        return process

    def close(self) -> None:
        """Close our ends of its pipes, whoever holds the others."""
        for transport in self._transports:
            transport.close()

    def _spawn(self, argv: tuple[str, ...], env: Mapping[str, str], theirs: list[int]) -> None:
        """`theirs`: what it has as its standard descriptors; they are closed here."""
        try:
            # Above those, which the router may lack itself: none is overwritten on the way.
            ends = [fcntl.fcntl(end, fcntl.F_DUPFD_CLOEXEC, 3) for end in theirs]
        finally:
            for end in theirs:
                os.close(end)
        try:
            self.pid = os.posix_spawn(
                argv[0],
                argv,
                env,
                file_actions=[(os.POSIX_SPAWN_DUP2, end, fd) for fd, end in enumerate(ends)],
                setpgroup=0,
                setsigmask=(),
                setsigdef=_SIGNALS,
            )
        finally:
            for end in ends:
                os.close(end)

    async def _listen(self, ours: list[int]) -> None:
        left = [os.fdopen(end, "rb" if fd else "wb", buffering=0) for fd, end in enumerate(ours)]
        try:
            self.stdin, _ = await self._loop.connect_write_pipe(asyncio.Protocol, left[0])
            self._transports.append(self.stdin)
            for fd in (1, 2):
                del left[0]
                output, _ = await self._loop.connect_read_pipe(partial(_Output, fd, self._listener), left[0])
                self._transports.append(output)
        except BaseException:
            os.killpg(self.pid, signal.SIGKILL)
            for file in left:
                file.close()
            self.close()
            raise

    # --- its end ------------------------------------------------------------------------------------------------------

    def _await_end(self) -> None:
        try:
            fd = _descriptor_of(self.pid)
        except OSError:  # an old kernel, or one that may not be asked for it
            threading.Thread(target=self._wait_aside, name=f"end of {self.pid}", daemon=True).start()
        else:
            self._loop.add_reader(fd, self._readable, fd)

    def _readable(self, fd: int) -> None:
        self._loop.remove_reader(fd)
        os.close(fd)
        self._over(_reaped(self.pid))

    def _wait_aside(self) -> None:
        self._loop.call_soon_threadsafe(self._over, _reaped(self.pid))

    def _over(self, code: int) -> None:
        self.code = code
        self._listener.process_exited()


def _descriptor_of(pid: int) -> int:
    """A descriptor that can be read once the process has ended. Raises `OSError` where the system has none."""
    if sys.platform == "linux":
        return os.pidfd_open(pid)
    raise OSError("no descriptors of processes")


def _reaped(pid: int) -> int:
    try:
        return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    except ChildProcessError:
        return _NOBODY_KNOWS
