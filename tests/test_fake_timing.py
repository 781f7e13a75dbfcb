"""The variable that makes everything slow for the test suites of clients, and costs nothing where it is not set."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from llamarouter.core.routes import RELAYED
from llamarouter.relay.switchboard import Ask, Outcome, Wait
from llamarouter.server.reception import Reception
from tests.node_kit import add_model, house
from tests.waiting import until

pytestmark = pytest.mark.anyio

SET = {"LLAMA_SERVER_DEBUG_FAKE_TIMING": "1"}
ASK = Ask("m", next(route for route in RELAYED if route.path == "/tokenize"), 0)
DONE = Outcome(200, complete=True, client_left=False, tail=b"")


async def test_a_load_and_a_request_take_two_seconds_longer(tmp_path: Path) -> None:
    add_model(tmp_path / "models", "m")
    async with house(tmp_path, environ=SET) as home:
        clock = asyncio.get_running_loop().time
        scheduler, children = home.node.supervisor.scheduler, home.node.supervisor.children
        start = clock()
        asking = asyncio.ensure_future(home.node.reception.lease(ASK, Wait()))
        await until(lambda: "m" in children)
        assert children["m"].pid is None
        await until(lambda: children["m"].pid is not None)
        assert 2.0 <= clock() - start < 4.0
        await until(lambda: scheduler.in_flight("m") == 1, 20)
        granted = clock()
        assert not asking.done()
        (await asking).end(DONE)
        assert 1.9 <= clock() - granted < 4.0
        assert home.node.reception.lease_now(ASK) is None
        assert scheduler.in_flight("m") == 0


async def test_who_leaves_meanwhile_is_not_counted_any_more(tmp_path: Path) -> None:
    add_model(tmp_path / "models", "m")
    async with house(tmp_path, environ=SET) as home:
        scheduler = home.node.supervisor.scheduler
        asking = asyncio.ensure_future(home.node.reception.lease(ASK, Wait()))
        await until(lambda: scheduler.in_flight("m") == 1, 20)
        asking.cancel()
        await asyncio.wait([asking])
        assert scheduler.in_flight("m") == 0


async def test_a_load_that_is_stopped_before_its_process_is_there_is_over_at_once(tmp_path: Path) -> None:
    add_model(tmp_path / "models", "m")
    async with house(tmp_path, environ=SET) as home:
        supervisor = home.node.supervisor
        asking = asyncio.ensure_future(home.node.reception.load("m"))
        await until(lambda: "m" in supervisor.children)
        supervisor.unload("m", 0.0)
        await until(lambda: "m" not in supervisor.children, 1.0)
        assert not supervisor.lives.failures
        await asyncio.wait([asking])
        assert asking.exception() is not None


@pytest.mark.parametrize("value", [None, ""])
async def test_without_it_nothing_is_different(tmp_path: Path, value: str | None) -> None:
    async with house(tmp_path, environ={} if value is None else {"LLAMA_SERVER_DEBUG_FAKE_TIMING": value}) as home:
        assert type(home.node.reception) is Reception
