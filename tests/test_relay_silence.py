"""The time-out of answers: silence is broken off at every door, and what moves is left alone, however long it takes."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import pytest

from llamarouter.relay.silence import cutting_silent
from tests.relay_rig import WAYS, fake_child, relay
from tests.waiting import until

pytestmark = [pytest.mark.anyio, pytest.mark.parametrize("way", WAYS)]


@pytest.fixture(scope="module")
def child() -> Iterator[str]:
    with fake_child() as path:
        yield path


async def test_a_silent_answer_is_broken_off_with_its_reason(way: str, child: str) -> None:
    async with relay(way, child) as rig:
        with cutting_silent(rig.traffic, 0.2):
            answer = await (await rig.client()).ask(body={"fake": {"wedge": True}})
            assert answer.status == 504
            error = answer.json()["error"]
            assert error["reason"] == "upstream_timeout"
            assert error["message"] == "nothing has come from the model for 0.2 s (--timeout)"
            await until(lambda: rig.board.held == 0)


async def test_a_stream_that_stops_ends_in_an_error_event(way: str, child: str) -> None:
    async with relay(way, child) as rig:
        with cutting_silent(rig.traffic, 0.2):
            body = {"stream": True, "fake": {"tokens": 3, "delay": 60, "text": "x"}}
            answer = await (await rig.client()).ask(body=body)
            assert not answer.whole
            assert b"upstream_timeout" in answer.events()[-1]


async def test_what_moves_may_take_as_long_as_it_likes(way: str, child: str) -> None:
    async with relay(way, child) as rig:
        with cutting_silent(rig.traffic, 0.3):
            start = asyncio.get_running_loop().time()
            body = {"stream": True, "fake": {"tokens": 12, "delay": 0.08}}
            answer = await (await rig.client()).ask(body=body)
            assert answer.whole
            assert asyncio.get_running_loop().time() - start > 0.9


async def test_nothing_is_looked_at_any_more_behind_the_block(way: str, child: str) -> None:
    async with relay(way, child) as rig:
        with cutting_silent(rig.traffic, 0.05):
            pass
        answer = await (await rig.client()).ask(body={"fake": {"first_delay": 0.3}})
        assert answer.status == 200
