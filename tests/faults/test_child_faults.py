"""What goes wrong with a child, one test a fault: real processes, and a bound on each end."""

from __future__ import annotations

import asyncio
import os
import signal
from pathlib import Path

import pytest

from llamarouter.core.causes import Cause
from llamarouter.host import probe
from llamarouter.host.process import ReadyChild
from tests.child_kit import Life, exists, fake_spec, is_alive, living
from tests.waiting import until

pytestmark = pytest.mark.anyio


def now() -> float:
    return asyncio.get_running_loop().time()


def descendants_in(group: int) -> list[int]:
    """Living processes of a group."""
    found = []
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit() and is_alive(int(folder.name)):
            try:
                if os.getpgid(int(folder.name)) == group:
                    found.append(int(folder.name))
            except ProcessLookupError:
                continue
    return found


# --- before it is ready -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("code", [0, 1, 2, 255])
async def test_an_exit_before_ready_is_a_failure_with_its_last_words(code: int) -> None:
    words = "last-words=gguf_init_from_reader: invalid magic characters: 'root'"
    async with living(fake_spec(f"exit-loading={code}", words)) as life:
        end = await life.task
        assert (end.cause, end.code, end.deterministic) == (Cause.BAD_FILE, code, True)
        assert end.message.endswith("invalid magic characters: 'root'")
        assert life.watcher.ready_child is None


@pytest.mark.parametrize("name", ["SEGV", "ABRT", "ILL", "BUS"])
async def test_a_signal_before_ready_keeps_its_name(name: str) -> None:
    async with living(fake_spec(f"signal-loading={name}")) as life:
        end = await life.task
        assert (end.cause, end.signal, end.code) == (Cause.SIGNAL, f"SIG{name}", None)
        assert "while loading" in end.message


async def test_death_of_memory_is_told_apart() -> None:
    async with living(fake_spec("oom-loading=1")) as life:
        end = await life.task
        assert (end.cause, end.memory, end.deterministic) == (Cause.DEVICE_MEMORY, True, False)


async def test_two_on_one_virtual_gpu(tmp_path: Path) -> None:
    gpu = (f"vram-file={tmp_path / 'gpu'}", "vram-total=1000", "vram-bytes=600")
    async with living(fake_spec(*gpu)) as first:
        await first.ready()
        async with living(fake_spec(*gpu)) as second:
            assert (await second.task).memory
        await first.stop()
        async with living(fake_spec(*gpu)) as third:
            await third.ready()


async def test_killed_while_loading_may_be_memory() -> None:
    async with living(fake_spec("load-seconds=30")) as life:
        await until(lambda: life.watcher.steps)
        os.kill(life.watcher.pid, signal.SIGKILL)
        end = await life.task
        assert (end.cause, end.signal, end.memory) == (Cause.KILLED, "SIGKILL", True)


@pytest.mark.parametrize("how", ["1", "stop"])
async def test_a_load_without_progress_is_killed(how: str) -> None:
    async with living(fake_spec(f"stall-loading={how}", load_stall=0.5)) as life:
        begun = now()
        end = await life.task
        assert (end.cause, end.signal) == (Cause.STALLED_LOADING, "SIGKILL")
        assert end.message.startswith("the load made no progress for ")
        assert now() - begun < 3
        assert not is_alive(life.watcher.pid)


async def test_a_slow_load_that_moves_is_left_alone() -> None:
    async with living(fake_spec("load-seconds=1.5", "progress-steps=15", load_stall=0.5)) as life:
        await life.ready()


async def test_a_load_that_computes_in_silence_is_left_alone() -> None:
    async with living(fake_spec("stall-loading=busy", load_stall=0.3)) as life:
        await asyncio.wait({life.task}, timeout=1.2)
        assert not life.task.done()


async def test_it_refuses_the_socket() -> None:
    async with living(fake_spec("no-sock=1")) as life:
        end = await life.task
        assert end.cause is Cause.SOCKET
        assert "couldn't bind" in end.message


async def test_a_port_that_is_taken_is_tried_again() -> None:
    async with living(fake_spec("no-tcp=1", unix_socket=False)) as life:
        end = await life.task
        assert end.cause is Cause.SOCKET
        assert life.watcher.spawns == 3


# --- ready ------------------------------------------------------------------------------------------------------------


async def test_crash_after_tokens_ends_the_life() -> None:
    async with living(fake_spec("crash-after-tokens=3")) as life:
        child = await life.ready()
        assert isinstance(child.address, str)
        reader, writer = await asyncio.open_unix_connection(child.address)
        writer.write(b'POST /completion HTTP/1.1\r\nContent-Length: 15\r\n\r\n{"stream":true}')
        end = await life.task
        assert end.signal == "SIGSEGV"
        assert (await reader.read()).count(b"data:") == 3
        writer.close()


async def test_a_grandchild_that_holds_the_pipes_delays_nothing_and_dies_too() -> None:
    async with living(fake_spec("grandchild=1")) as life:
        await life.ready()
        group = life.watcher.pid
        assert len(descendants_in(group)) == 2
        begun = now()
        os.kill(group, signal.SIGKILL)
        await life.task
        assert now() - begun < 0.5
        await until(lambda: not descendants_in(group))


async def test_a_grandchild_in_a_session_of_its_own_delays_nothing() -> None:
    async with living(fake_spec("grandchild=setsid")) as life:
        await life.ready()
        begun = now()
        os.kill(life.watcher.pid, signal.SIGKILL)
        await life.task
        assert now() - begun < 0.5


async def test_stopped_with_work_it_is_probed_then_killed() -> None:
    async with living(fake_spec(busy_stall=0.4)) as life:
        await life.ready()
        os.kill(life.watcher.pid, signal.SIGSTOP)
        life.watcher.begin_silence()
        begun = now()
        end = await life.task
        assert (end.cause, end.signal) == (Cause.STALLED_BUSY, "SIGKILL")
        assert "does not answer" in end.message
        assert 0.4 <= now() - begun < 4
        assert not is_alive(life.watcher.pid)


async def asleep(life: Life) -> ReadyChild:
    """The child, once it sleeps and a request is inside that wakes it."""
    child = await life.ready()
    await until(lambda: life.watcher.states == ["sleeping"])
    life.watcher.begin_silence()
    return child


async def test_waking_may_take_as_long_as_a_load_with_requests_inside() -> None:
    async with living(fake_spec("sleep-after=0", "wake-seconds=1.5", busy_stall=0.2)) as life:
        child = await asleep(life)
        await probe.ask("POST", child.address, "/completion", seconds=10, body=b"{}")
        await until(lambda: life.watcher.states == ["sleeping", "ready"])
        life.watcher.inside = 0
        assert life.watcher.spawns == 1
        assert not life.task.done()


async def test_a_wake_that_stalls_is_killed_as_a_load_that_stalls() -> None:
    async with living(fake_spec("sleep-after=0", "stall-waking=1", load_stall=0.4)) as life:
        child = await asleep(life)
        with pytest.raises(probe.ProbeError):
            await probe.ask("POST", child.address, "/completion", seconds=10, body=b"{}")
        end = await life.task
        assert end.cause is Cause.STALLED_BUSY
        assert "the load made no progress" in end.message


async def test_stopped_without_work_it_is_left_alone() -> None:
    async with living(fake_spec(busy_stall=0.1)) as life:
        await life.ready()
        os.kill(life.watcher.pid, signal.SIGSTOP)
        await asyncio.wait({life.task}, timeout=0.8)
        assert not life.task.done()


async def test_health_alone_is_no_proof_of_life() -> None:
    async with living(fake_spec("wedge=1", busy_stall=0.4)) as life:
        child = await life.ready()
        assert (await probe.get(child.address, "/health", seconds=1)).status == 200
        life.watcher.begin_silence()
        end = await life.task
        assert end.cause is Cause.STALLED_BUSY
        assert "computes nothing" in end.message


async def test_a_child_that_answers_nothing_while_bytes_flow_is_left_alone() -> None:
    async with living(fake_spec("wedge=hard", "no-props=hang", busy_stall=0.2)) as life:
        await asyncio.wait({asyncio.ensure_future(life.watcher.is_ready.wait())}, timeout=5)
        assert life.watcher.is_ready.is_set()
        life.watcher.inside = 3
        await asyncio.wait({life.task}, timeout=1.0)
        assert not life.task.done()


async def test_a_child_whose_socket_was_cleaned_away_is_ended_when_idle() -> None:
    async with living(fake_spec(busy_stall=0.4)) as life:
        child = await life.ready()
        life.watcher.inside = 1
        os.unlink(str(child.address))
        await asyncio.wait({life.task}, timeout=0.3)
        assert not life.task.done()
        life.watcher.inside = 0
        assert "its socket was removed" in (await life.task).message


async def test_a_props_that_hangs_costs_two_seconds() -> None:
    async with living(fake_spec("no-props=hang")) as life:
        begun = now()
        assert (await life.ready()).slots == 2
        assert now() - begun < 4


# --- the end ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("faults", "at_least", "at_most"),
    [
        (["ignore-exit=1"], 1.0, 1.8),
        (["exit-seconds=0.5"], 0.5, 1.3),
        (["ignore-exit=1", "ignore-eof=1", "ignore-term=1"], 1.3, 2.1),
        (["exit-seconds=30", "ignore-term=1", "ignore-eof=1"], 1.3, 2.1),
    ],
    ids=lambda value: "+".join(value) if isinstance(value, list) else "",
)
async def test_a_stop_ends_by_the_stop_timeout(faults: list[str], at_least: float, at_most: float) -> None:
    async with living(fake_spec(*faults, stop_timeout=1.3)) as life:
        child = await life.ready()
        begun = now()
        await life.stop()
        assert at_least <= now() - begun < at_most
        assert life.task.cancelled()
        assert not is_alive(life.watcher.pid)
        assert not exists(child.address)


async def test_an_exit_line_that_is_lost_is_followed_by_sigterm() -> None:
    async with living(fake_spec("lose-exit=1", stop_timeout=10.0)) as life:
        await life.ready()
        begun = now()
        await life.stop()
        assert 1.0 <= now() - begun < 3


async def test_a_load_that_ignores_sigterm_is_killed_soon() -> None:
    async with living(fake_spec("load-seconds=30", "ignore-term=1", stop_timeout=0.5)) as life:
        await until(lambda: life.watcher.steps)
        begun = now()
        await life.stop()
        assert 0.5 <= now() - begun < 1.3
        assert not is_alive(life.watcher.pid)


async def test_a_second_cancel_kills_and_still_reaps() -> None:
    async with living(fake_spec("ignore-exit=1", "ignore-eof=1", "ignore-term=1", stop_timeout=30.0)) as life:
        await life.ready()
        life.task.cancel()
        await until(lambda: life.watcher.cuts)
        begun = now()
        for _ in range(5):
            life.task.cancel()
            await asyncio.wait({life.task}, timeout=0.001)
        await asyncio.wait({life.task}, timeout=5)
        assert life.task.cancelled()
        assert now() - begun < 0.8
        assert not is_alive(life.watcher.pid)


async def test_a_stopped_child_can_be_stopped() -> None:
    async with living(fake_spec(stop_timeout=1.1)) as life:
        await life.ready()
        os.kill(life.watcher.pid, signal.SIGSTOP)
        begun = now()
        await life.stop()
        assert now() - begun < 2
        assert not is_alive(life.watcher.pid)


async def test_an_observer_that_fails_leaves_no_child() -> None:
    async with living(fake_spec()) as life:

        def fail(ready: object) -> None:
            raise RuntimeError("a bug of ours")

        life.watcher.ready = fail  # type: ignore[method-assign,assignment]
        with pytest.raises(RuntimeError, match="a bug of ours"):
            await life.task
        assert not is_alive(life.watcher.pid)


async def test_connections_that_cannot_be_cut_leave_no_child() -> None:
    async with living(fake_spec()) as life:
        await life.ready()

        def fail() -> None:
            raise RuntimeError("a bug of ours")

        life.watcher.close_connections = fail  # type: ignore[method-assign]
        await life.stop()
        assert isinstance(life.task.exception(), RuntimeError)
        assert not is_alive(life.watcher.pid)


# --- its log ----------------------------------------------------------------------------------------------------------


async def test_a_flood_without_a_newline_stalls_neither_child_nor_loop() -> None:
    async with living(fake_spec(f"flood={60_000_000}")) as life:
        await life.ready()
        longest, last = 0.0, now()
        while life.log.total < 60_000_000:
            await asyncio.wait({life.task}, timeout=0.001)
            longest, last = max(longest, now() - last), now()
        assert longest < 0.25
        assert sum(map(len, life.log.lines())) < 300_000
        assert life.log.dropped > 50_000_000
        await life.stop()


async def test_descriptors_do_not_leak() -> None:
    def count() -> int:
        return len(os.listdir("/proc/self/fd"))

    async with living(fake_spec()) as life:
        await life.ready()
        await life.stop()
    before = count()
    for _ in range(3):
        async with living(fake_spec("grandchild=setsid")) as life:
            await life.ready()
            await life.stop()
    assert count() <= before
