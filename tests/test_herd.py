"""A thousand requests at once for a model that is not loaded: one process, a thousand answers, nobody else held up."""

from __future__ import annotations

import asyncio
import errno
import os
import resource
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.node_kit import add_model, engine_with, house
from tests.relay_rig import Client, post, read_answer
from tests.waiting import until

pytestmark = pytest.mark.anyio

HERD = 1000


@contextmanager
def many_files() -> Iterator[None]:
    """Both ends of a thousand connections are in this process."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def gated(engine: Path, gate: Path) -> Path:
    """An engine whose children begin when somebody has opened the FIFO for writing; it says what it can do at once."""
    path = engine.with_name("gated-llama-server")
    path.write_text(f'#!/bin/sh\ncase "$*" in *--alias*) read -r _ < {gate} ;; esac\nexec {engine} "$@"\n')
    path.chmod(0o755)
    return path


def opened(gate: Path) -> bool:
    """Let through whoever waits at the gate, if somebody does. Without O_NONBLOCK nothing would end the wait."""
    try:
        os.close(os.open(gate, os.O_WRONLY | os.O_NONBLOCK))
    except OSError as error:
        if error.errno != errno.ENXIO:
            raise
        return False
    return True


async def status_of(client: Client, model: str) -> int:
    client.send(post("/tokenize", {"model": model, "content": "x"}))
    return (await read_answer(client.reader)).status


async def test_a_herd_for_a_cold_model_is_one_spawn_and_holds_up_nobody(tmp_path: Path) -> None:
    for name in ("cold", "warm"):
        add_model(tmp_path / "models", name)
    spawned = tmp_path / "spawned"
    gate = tmp_path / "gate"
    os.mkfifo(gate)
    engine = gated(engine_with(tmp_path, "--fake-spawn-log", str(spawned)), gate)
    preset = f"[cold]\nmodel = {tmp_path}/models/cold.gguf\nlr-engine = {engine}\n"
    with many_files():
        async with house(tmp_path, preset=preset) as home, asyncio.TaskGroup() as group:
            other = await home.knock()
            assert await status_of(other, "warm") == 200
            herd = [group.create_task(status_of(await home.knock(), "cold")) for _ in range(HERD)]
            scheduler = home.node.supervisor.scheduler
            await until(lambda: scheduler.waiting("cold") == HERD, 30)
            # Nothing goes on with the cold one: its process waits at the gate.
            assert [await status_of(other, "warm") for _ in range(50)] == [200] * 50
            assert scheduler.waiting("cold") == HERD
            pid = home.node.supervisor.children["cold"].pid
            await until(lambda: opened(gate), 10)
            assert {await answer for answer in herd} == {200}
            assert spawned.read_text().split() == [str(pid), "cold"]
