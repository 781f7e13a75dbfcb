"""A process by posix_spawn: its group, its signals, its pipes, its end, and what is left when something fails."""

from __future__ import annotations

import asyncio
import contextlib
import os
import resource
import signal
import socket
import subprocess
import sys
import textwrap
from functools import partial
from pathlib import Path

import pytest

from llamarouter.host import spawned
from llamarouter.host.spawned import Spawned
from tests.terminal import Terminal

pytestmark = pytest.mark.anyio

SH = "/bin/sh"


class Heard:
    """Listens, and waits for the end."""

    def __init__(self) -> None:
        self.said = {1: b"", 2: b""}
        self.open = {1, 2}
        self.exited = asyncio.Event()
        self.silent = asyncio.Event()

    def pipe_data_received(self, fd: int, data: bytes) -> None:
        self.said[fd] += data

    def pipe_connection_lost(self, fd: int, exc: Exception | None) -> None:
        self.open.discard(fd)
        if not self.open:
            self.silent.set()

    def process_exited(self) -> None:
        self.exited.set()

    async def all(self) -> None:
        async with asyncio.timeout(10):
            await self.exited.wait()
            await self.silent.wait()


async def run(script: str, *words: str, path: str = SH) -> tuple[Spawned, Heard]:
    heard = Heard()
    return await Spawned.start((path, "-c", script, *words), {"PATH": os.environ["PATH"]}, heard), heard


def descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))


async def test_it_hears_and_is_heard_by_its_own_pipes_and_its_exit_code_is_told() -> None:
    process, heard = await run("echo out; read line; echo $line >&2; exit 7")
    process.stdin.write(b"from us\n")
    await heard.all()
    process.close()
    assert (heard.said, process.code) == ({1: b"out\n", 2: b"from us\n"}, 7)


async def test_it_has_a_group_of_its_own_in_our_session(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(spawned, "_has_terminal", bool)
    process, heard = await run("read line")
    assert os.getpgid(process.pid) == process.pid
    assert os.getsid(process.pid) == os.getsid(0)
    os.killpg(process.pid, signal.SIGKILL)
    await heard.all()
    process.close()
    assert process.code == -signal.SIGKILL


async def test_what_is_ignored_or_blocked_here_is_not_so_there() -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGUSR1})
    try:
        # No shell between: it unblocks what it finds blocked.
        heard = Heard()
        process = await Spawned.start(("/bin/grep", "-E", "SigIgn|SigBlk", "/proc/self/status"), {}, heard)
        await heard.all()
        process.close()
    finally:
        signal.signal(signal.SIGHUP, before)
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)
    blocked, ignored = (int(line.split()[1], 16) for line in heard.said[1].splitlines())
    of_the_library = 0b11 << 31  # glibc's own two, of which nobody else can make use
    assert (blocked, ignored & ~of_the_library) == (0, 0)


async def test_nothing_of_ours_is_open_there_but_three_pipes() -> None:
    with socket.socket() as _ours:
        lent = sum(os.get_inheritable(fd) for fd in map(int, os.listdir("/proc/self/fd")) if fd > 2 and _is_open(fd))
        process, heard = await run("ls /proc/self/fd | wc -l")
        await heard.all()
        process.close()
    assert int(heard.said[1]) == 4 + lent  # the fourth is that of ls itself for the folder


def _is_open(fd: int) -> bool:
    try:
        os.fstat(fd)
    except OSError:  # that of the listing itself
        return False
    return True


async def once() -> None:
    """One from its start to its end. The first in a loop leaves a descriptor of the loop's own."""
    process, heard = await run("true")
    await heard.all()
    process.close()
    await asyncio.sleep(0)  # noqa: TID251 (a transport closes in the next turn)


async def test_no_descriptor_is_left_when_it_is_over() -> None:
    await once()
    before = descriptors()
    for _ in range(5):
        await once()
    assert descriptors() == before


async def test_each_of_its_descriptors_is_closed_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """uvloop closes the descriptor of a file by itself and then the file, whose number may be another's by then.

    That takes a thread which opens something in that very microsecond, so what is looked at is what keeps it from
    happening: uvloop detaches sockets before it closes their descriptors.
    """
    loop = asyncio.get_running_loop()
    given: list[object] = []

    class Loop:
        """This one, noting what it is given."""

        def __getattr__(self, name: str) -> object:
            return partial(self.connect, name) if name.startswith("connect_") else getattr(loop, name)

        async def connect(self, name: str, factory: object, file: object) -> object:
            given.append(file)
            return await getattr(loop, name)(factory, file)

    monkeypatch.setattr(spawned.asyncio, "get_running_loop", Loop)
    process, heard = await run("true")
    await heard.all()
    process.close()
    assert [type(each) for each in given] == [socket.socket] * 3
    assert {each.fileno() for each in given if isinstance(each, socket.socket)} == {-1}


async def test_what_cannot_be_started_is_an_error_and_leaves_nothing(tmp_path: Path) -> None:
    (tmp_path / "no-program").write_text("", encoding="utf-8")
    before = descriptors()
    for path, kind in ((str(tmp_path / "absent"), FileNotFoundError), (str(tmp_path / "no-program"), PermissionError)):
        with pytest.raises(kind):
            await run("true", path=path)
    with pytest.raises(ValueError, match="null"):
        await run("echo \0")
    assert descriptors() == before


@pytest.mark.parametrize("pipe", ["connect_write_pipe", "connect_read_pipe"])
async def test_one_that_cannot_be_listened_to_is_killed_and_leaves_nothing(
    pipe: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    await once()
    loop = asyncio.get_running_loop()
    started: list[Spawned] = []
    true_end = Spawned._await_end

    def noted(process: Spawned) -> None:
        started.append(process)
        true_end(process)

    async def refuse(*_arguments: object) -> None:
        raise OSError("no more of them")

    class Loop:
        """This one, without that kind of pipe."""

        def __getattr__(self, name: str) -> object:
            return refuse if name == pipe else getattr(loop, name)

    monkeypatch.setattr(Spawned, "_await_end", noted)
    monkeypatch.setattr(spawned.asyncio, "get_running_loop", Loop)
    before = descriptors()
    heard = Heard()
    with pytest.raises(OSError, match="no more of them"):
        await Spawned.start((SH, "-c", "read line"), {}, heard)
    async with asyncio.timeout(10):
        await heard.exited.wait()
    assert started[0].code == -signal.SIGKILL
    await asyncio.sleep(0.01)  # noqa: TID251 (transports close in later turns)
    assert descriptors() == before


@pytest.mark.parametrize("room", range(9))
async def test_without_room_for_its_descriptors_nothing_is_left(room: int) -> None:
    await once()
    before, limits = descriptors(), resource.getrlimit(resource.RLIMIT_NOFILE)
    taken: list[int] = []
    resource.setrlimit(resource.RLIMIT_NOFILE, (before + 100, limits[1]))
    try:
        with contextlib.suppress(OSError):
            while True:
                taken.append(os.dup(0))
        for _ in range(room):
            os.close(taken.pop())
        with pytest.raises(OSError, match="Too many open files"):
            await run("true")
    finally:
        for fd in taken:
            os.close(fd)
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)
    assert descriptors() == before


async def test_its_end_is_heard_where_there_is_no_thread_to_wait_for_it_either(monkeypatch: pytest.MonkeyPatch) -> None:
    def no_descriptor(pid: int) -> int:
        raise OSError("Too many open files")

    class NoThread:
        def __init__(self, **_arguments: object) -> None: ...

        def start(self) -> None:
            raise RuntimeError("can't start new thread")

    monkeypatch.setattr(spawned, "_descriptor_of", no_descriptor)
    monkeypatch.setattr(spawned.threading, "Thread", NoThread)
    process, heard = await run("read line; exit 3")
    process.stdin.write(b"now\n")
    await heard.all()
    process.close()
    assert process.code == 3


async def test_the_loop_does_not_wait_for_one_that_a_debugger_keeps(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[int] = []
    true_wait = os.waitpid

    def wait(pid: int, options: int) -> tuple[int, int]:
        assert options == os.WNOHANG
        asked.append(pid)
        return (0, 0) if len(asked) < 3 else true_wait(pid, options)

    monkeypatch.setattr(spawned.os, "waitpid", wait)
    process, heard = await run("exit 3")
    await heard.all()
    process.close()
    assert (process.code, asked) == (3, [process.pid] * 3)


async def test_one_that_is_over_before_its_pipes_fail_is_the_same_error(monkeypatch: pytest.MonkeyPatch) -> None:
    loop = asyncio.get_running_loop()
    heard = Heard()

    async def refuse(*_arguments: object) -> None:
        await heard.exited.wait()
        raise OSError("no more of them")

    class Loop:
        connect_read_pipe = staticmethod(refuse)

        def __getattr__(self, name: str) -> object:
            return getattr(loop, name)

    await once()
    monkeypatch.setattr(spawned.asyncio, "get_running_loop", Loop)
    before = descriptors()
    with pytest.raises(OSError, match="no more of them"):
        await Spawned.start((SH, "-c", "true"), {}, heard)
    await asyncio.sleep(0.01)  # noqa: TID251 (transports close in later turns)
    assert descriptors() == before


async def test_its_end_is_heard_where_the_kernel_has_no_descriptors_of_processes(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def refuse(pid: int) -> int:
        raise OSError("Function not implemented")

    monkeypatch.setattr(spawned, "_descriptor_of", refuse)
    process, heard = await run("exit 3")
    await heard.all()
    process.close()
    assert process.code == 3


async def test_one_that_somebody_else_has_reaped_is_over_too() -> None:
    process, heard = await run("read line; exit 3")
    process.stdin.write(b"now\n")
    os.waitpid(process.pid, 0)  # noqa: ASYNC222 (the loop must not be quicker)
    await heard.all()
    process.close()
    assert process.code == 255


def test_one_that_is_started_in_a_terminal_does_not_get_at_it() -> None:
    script = """
        import asyncio
        from tests.test_spawned import run

        async def main() -> None:
            process, heard = await run("(: <>/dev/tty) && echo has || echo none")
            await heard.all()
            print("it says", heard.said[1].split())

        asyncio.run(main())
    """
    terminal = Terminal(program=("-c", textwrap.dedent(script)))
    assert "it says [b'none']" in terminal.end()


def test_a_router_without_standard_descriptors_still_has_pipes_to_its_children(tmp_path: Path) -> None:
    script = f"""
        import asyncio, os
        from tests.test_spawned import run

        async def main() -> None:
            os.closerange(0, 3)
            process, heard = await run("read line; echo out $line; echo err >&2")
            process.stdin.write(b"in\\n")
            await heard.all()
            open({str(tmp_path / "said")!r}, "w").write(repr(heard.said))

        asyncio.run(main())
    """
    subprocess.run([sys.executable, "-c", textwrap.dedent(script)], check=True, timeout=60)
    assert (tmp_path / "said").read_text(encoding="utf-8") == "{1: b'out in\\n', 2: b'err\\n'}"
