"""The feed: every reader hears everything from its start on; one that does not read is dropped."""

from __future__ import annotations

import asyncio
import json

import pytest

from llamarouter.server.feed import HISTORY, Feed, Record, Wish

pytestmark = pytest.mark.anyio


async def hear(feed: Feed, wish: Wish, count: int, *snapshot: Record) -> list[bytes]:
    """The first records that a reader gets."""
    reader = feed.read(wish, lambda: snapshot)
    async with asyncio.timeout(5):
        heard = [await anext(reader) for _ in range(count)]
    await reader.aclose()  # type: ignore[attr-defined]
    return heard


def told(line: bytes) -> object:
    return json.loads(line.partition(b"data: ")[2])


def id_of(line: bytes) -> str:
    assert line.startswith(b"id: ")
    return line.partition(b"\n")[0].removeprefix(b"id: ").decode()


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


async def test_who_comes_back_with_an_id_is_told_all_that_it_missed() -> None:
    feed = Feed()
    for number in range(5):
        feed.tell("a", "model_status", {"number": number})
    with_ids = Wish(ids=True, after=None)
    reader = feed.read(with_ids)
    first = asyncio.ensure_future(anext(reader))
    await asyncio.wait([first], timeout=0)
    feed.tell("a", "model_status", {"number": 5})
    last = id_of(await first)
    await reader.aclose()  # type: ignore[attr-defined]
    for number in (6, 7, 8):
        feed.tell("a", "model_status", {"number": number})
    heard = await hear(feed, Wish(ids=True, after=last), 3)
    assert [told(line) for line in heard] == [
        {"model": "a", "event": "model_status", "data": {"number": number}} for number in (6, 7, 8)
    ]
    assert len({id_of(line) for line in heard}) == 3
    assert await hear(feed, Wish(ids=True, after=id_of(heard[0]), snapshot=True), 2) == heard[1:]
    without = await hear(feed, Wish(after=last), 1)
    assert without == [heard[0].partition(b"\n")[2]]


@pytest.mark.parametrize(
    "after", ["", "0-3", "nonsense", "-1", "{run}-", "{run}-9999", "{run}-0", "{run}-2", "{run}-²"]
)
async def test_what_is_too_long_ago_is_said_and_the_state_of_things_told(after: str) -> None:
    feed = Feed()
    for number in range(HISTORY + 3):
        feed.tell("a", "model_remove", {"number": number})
    run = id_of((await hear(feed, Wish(ids=True, snapshot=True), 2, Record("b", "x")))[1]).partition("-")[0]
    lost, state, end = await hear(feed, Wish(ids=True, after=after.format(run=run)), 3, Record("b", "status_change"))
    assert told(lost) == {"model": "*", "event": "events_lost", "data": {"reason": "too_long_ago"}}
    assert told(state) == {"model": "b", "event": "status_change"}
    assert told(end) == {"model": "*", "event": "snapshot_complete"}
    assert not lost.startswith(b"id:")
    assert id_of(end) == f"{run}-{HISTORY + 3}"
    assert len(await hear(feed, Wish(after=f"{run}-3"), HISTORY)) == HISTORY


async def test_a_snapshot_comes_first_and_what_happens_meanwhile_behind_it() -> None:
    feed = Feed()
    feed.tell("a", "model_remove")
    reader = feed.read(Wish(snapshot=True), lambda: [Record("a", "one"), Record("b", "two", {"x": 1})])
    heard = [await anext(reader)]
    feed.tell("a", "model_status", {"status": "loading"})
    heard += [await anext(reader) for _ in range(3)]
    assert [told(line) for line in heard] == [
        {"model": "a", "event": "one"},
        {"model": "b", "event": "two", "data": {"x": 1}},
        {"model": "*", "event": "snapshot_complete"},
        {"model": "a", "event": "model_status", "data": {"status": "loading"}},
    ]
    assert all(line.startswith(b"data: ") for line in heard)
    await reader.aclose()  # type: ignore[attr-defined]


async def test_of_progress_only_the_last_is_remembered() -> None:
    feed = Feed()
    start = id_of((await hear(feed, Wish(ids=True, snapshot=True), 2, Record("a", "x")))[1])
    for value in range(3 * HISTORY):
        feed.tell("a", "status_change", {"status": "loading", "progress": {"value": value}})
        feed.tell("b", "download_progress", {"progress": {"url": {"done": value, "total": 1}}})
    feed.tell("a", "status_change", {"status": "loaded"})
    feed.tell("a", "status_change", {"status": "loading", "progress": {"value": 0}})
    heard = [told(line) for line in await hear(feed, Wish(after=start), 4)]
    value = 3 * HISTORY - 1
    assert heard == [
        {"model": "a", "event": "status_change", "data": {"status": "loading", "progress": {"value": value}}},
        {"model": "b", "event": "download_progress", "data": {"progress": {"url": {"done": value, "total": 1}}}},
        {"model": "a", "event": "status_change", "data": {"status": "loaded"}},
        {"model": "a", "event": "status_change", "data": {"status": "loading", "progress": {"value": 0}}},
    ]


async def test_a_slow_reader_is_told_that_it_was_dropped_and_misses_nothing_if_it_comes_back() -> None:
    feed = Feed()
    slow = feed.read(Wish(ids=True))
    first = asyncio.ensure_future(anext(slow))
    await asyncio.wait([first], timeout=0)
    feed.tell("a", "model_status", {"number": 0})
    read = await first
    for number in range(1, HISTORY):
        feed.tell("a", "model_status", {"number": number})
    left = [line async for line in slow]
    assert [told(line) for line in left] == [{"model": "*", "event": "events_lost", "data": {"reason": "slow_reader"}}]
    assert not left[0].startswith(b"id:")
    missed = await hear(feed, Wish(ids=True, after=id_of(read)), HISTORY - 1)
    assert [told(line)["data"]["number"] for line in missed] == list(range(1, HISTORY))  # type: ignore[index]


async def test_a_silent_feed_says_that_it_lives_when_asked_to() -> None:
    feed = Feed()
    reader = feed.read(Wish(ping=0.01))
    assert [await anext(reader) for _ in range(2)] == [b": ping\n\n"] * 2
    feed.tell("a", "model_remove")
    assert told(await anext(reader)) == {"model": "a", "event": "model_remove"}
    assert await anext(reader) == b": ping\n\n"
    feed.end()
    assert [line async for line in reader] == []
