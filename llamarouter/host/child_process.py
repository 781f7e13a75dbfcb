"""One llama-server as a process: started so that nothing is left of it, heard without ever being held up.

    the router -+- stdin, held open: the exit line, and its end when the router is gone
                |- stdout: state lines, queued for the life that reads them
                `- stderr: the log, straight into the ring
No program that it runs gets rights that it has not (`--no-new-privs`: sudo, setuid, file capabilities).
A group of its own, so that one signal reaches what it forks (why not a session: `spawned`). On Linux
`setpriv --pdeathsig KILL` makes the kernel kill it when the router's main thread dies, also while it loads or is
stopped (hence: spawn from the main thread).
Without setpriv a shell per child waits for the end of the router and does the same.
Everything here happens in callbacks and plain functions; what waits stands in `process`.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import os
import shutil
import signal
import subprocess
import sys
from collections import deque
from collections.abc import Mapping

from llamarouter.core.child_protocol import EXIT_LINE, StateLine, StateLines
from llamarouter.host.child_log import LogRing
from llamarouter.host.spawned import Spawned

_OOM_SCORE = b"500"  # when the machine runs out of memory, a child goes before the router


# The router may die before the kernel knows the wish: then this shell has another parent, and nothing is started.
_STILL_THERE = ("/bin/sh", "-c", '[ "$PPID" = "$0" ] && exec "$@"')
# Waits for the end of its stdin, which is the end of the router, and kills the group that it is told.
_GUARD = ("/bin/sh", "-c", 'read _; kill -s KILL -- "-$0"')


class SpawnError(Exception):
    """The process could not be started. One line, for people."""


class _Guard(asyncio.SubprocessProtocol):
    """The shell that outlives the router for an instant."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport

    def process_exited(self) -> None:
        self._transport.close()  # not earlier: a closed transport does not reap


class ChildProcess:
    """A running child: its pipes, its pid, and what has happened to it so far; `start` it once."""

    def __init__(self, log: LogRing) -> None:
        self.news = asyncio.Event()  # set by a state line and by the exit
        self.exited = asyncio.Event()  # reaped; its pipes may still be open
        self.drained = asyncio.Event()  # both output pipes have ended
        self.lines: deque[StateLine] = deque()
        self.output = 0  # bytes said, on both pipes
        self._log = log
        self._states = StateLines()
        self._open_pipes = {1, 2}
        self._process: Spawned
        self._guard: asyncio.SubprocessTransport | None = None

    async def start(self, argv: tuple[str, ...], env: Mapping[str, str]) -> None:
        """Run `argv`. Raises `OSError`, `ValueError`."""
        self._process = await Spawned.start(argv, env, self)

    # --- called by the loop -----------------------------------------------------------------------------------------

    def pipe_data_received(self, fd: int, data: bytes) -> None:
        self.output += len(data)
        if fd == 2:
            self._log.feed(data)
            return
        for line in self._states.feed(data):
            if isinstance(line, StateLine):
                self.lines.append(line)
                self.news.set()
            else:
                self._log.feed(line + b"\n")

    def pipe_connection_lost(self, fd: int, exc: Exception | None) -> None:
        self._open_pipes.discard(fd)
        if not self._open_pipes:
            self.drained.set()

    def process_exited(self) -> None:
        self.exited.set()
        self.news.set()

    # --- called by its life -----------------------------------------------------------------------------------------

    @property
    def pid(self) -> int:
        """Its process, and the group of its processes."""
        return self._process.pid

    @property
    def code(self) -> int | None:
        """Exit code; None if a signal ended it."""
        code = self._process.code
        return None if code is None or code < 0 else code

    @property
    def signal_name(self) -> str | None:
        """The name of the signal that ended it."""
        code = self._process.code
        if code is None or code >= 0:
            return None
        try:
            return signal.Signals(-code).name
        except ValueError:
            return f"SIG{-code}"  # a real-time signal

    def ask_to_exit(self) -> None:
        """Write the exit line; a child that loads does not hear it."""
        if (stdin := self._stdin()) is not None:
            stdin.write(EXIT_LINE)

    def close_stdin(self) -> None:
        """End its stdin: a child that hears it leaves with code 1."""
        if (stdin := self._stdin()) is not None:
            stdin.close()

    def signal_group(self, number: signal.Signals) -> None:
        """Signal the child and whatever it has forked, as far as that is still in its group."""
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self.pid, number)

    def release(self) -> None:
        """Close our ends of its pipes, whoever holds the others."""
        self._process.close()
        if self._guard is not None:
            # Killed first: it would take the end of its stdin for the end of the router.
            self._guard.kill()

    async def set_guard(self) -> None:
        """Have a shell kill the child's group when the router is gone, as setpriv would have the kernel do."""
        loop = asyncio.get_running_loop()
        with contextlib.suppress(OSError):
            self._guard, _ = await loop.subprocess_exec(
                _Guard,
                *(*_GUARD, str(self.pid)),
                stdin=subprocess.PIPE,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                start_new_session=True,
            )

    def _stdin(self) -> asyncio.WriteTransport | None:
        stdin = self._process.stdin
        return None if stdin.is_closing() else stdin


async def spawn(command: tuple[str, ...], env: Mapping[str, str], log: LogRing) -> ChildProcess:
    """Start `command` (its first word is looked up in the `PATH` of `env`). Raises `SpawnError`.

    Cancelled on the way, it leaves no process: what had been started is killed and reaped first.
    """
    binary = shutil.which(command[0], path=env.get("PATH"))
    if binary is None:
        # setpriv would hide this as an exit with code 127.
        raise SpawnError(f"{os.path.basename(command[0])}: no such program, or not executable")
    loop = asyncio.get_running_loop()
    tie = pdeathsig_of(sys.platform)
    argv = (*tie, *_STILL_THERE, str(os.getpid()), binary, *command[1:]) if tie else (binary, *command[1:])
    starting = loop.create_task(_start(argv, env, log), name=f"spawn {binary}")
    try:
        return await asyncio.shield(starting)
    except asyncio.CancelledError:
        await _undo(starting)
        raise


async def _start(argv: tuple[str, ...], env: Mapping[str, str], log: LogRing) -> ChildProcess:
    child = ChildProcess(log)
    try:
        await child.start(argv, env)
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        raise SpawnError(f"{os.path.basename(argv[0])}: {reason}") from error
    _offer_to_the_kernel(child.pid)
    if not pdeathsig_of(sys.platform):
        await child.set_guard()
    return child


def _offer_to_the_kernel(pid: int) -> None:
    with contextlib.suppress(OSError), open(f"/proc/{pid}/oom_score_adj", "wb", buffering=0) as file:
        file.write(_OOM_SCORE)


async def _undo(starting: asyncio.Task[ChildProcess]) -> None:
    """Kill and reap what was being started, however often somebody cancels meanwhile."""
    while True:
        try:
            child = await asyncio.shield(starting)
            child.signal_group(signal.SIGKILL)
            await child.exited.wait()
            child.release()
            return
        except asyncio.CancelledError:
            continue
        except SpawnError:
            return


async def prepare() -> None:
    """Find out how a child is tied to us, which takes a process: before the first request has to wait for it."""
    await asyncio.to_thread(pdeathsig_of, sys.platform)


@functools.cache
def pdeathsig_of(platform: str, seconds: float = 5.0) -> tuple[str, ...]:
    """The words before a command that tie its life to ours; none where there is no `setpriv` that can do it, within
    so many seconds."""
    tool = shutil.which("setpriv") if platform == "linux" else None
    if tool is None:
        return ()
    guard = (tool, "--no-new-privs", "--pdeathsig", "KILL", "--")
    # That of busybox, and that of util-linux before 2.33, do not know the second option.
    with contextlib.suppress(OSError, subprocess.TimeoutExpired):
        tried = subprocess.run((*guard, tool, "--help"), capture_output=True, check=False, timeout=seconds)
        return guard if tried.returncode == 0 else ()
    return ()
