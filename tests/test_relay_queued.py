"""A request of the fast lane in the queue: its errors are answers, its connection goes on, its client can leave."""

from __future__ import annotations

import asyncio

import pytest

from llamarouter.core.errors import QueueFull
from tests.relay_rig import Scripted, post, relay, scripted_child, whole
from tests.waiting import until

pytestmark = pytest.mark.anyio

WAY = "queued"


async def answering(child: Scripted) -> None:
    while True:
        await child.request()
        await child.say(whole(b"{}"))


async def test_a_bug_on_the_way_to_the_child_is_an_answer(caplog: pytest.LogCaptureFixture) -> None:
    async with scripted_child(answering) as (path, _), relay(WAY, path) as rig:
        client = await rig.client()
        rig.board.bug = ValueError("a bug")
        refused = await client.ask("/tokenize", {"content": "x"})
        assert (refused.status, refused.json()["error"]["reason"]) == (500, "internal_error")
        assert "a bug" in caplog.text
        rig.board.bug = None
        assert (await client.ask("/tokenize", {"content": "x"})).status == 200


async def test_a_refusal_is_the_answer_and_the_connection_goes_on() -> None:
    async with scripted_child(answering) as (path, _), relay(WAY, path) as rig:
        client = await rig.client()
        rig.board.refusal = QueueFull("full", retry_after=1)
        assert (await client.ask("/tokenize", {"content": "x"})).status == 429
        rig.board.refusal = None
        assert (await client.ask("/tokenize", {"content": "x"})).status == 200


async def test_what_is_behind_one_that_waits_has_its_turn_after_it() -> None:
    async with scripted_child(answering) as (path, _), relay(WAY, path) as rig:
        client = await rig.client()
        rig.board.gate = asyncio.Event()
        client.send(post("/tokenize", {"content": "x"}) + post("/tokenize", {"content": "y"}))
        await until(lambda: rig.board.waiting == 1)
        assert rig.board.asks == []
        rig.board.gate.set()
        assert [(await client.answer()).status for _ in range(2)] == [200, 200]


async def test_who_leaves_takes_along_what_is_behind() -> None:
    async with scripted_child(answering) as (path, made), relay(WAY, path) as rig:
        client = await rig.client()
        rig.board.gate = asyncio.Event()
        client.send(post("/tokenize", {"content": "x"}) + post("/tokenize", {"content": "y"}))
        await until(lambda: rig.board.waiting == 1)
        client.close()
        await until(lambda: rig.board.left == 1)
        rig.board.gate.set()
        assert rig.board.waiting == 0
        assert (rig.board.asks, made) == ([], [])


async def test_it_never_sees_the_application() -> None:
    async with scripted_child(answering) as (path, _), relay(WAY, path) as rig:
        client = await rig.client()
        assert (await client.ask("/tokenize", {"content": "x"})).status == 200
        assert rig.protocols[0].scope is None
