"""The same life with real engines: the embedded one and, where there is one, the compiled llama-server."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from pathlib import Path

import pytest

from llamarouter.core.causes import Cause
from llamarouter.host import probe
from llamarouter.host.process import ChildSpec
from tests.child_kit import exists, fake_spec, is_alive, living
from tests.tiny_gguf import write_llama

pytestmark = pytest.mark.anyio

COMPILED = (str(Path(__file__).parents[1] / "bin" / "llama-server"),)
EMBEDDED = (sys.executable, "-m", "llamarouter.host.embedded")
ENGINES = pytest.mark.parametrize(
    "engine", [pytest.param(COMPILED, marks=pytest.mark.compiled, id="compiled"), pytest.param(EMBEDDED, id="embedded")]
)


@pytest.fixture(scope="session")
def gguf(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_llama(tmp_path_factory.mktemp("models") / "tiny.gguf")


def spec_of(engine: tuple[str, ...], model: Path, *options: str, **changes: object) -> ChildSpec:
    command = (*engine, "--model", str(model), "-c", "512", "-np", "2", "--offline", *options)
    env = {name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ}
    return fake_spec(command=command, env=env, **changes)


@ENGINES
async def test_from_spawn_to_reap(engine: tuple[str, ...], gguf: Path) -> None:
    async with living(spec_of(engine, gguf)) as life:
        child = await life.ready()
        assert (child.slots, child.n_ctx) == (2, 256)
        assert child.info["object"] == "model"
        assert life.watcher.steps
        assert (await probe.get(child.address, "/slots", seconds=5)).status == 200
        begun = asyncio.get_running_loop().time()
        await life.stop()
        assert asyncio.get_running_loop().time() - begun < 4
        assert life.task.cancelled()
        assert not is_alive(life.watcher.pid)
        assert not exists(child.address)


@ENGINES
async def test_a_file_that_is_no_model(engine: tuple[str, ...], tmp_path: Path) -> None:
    file = tmp_path / "x.gguf"
    file.write_bytes(b"root:x:0:0\n" * 10)
    async with living(spec_of(engine, file)) as life:
        end = await life.task
        assert (end.cause, end.code, end.deterministic) == (Cause.BAD_FILE, 1, True)
        assert "invalid magic" in end.message
        assert str(tmp_path) not in " ".join((end.message, *end.last_words))


@ENGINES
async def test_an_option_that_is_none(engine: tuple[str, ...], gguf: Path) -> None:
    async with living(spec_of(engine, gguf, "--bogus", "1")) as life:
        end = await life.task
        assert (end.cause, end.deterministic) == (Cause.BAD_OPTION, True)
        assert "--bogus" in end.message


@ENGINES
async def test_killed_from_outside(engine: tuple[str, ...], gguf: Path) -> None:
    async with living(spec_of(engine, gguf)) as life:
        await life.ready()
        begun = asyncio.get_running_loop().time()
        os.kill(life.watcher.pid, signal.SIGKILL)
        end = await life.task
        assert asyncio.get_running_loop().time() - begun < 0.3
        assert (end.cause, end.signal) == (Cause.KILLED, "SIGKILL")


@pytest.mark.compiled
@pytest.mark.parametrize("state_lines", [True, False])
async def test_over_loopback_with_a_key(state_lines: bool, gguf: Path) -> None:
    async with living(spec_of(COMPILED, gguf, unix_socket=False, state_lines=state_lines)) as life:
        child = await life.ready()
        assert (await probe.get(child.address, "/slots", seconds=5)).status == 401
        assert (await probe.get(child.address, "/slots", api_key=child.api_key, seconds=5)).status == 200
        await life.stop()
        assert not is_alive(life.watcher.pid)


@pytest.mark.compiled
async def test_stopped_in_the_middle_of_work(gguf: Path) -> None:
    async with living(spec_of(COMPILED, gguf, busy_stall=0.5)) as life:
        await life.ready()
        os.kill(life.watcher.pid, signal.SIGSTOP)
        life.watcher.begin_silence()
        assert (await life.task).cause is Cause.STALLED_BUSY
