"""The feed: every reader hears everything from its start on; one that does not read is dropped."""

from __future__ import annotations

import asyncio
import json

import pytest

from llamarouter.server.feed import Feed

pytestmark = pytest.mark.anyio


async def collect(feed: Feed, into: list[bytes], started: asyncio.Event) -> None:
    reader = feed.read()
    first = asyncio.ensure_future(anext(reader))
    await asyncio.wait([first], timeout=0)
    started.set()
    try:
        into.append(await first)
    except StopAsyncIteration:
        return
    into.extend([record async for record in reader])


async def test_two_readers_hear_the_same_until_the_end() -> None:
    feed, heard = Feed(), ([], [])  # type: tuple[list[bytes], list[bytes]]
    feed.tell("a", "model_status", {"status": "before anybody listens"})
    async with asyncio.TaskGroup() as group:
        for into in heard:
            started = asyncio.Event()
            group.create_task(collect(feed, into, started))
            await started.wait()
        feed.tell("a", "model_status", {"status": "loading"})
        feed.tell("*", "models_reload")
        feed.end()
    records = [json.loads(line.removeprefix(b"data: ")) for line in heard[0]]
    assert records == [
        {"model": "a", "event": "model_status", "data": {"status": "loading"}},
        {"model": "*", "event": "models_reload"},
    ]
    assert heard[0] == heard[1]
    assert all(line.endswith(b"\n\n") for line in heard[0])


async def test_a_reader_that_does_not_read_is_dropped_and_the_others_go_on() -> None:
    feed = Feed()
    slow = feed.read()
    first = asyncio.ensure_future(anext(slow))
    await asyncio.wait([first], timeout=0)
    for number in range(2000):
        feed.tell("a", "model_status", {"number": number})
    await first
    left = [record async for record in slow]
    assert len(left) < 1100
    late = asyncio.ensure_future(anext(feed.read()))
    await asyncio.wait([late], timeout=0)
    feed.tell("b", "model_remove")
    assert b'"b"' in await late


async def test_after_the_end_there_is_nothing_to_read() -> None:
    feed = Feed()
    feed.end()
    assert [record async for record in feed.read()] == []
