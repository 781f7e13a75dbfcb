"""A process started by posix_spawn(3) in a process group of its own, with three connections to it, and its end.

    Spawned.start(argv, env, listener) -> pid, stdin; the listener hears its output and its end

asyncio would do the same but for the group: it knows only a new session. Linux schedules the processes of a session as
one (sched(7), autogroup), and a wake-up from one session into another costs the scheduler so much more that a model in
a session of its own took a tenth of the router's small requests. A new group is enough for a signal to reach all that
a child forks, and for the terminal's Ctrl-C not to reach it.
A router that somebody has started in a terminal is another matter: what is in the session of a terminal may type into
it (`TIOCSTI`), to the shell that is there, and a model's process is trusted with nothing. There it gets its session.

The connections are pairs of sockets, as with asyncio. uvloop closes the descriptor of any other file twice, and in
between another thread may have opened one of the same number: so one model's end closed another's stdin.
"""

from __future__ import annotations

import asyncio
import fcntl
import os
import signal
import socket
import sys
import threading
from collections.abc import Mapping
from contextlib import ExitStack, suppress
from functools import partial
from typing import Protocol, Self

_NOBODY_KNOWS = 255  # its exit code, where somebody else has reaped it
_LOOK_EVERY = 0.05  # seconds, where nothing says when it can be reaped
# The dispositions that Python, or whoever started the router (nohup), has set to be ignored would be inherited.
_SIGNALS = signal.valid_signals() - {signal.SIGKILL, signal.SIGSTOP}


class Listener(Protocol):
    """Who hears of a process; the names are those of `asyncio.SubprocessProtocol`."""

    def pipe_data_received(self, fd: int, data: bytes) -> None: ...
    def pipe_connection_lost(self, fd: int, exc: Exception | None) -> None: ...
    def process_exited(self) -> None:
        """It is reaped, and `code` is known."""


class _Output(asyncio.Protocol):
    """What comes by one of its connections."""

    def __init__(self, fd: int, listener: Listener) -> None:
        self._fd = fd
        self._listener = listener

    def data_received(self, data: bytes) -> None:
        self._listener.pipe_data_received(self._fd, data)

    def connection_lost(self, exc: Exception | None) -> None:
        self._listener.pipe_connection_lost(self._fd, exc)


class Spawned:
    """A process from its start until it is reaped; `close` when its connections are of no use any more."""

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
        ours: list[socket.socket] = []
        try:
            with ExitStack() as theirs:
                process._spawn(argv, env, [_pair(ours, theirs) for _ in range(3)])
            process._await_end()
            await process._listen(ours)  # what it says meanwhile waits there
        finally:
            for end in ours:  # those that no transport closes
                with suppress(OSError):  # the loop may have closed one that it could not listen to
                    end.close()
        return process

    def close(self) -> None:
        """Close our ends of its connections, whoever holds the others."""
        for transport in self._transports:
            transport.close()

    def _spawn(self, argv: tuple[str, ...], env: Mapping[str, str], ends: list[int]) -> None:
        """`ends`: what it has as its standard descriptors."""
        self.pid = os.posix_spawn(
            argv[0],
            argv,
            env,
            file_actions=[(os.POSIX_SPAWN_DUP2, end, fd) for fd, end in enumerate(ends)],
            **({"setsid": True} if _has_terminal() else {"setpgroup": 0}),
            setsigmask=(),
            setsigdef=_SIGNALS,
        )

    async def _listen(self, ours: list[socket.socket]) -> None:
        """Take our ends out of the list, one by one, as they get their transports."""
        try:
            self.stdin, _ = await self._loop.connect_write_pipe(asyncio.Protocol, ours[0])
            self._transports.append(self.stdin)
            for fd in (1, 2):
                del ours[0]
                output, _ = await self._loop.connect_read_pipe(partial(_Output, fd, self._listener), ours[0])
                self._transports.append(output)
            del ours[0]
        except BaseException:
            with suppress(ProcessLookupError):  # it was quicker
                os.killpg(self.pid, signal.SIGKILL)
            self.close()
            raise

    # --- its end ------------------------------------------------------------------------------------------------------

    def _await_end(self) -> None:
        try:
            fd = _descriptor_of(self.pid)
        except OSError:  # an old kernel, or one that may not be asked for it
            try:
                threading.Thread(target=self._wait_aside, name=f"end of {self.pid}", daemon=True).start()
            except RuntimeError:  # there may be no more of them
                self._look()
        else:
            self._loop.add_reader(fd, self._readable, fd)

    def _readable(self, fd: int) -> None:
        self._loop.remove_reader(fd)
        os.close(fd)
        self._look()

    def _look(self) -> None:
        """Whether it can be reaped: a debugger that has attached itself to it keeps it for itself at first."""
        code = _reaped(self.pid, os.WNOHANG)
        if code is None:
            self._loop.call_later(_LOOK_EVERY, self._look)
        else:
            self._over(code)

    def _wait_aside(self) -> None:
        code = _reaped(self.pid)
        assert code is not None
        self._loop.call_soon_threadsafe(self._over, code)

    def _over(self, code: int) -> None:
        self.code = code
        self._listener.process_exited()


def _pair(ours: list[socket.socket], theirs: ExitStack) -> int:
    """A connection to what will be one of its standard descriptors: its end, which `theirs` closes."""
    kept, end = socket.socketpair()
    ours.append(kept)
    theirs.callback(end.close)
    # Above the standard ones, which the router may lack itself: none is overwritten on the way.
    above = fcntl.fcntl(end, fcntl.F_DUPFD_CLOEXEC, 3)
    theirs.callback(os.close, above)
    return above


def _has_terminal() -> bool:
    """Whether there is a terminal to our session."""
    try:
        os.close(os.open("/dev/tty", os.O_RDWR | os.O_NOCTTY))
    except OSError:
        return False
    return True


def _descriptor_of(pid: int) -> int:
    """A descriptor that can be read once the process has ended. Raises `OSError` where the system has none."""
    if sys.platform == "linux":
        return os.pidfd_open(pid)
    raise OSError("no descriptors of processes")


def _reaped(pid: int, options: int = 0) -> int | None:
    """Its exit code; None: it cannot be reaped yet."""
    try:
        done, status = os.waitpid(pid, options)
    except ChildProcessError:
        return _NOBODY_KNOWS
    return os.waitstatus_to_exitcode(status) if done else None
