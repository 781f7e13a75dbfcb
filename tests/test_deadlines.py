"""How long a client may take, and how many there may be: by limits that a test can wait for."""

from __future__ import annotations

import asyncio
import contextlib
import time

import pytest

from llamarouter.core.door_limits import DoorLimits
from tests.relay_rig import STREAM_HEAD, Client, Scripted, chunk, post, relay, scripted_child
from tests.waiting import until

pytestmark = pytest.mark.anyio
WAYS = ("fast", "slow")
LONG = 60.0
OTHER = b"GET /other HTTP/1.1\r\nhost: h\r\n\r\n"


def limits(
    header: float = LONG, body: float = LONG, send: float = LONG, idle: float = LONG, most: int = 99
) -> DoorLimits:
    return DoorLimits(
        header_timeout=header, body_timeout=body, send_timeout=send, keepalive_timeout=idle, max_connections=most
    )


async def trickle(client: Client, data: bytes) -> None:
    """Send it byte by byte, one every hundredth of a second, for as long as somebody takes it."""
    with contextlib.suppress(ConnectionError, RuntimeError):
        for at in range(len(data)):
            client.send(data[at : at + 1])
            await client.writer.drain()
            await asyncio.sleep(0.01)  # noqa: TID251 (it is slow)


async def status_of_slow(way: str, begun: bytes, slowly: bytes, allowed: DoorLimits) -> tuple[int, float]:
    """What a client that sends its end byte by byte is answered, and after how many seconds."""
    async with relay(way, "/nowhere", limits=allowed) as rig:
        client = await rig.client()
        client.send(begun)
        before = time.monotonic()
        async with asyncio.TaskGroup() as tasks:
            sending = tasks.create_task(trickle(client, slowly))
            answer = await client.answer()
            seconds = time.monotonic() - before
            sending.cancel()
        await until(lambda: not rig.protocols or rig.protocols[0]._deaf)
        return answer.status, seconds


@pytest.mark.parametrize("way", WAYS)
async def test_a_head_that_trickles_has_its_time_in_all(way: str) -> None:
    begun = b"POST /tokenize HTTP/1.1\r\nhost: h\r\nx-"
    status, seconds = await status_of_slow(way, begun, b"y" * 3000, limits(header=0.3))
    assert (status, 0.25 <= seconds < 3) == (408, True)


@pytest.mark.parametrize("way", WAYS)
async def test_a_body_that_trickles_has_its_time_in_all(way: str) -> None:
    begun = b"POST /tokenize HTTP/1.1\r\nhost: h\r\ncontent-length: 5000\r\n\r\n"
    status, seconds = await status_of_slow(way, begun, b" " * 4000, limits(header=0.1, body=0.3))
    assert (status, 0.3 <= seconds < 3) == (408, True)


@pytest.mark.parametrize("way", WAYS)
async def test_each_mib_of_a_body_has_its_time(way: str) -> None:
    begun = b"POST /tokenize HTTP/1.1\r\nhost: h\r\ncontent-length: 3000000\r\n\r\n" + b" " * (2 << 20)
    status, seconds = await status_of_slow(way, begun, b" " * 4000, limits(header=0.1, body=0.3))
    assert (status, 0.9 <= seconds < 4) == (408, True)


async def test_a_silent_connection_goes_without_a_word_and_one_between_requests_stays_longer() -> None:
    async with relay("fast", "/nowhere", limits=limits(header=0.1, idle=0.6)) as rig:
        silent, used = await rig.client(), await rig.client()
        used.send(OTHER)
        assert (await used.answer()).status == 200
        before = time.monotonic()
        assert await silent.at_end() == b""
        assert await used.at_end() == b""
        assert time.monotonic() - before >= 0.5


async def test_a_connection_between_requests_goes_in_time_although_a_fresh_one_may_stay_longer() -> None:
    async with relay("fast", "/nowhere", limits=limits(header=LONG, idle=0.3)) as rig:
        client = await rig.client()
        for _ in range(2):  # answered by the fast lane: to who was handed over uvicorn looks, too
            assert (await client.ask("/tokenize", {"model": "unknown"})).status == 404
        before = time.monotonic()
        assert await client.at_end() == b""
        assert time.monotonic() - before >= 0.2


async def test_a_request_begun_while_another_is_answered_has_its_time_from_then_on() -> None:
    go_on = asyncio.Event()

    async def handle(child: Scripted) -> None:
        await child.request()
        await go_on.wait()
        await child.say(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok")
        await child.until_gone()

    async with scripted_child(handle) as (path, made), relay("fast", path, limits=limits(header=0.2)) as rig:
        client = await rig.client()
        client.send(post("/tokenize") + OTHER[:20])
        await until(lambda: made)
        await asyncio.sleep(0.4)  # noqa: TID251 (longer than a head may take)
        go_on.set()
        assert (await client.answer()).body == b"ok"
        assert (await client.answer()).status == 408


@pytest.mark.parametrize("way", WAYS)
async def test_who_stops_reading_a_stream_loses_it_and_his_slot_is_free(way: str) -> None:
    async def handle(child: Scripted) -> None:
        await child.request()
        await child.say(STREAM_HEAD)
        while True:
            await child.say(chunk(b"data: " + b"x" * 60_000 + b"\n\n"))

    async with scripted_child(handle) as (path, _), relay(way, path, limits=limits(send=0.3)) as rig:
        client = await rig.client()
        client.writer.transport.pause_reading()  # type: ignore[attr-defined]
        client.send(post("/v1/chat/completions", {"stream": True}))
        await until(lambda: rig.board.held == 1)
        await until(lambda: rig.board.held == 0, seconds=5)
        await until(lambda: rig.protocols[0].parser is None)


async def test_who_does_not_read_the_last_answer_is_not_waited_for() -> None:
    body = b"x" * (8 << 20)

    async def handle(child: Scripted) -> None:
        await child.request()
        await child.say(b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n" % len(body) + body)
        await child.until_gone()

    async with scripted_child(handle) as (path, _), relay("fast", path, limits=limits(send=0.3)) as rig:
        client = await rig.client()
        client.writer.transport.pause_reading()  # type: ignore[attr-defined]
        client.send(post("/tokenize", connection="close"))
        await until(lambda: rig.protocols[0].parser is None, seconds=5)
        assert rig.board.held == 0


async def test_who_reads_slowly_but_reads_is_served() -> None:
    async def handle(child: Scripted) -> None:
        await child.request()
        await child.say(b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n" % (16 << 20) + b"x" * (16 << 20))
        await child.until_gone()

    async with scripted_child(handle) as (path, _), relay("fast", path, limits=limits(send=0.3)) as rig:
        client = await rig.client()
        client.send(post("/tokenize"))
        head = await client.reader.readuntil(b"\r\n\r\n")
        assert b" 200 " in head
        left = 16 << 20
        while left:
            left -= len(await client.reader.readexactly(min(left, 1 << 20)))
            await asyncio.sleep(0.05)  # noqa: TID251 (it is slow: 0.8 s in all)


async def test_more_connections_than_there_may_be_are_told_so_and_there_is_room_again() -> None:
    async with relay("fast", "/nowhere", limits=limits(most=2)) as rig:
        first, second = await rig.client(), await rig.client()
        for client in (first, second):
            client.send(OTHER)
            assert (await client.answer()).status == 200
        third = await rig.client()
        answer = await third.answer()
        assert (answer.status, answer.json()["error"]["reason"]) == (503, "overloaded")
        assert answer.headers["retry-after"] == "5"
        assert await third.at_end() == b""
        third.close()
        first.close()
        await until(lambda: sum(protocol.parser is not None for protocol in rig.protocols) == 1)
        fourth = await rig.client()
        fourth.send(OTHER)
        assert (await fourth.answer()).status == 200


async def test_the_body_of_a_stranger_is_not_waited_for() -> None:
    async with relay("fast", "/nowhere") as rig:
        rig.board.key = b"secret"
        client = await rig.client()
        client.send(b"POST /tokenize HTTP/1.1\r\nhost: h\r\ncontent-length: 500000\r\n\r\n" + b" " * 100)
        answer = await client.answer()
        assert (answer.status, answer.headers["connection"]) == (401, "close")
        assert await client.at_end() == b""
