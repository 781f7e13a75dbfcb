"""A child's life against the fake llama-server: from spawn to reap."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import msgspec.structs
import pytest

from llamarouter.core.causes import Cause
from llamarouter.core.child_protocol import LoadProgress
from llamarouter.host import probe
from llamarouter.host.child_process import pdeathsig_of
from tests.child_kit import Life, children, exists, fake_spec, is_alive, living, proc
from tests.node_kit import house
from tests.waiting import until

pytestmark = pytest.mark.anyio


async def test_a_child_becomes_ready_with_its_figures() -> None:
    async with living(fake_spec("progress-steps=4")) as life:
        child = await life.ready()
        assert (child.slots, child.n_ctx) == (2, 4096)
        assert (child.layers_offloaded, child.layers) == (3, 33)
        assert child.info["id"] == "m"
        assert 0 < child.load_seconds < 5
        assert [step.value for step in life.watcher.steps] == [0.0, 0.25, 0.5, 0.75, 1.0]
        assert life.watcher.steps[0] == LoadProgress(("text_model",), "text_model", 0.0)
        assert isinstance(child.address, str)
        assert child.address.startswith(life.folder.path)
        assert (await probe.get(child.address, "/health", seconds=2)).status == 200
        assert any("model loaded" in line for line in life.log.lines())


async def test_stop_writes_the_exit_line_and_leaves_nothing() -> None:
    async with living(fake_spec()) as life:
        child = await life.ready()
        begun = asyncio.get_running_loop().time()
        await life.stop()
        assert asyncio.get_running_loop().time() - begun < 0.8
        assert life.task.cancelled()
        assert life.watcher.cuts == 1
        assert any("exit command received" in line for line in life.log.lines())
        assert not is_alive(life.watcher.pid)
        assert not exists(child.address)


async def test_a_child_without_state_lines_is_probed() -> None:
    async with living(fake_spec("no-state=1", state_lines=False)) as life:
        child = await life.ready()
        assert child.info == {}
        assert child.slots == 2
        await life.stop()
        assert not is_alive(life.watcher.pid)


async def test_a_missing_ready_line_does_not_block() -> None:
    async with living(fake_spec("no-ready-line=1")) as life:
        child = await life.ready()
        assert child.load_seconds < 3


async def test_a_child_that_answers_before_its_ready_line_is_heard_says_who_it_is() -> None:
    # On a busy machine: the line is on its way while /health is asked already.
    async with living(fake_spec("late-ready-line=1")) as life:
        child = await life.ready()
        assert "meta" in child.info


async def test_tcp_has_a_key_that_is_not_in_argv() -> None:
    async with living(fake_spec("no-sock=1", unix_socket=False)) as life:
        child = await life.ready()
        assert child.api_key is not None
        assert child.api_key.encode() not in proc(life.watcher.pid, "cmdline")
        assert (await probe.get(child.address, "/slots", seconds=2)).status == 401
        assert (await probe.get(child.address, "/slots", api_key=child.api_key, seconds=2)).status == 200


async def test_without_props_the_log_tells_the_slots() -> None:
    async with living(fake_spec("no-props=1")) as life:
        assert (await life.ready()).slots == 2


async def test_a_program_that_is_not_there() -> None:
    spec = msgspec.structs.replace(fake_spec(), command=("/nowhere/llama-server", "--model", "x"))
    async with living(spec) as life:
        end = await life.task
        assert end.cause is Cause.ENGINE
        assert end.deterministic
        assert "llama-server: no such program" in end.message


async def test_a_program_that_is_none(tmp_path: Path) -> None:
    program = tmp_path / "llama-server"
    program.write_bytes(b"\x7fELF nonsense")
    program.chmod(0o755)
    async with living(msgspec.structs.replace(fake_spec(), command=(str(program),))) as life:
        end = await life.task
        assert end.cause is Cause.ENGINE
        assert str(tmp_path) not in end.message


async def test_children_are_offered_to_the_kernel_before_the_router() -> None:
    async with living(fake_spec()) as life:
        await life.ready()
        assert proc(life.watcher.pid, "oom_score_adj") == b"500\n"


async def test_the_environment_is_the_specs_alone() -> None:
    async with living(fake_spec()) as life:
        await life.ready()
        names = {word.partition(b"=")[0] for word in proc(life.watcher.pid, "environ").split(b"\0")}
        # Python sets LC_CTYPE, the shell on the way PWD.
        assert names - {b"", b"LC_CTYPE", b"PWD", b"OLDPWD", b"SHLVL", b"_"} == {b"PATH", b"LLAMA_SERVER_ROUTER_PORT"}


async def test_cancelled_before_it_began() -> None:
    async with living(fake_spec()) as life:
        await life.stop()
        assert life.watcher.spawns == 0


@pytest.mark.parametrize("turns", [1, 2, 3])
async def test_cancelled_while_it_spawns(turns: int, tmp_path: Path) -> None:
    log = tmp_path / "spawns"
    log.touch()
    async with living(fake_spec(f"spawn-log={log}", "load-seconds=30")) as life:
        for _ in range(turns):
            await asyncio.sleep(0)  # noqa: TID251 (one turn of the loop)
        await life.stop()
        assert life.task.cancelled()
        assert not any(is_alive(int(line.split()[0])) for line in log.read_text().splitlines())
        assert not children()


def sockets_of(life: Life) -> list[Path]:
    return list(Path(life.folder.path).glob("c-*.sock"))


async def test_cancelled_while_it_spawns_it_leaves_no_socket_although_it_was_quicker() -> None:
    async with living(fake_spec("load-seconds=30")) as life:
        patience = threading.Event()
        for _ in range(3):
            await asyncio.sleep(0)  # noqa: TID251 (one turn of the loop)
        # The loop is busy elsewhere meanwhile, and has not heard yet that the process is there.
        assert any(sockets_of(life) or patience.wait(0.01) for _ in range(1000))
        assert life.watcher.spawns == 0
        await life.stop()
        assert sockets_of(life) == []


async def test_cancelled_while_it_loads_it_ends_by_sigterm_at_once() -> None:
    async with living(fake_spec("load-seconds=30")) as life:
        await until(lambda: life.watcher.steps)
        begun = asyncio.get_running_loop().time()
        await life.stop()
        assert asyncio.get_running_loop().time() - begun < 0.8
        assert not is_alive(life.watcher.pid)


async def test_states_after_ready_are_told() -> None:
    async with living(fake_spec("sleep-after=0.05")) as life:
        child = await life.ready()
        await until(lambda: life.watcher.states == ["sleeping"])
        life.watcher.steps.clear()
        await probe.ask("POST", child.address, "/completion", seconds=5, body=b"{}")
        await until(lambda: life.watcher.states == ["sleeping", "ready"])
        assert [step.value for step in life.watcher.steps] == [0.0, 1.0]


async def test_a_sleep_right_behind_the_load_is_told_behind_it() -> None:
    async with living(fake_spec("sleep-after=0", "no-props=hang")) as life:
        await life.ready()
        await until(lambda: life.watcher.states == ["sleeping"])


async def test_an_unknown_state_is_a_warning_once(caplog: pytest.LogCaptureFixture) -> None:
    async with living(fake_spec("odd-state=dreaming", "sleep-after=0.05")) as life:
        child = await life.ready()
        await until(lambda: life.watcher.states == ["sleeping"])
        answer = await probe.get(child.address, "/health", seconds=5)
        assert answer.status == 200
        assert [record.getMessage() for record in caplog.records if record.levelname == "WARNING"] == [
            "m: its llama-server says an unknown state: 'dreaming'"
        ]


async def test_an_exit_is_noticed_within_100_ms() -> None:
    async with living(fake_spec()) as life:
        await life.ready()
        begun = asyncio.get_running_loop().time()
        os.kill(life.watcher.pid, signal.SIGSEGV)
        end = await life.task
        assert asyncio.get_running_loop().time() - begun < 0.1
        assert (end.cause, end.signal) == (Cause.SIGNAL, "SIGSEGV")
        assert end.message == "llama-server crashed while serving (SIGSEGV)"


# --- what ties a child to the router ----------------------------------------------------------------------------------


@pytest.fixture
def tools(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder before all others of PATH; nothing is known of `setpriv` yet."""
    folder = tmp_path / "tools"
    folder.mkdir()
    monkeypatch.setenv("PATH", f"{folder}:{os.environ['PATH']}")
    pdeathsig_of.cache_clear()
    yield folder
    pdeathsig_of.cache_clear()


def put(folder: Path, text: str) -> None:
    path = folder / "setpriv"
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)


async def test_no_request_waits_until_it_is_known_how_children_are_tied(tools: Path, tmp_path: Path) -> None:
    put(tools, f'echo "$@" >> {tmp_path}/asked; exec {shutil.which("setpriv", path="/usr/bin:/bin")} "$@"')
    async with house(tmp_path):
        await until(lambda: pdeathsig_of.cache_info().currsize == 1)
    assert pdeathsig_of(sys.platform) == (str(tools / "setpriv"), "--no-new-privs", "--pdeathsig", "KILL", "--")
    assert (tmp_path / "asked").read_text().count("\n") == 2  # it is asked to start itself, once


@pytest.mark.parametrize("text", ["sleep 60", "exit 1", "kill -9 $$"])
def test_a_setpriv_that_cannot_be_used_is_none(text: str, tools: Path) -> None:
    put(tools, f"exec {text}" if text.startswith("sleep") else text)
    assert pdeathsig_of(sys.platform, 0.2 if text.startswith("sleep") else 5.0) == ()
