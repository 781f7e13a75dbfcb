"""A child that fails never looks like a success: a reason before the first byte, an error event and an abort after."""

from __future__ import annotations

import asyncio
import json

import pytest

from llamarouter.core.errors import Draining
from tests.relay_rig import STREAM_HEAD, WAYS, Rig, Scripted, chunk, fake_child, post, relay, scripted_child, whole
from tests.waiting import until

pytestmark = [pytest.mark.anyio, pytest.mark.parametrize("way", WAYS)]
DIED = "the model crashed: SIGSEGV"


def at_rest(rig: Rig) -> None:
    assert rig.board.held == rig.traffic.count == rig.board.connections.in_flight == 0
    assert len(rig.board.outcomes) == len(rig.board.asks)


async def test_a_child_that_dies_before_its_answer_is_a_502_with_the_reason(way: str) -> None:
    with fake_child() as path:
        async with relay(way, path) as rig:
            client = await rig.client()
            answer = await client.ask(body={"fake": {"crash": True}})
            assert answer.status == 502
            assert answer.headers["x-should-retry"] == "false"
            assert answer.json()["error"] == {
                "code": 502,
                "message": DIED,
                "type": "server_error",
                "param": None,
                "reason": "model_crashed",
            }
            client = await rig.client()
            assert (await client.ask()).status == 502  # nobody listens any more
            assert [outcome.status for outcome in rig.board.outcomes] == [0, 0]
            at_rest(rig)


@pytest.mark.parametrize(
    ("path", "kind"),
    [
        ("/v1/chat/completions", None),
        ("/completion", None),
        ("/infill", None),
        ("/v1/messages", "error"),
        ("/v1/responses", "error"),
    ],
)
async def test_a_broken_stream_ends_in_an_error_event_of_its_dialect(way: str, path: str, kind: str | None) -> None:
    with fake_child() as address:
        async with relay(way, address) as rig:
            client = await rig.client()
            answer = await client.ask(path, {"stream": True, "fake": {"tokens": 9, "crash_after": 3, "delay": 0.01}})
            assert answer.status == 200
            assert not answer.whole
            *tokens, last = answer.events()
            assert len(tokens) == 3
            assert answer.body.endswith(b"\n\n")
            lines = last.split(b"\n")
            assert lines[0] == (b"event: error" if kind else lines[0])
            payload = json.loads(lines[-1].removeprefix(b"data: "))
            if kind:
                assert payload["type"] == kind
            error = payload if path == "/v1/responses" else payload["error"]
            assert error["message"] == DIED
            assert error["reason"] == "model_crashed"
            assert [(outcome.status, outcome.complete) for outcome in rig.board.outcomes] == [(200, False)]
            at_rest(rig)


@pytest.mark.parametrize(
    "torn",
    [
        chunk(b"data: half"),  # within an event, between chunks
        b"20\r\ndata: half",  # within an event and a chunk
        b"20\r\ndata: whole\n\n",  # within a chunk, between events
        b"2",  # within a chunk's size
    ],
)
async def test_a_torn_tail_is_kept_back(way: str, torn: bytes) -> None:
    async def handle(child: Scripted) -> None:
        await child.request()
        await child.say(STREAM_HEAD + chunk(b"data: 1\n\n") + torn)

    async with scripted_child(handle) as (path, _), relay(way, path) as rig:
        client = await rig.client()
        answer = await client.ask(body={"stream": True})
        assert not answer.whole
        events = answer.events()
        assert events[0] == b"data: 1"
        assert b"half" not in answer.body
        assert json.loads(events[-1].removeprefix(b"data: "))["error"]["message"] == DIED
        at_rest(rig)


@pytest.mark.parametrize("framing", ["early", "early-chunked", "reset"])
async def test_a_body_that_breaks_is_aborted(way: str, framing: str) -> None:
    with fake_child() as address:
        async with relay(way, address) as rig:
            client = await rig.client()
            answer = await client.ask(body={"fake": {"framing": framing}})
            assert answer.status == 200
            assert not answer.whole
            assert b"error" not in answer.body
            assert not rig.board.outcomes[0].complete
            at_rest(rig)


async def test_a_body_without_a_length_is_reset_for_http_1_0(way: str) -> None:
    if way == "asgi":
        return

    async def handle(child: Scripted) -> None:
        await child.request()
        await child.say(STREAM_HEAD + chunk(b"data: 1\n\n"))
        await seen.wait()

    seen = asyncio.Event()
    async with scripted_child(handle) as (path, _), relay(way, path) as rig:
        client = await rig.client()
        client.send(post(body={"stream": True}, version="1.0"))
        await client.reader.readuntil(b"data: 1\n\n")
        seen.set()
        with pytest.raises(ConnectionResetError):
            await client.reader.read()
        at_rest(rig)


@pytest.mark.parametrize(
    "answer",
    [
        b"garbage\r\n\r\n",
        b"HTTP/1.1 2x0 OK\r\nContent-Length: 0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: +1\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nX: a\nSet-Cookie: x\r\n\r\n",
        b"HTTP/1.1 200 OK\r\n folded: 1\r\nContent-Length: 1\r\n\r\n",
        b"HTTP/1.1 200 OK\r\n\r\nuntil the end",
        b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nX: " + b"x" * 70_000,
    ],
)
async def test_an_answer_that_is_none_is_a_502(way: str, answer: bytes) -> None:
    async def handle(child: Scripted) -> None:
        await child.request()
        await child.say(answer)
        await child.until_gone()

    async with scripted_child(handle) as (path, made), relay(way, path) as rig:
        client = await rig.client()
        got = await client.ask()
        assert got.status == 502
        assert got.json()["error"]["reason"] == "model_crashed"
        await until(lambda: made[0].gone.is_set())
        at_rest(rig)


WRONG_CHUNKS = (b"xyz\r\n", b"-1\r\n", b"5\r\nhelloXX", b"5 \r\n", b"1_0\r\n", b"5\nhello", b"f" * 5000)


@pytest.mark.parametrize("wrong", WRONG_CHUNKS)
async def test_wrong_chunks_break_the_answer_off(way: str, wrong: bytes) -> None:
    seen = asyncio.Event()

    async def handle(child: Scripted) -> None:
        await child.request()
        await child.say(STREAM_HEAD + chunk(b"data: 1\n\n"))
        await seen.wait()
        await child.say(wrong)
        await child.until_gone()

    async with scripted_child(handle) as (path, made), relay(way, path) as rig:
        client = await rig.client()
        client.send(post(body={"stream": True}))
        await client.reader.readuntil(b"data: 1\n\n")
        seen.set()
        rest = await client.at_end()
        assert b"cannot be passed on" in rest
        assert not rest.endswith(b"0\r\n\r\n")
        await until(lambda: made[0].gone.is_set())
        at_rest(rig)


async def test_a_kept_connection_that_was_closed_is_tried_once_more(way: str) -> None:
    async def handle(child: Scripted) -> None:
        await child.request()
        await child.say(whole(b"%d" % child.number))
        if child.number == 0:
            await child.request()  # and closed without a word

    async with scripted_child(handle) as (path, made), relay(way, path) as rig:
        client = await rig.client()
        assert (await client.ask()).body == b"0"
        assert (await client.ask()).body == b"1"
        assert len(made) == 2
        at_rest(rig)


async def test_a_new_connection_that_was_closed_is_not_tried_again(way: str) -> None:
    """The child may have begun to work on it, and died of it."""

    async def handle(child: Scripted) -> None:
        await child.request()

    async with scripted_child(handle) as (path, made), relay(way, path) as rig:
        client = await rig.client()
        assert (await client.ask()).status == 502
        assert len(made) == 1
        at_rest(rig)


async def test_it_is_not_tried_a_third_time(way: str) -> None:
    async def handle(child: Scripted) -> None:
        await child.request()
        if child.number == 0:
            await child.say(whole(b"0"))
            await child.request()

    async with scripted_child(handle) as (path, made), relay(way, path) as rig:
        client = await rig.client()
        assert (await client.ask()).body == b"0"
        assert (await client.ask()).status == 502
        assert len(made) == 2
        at_rest(rig)


async def test_it_is_not_tried_again_once_a_byte_has_come(way: str) -> None:
    async def handle(child: Scripted) -> None:
        await child.request()
        await child.say(whole(b"0"))
        await child.request()
        await child.say(b"HTTP/1.1 2")

    async with scripted_child(handle) as (path, made), relay(way, path) as rig:
        client = await rig.client()
        assert (await client.ask()).body == b"0"
        assert (await client.ask()).status == 502
        assert len(made) == 1
        at_rest(rig)


async def test_cutting_everything_tells_the_clients_why(way: str) -> None:
    async def handle(child: Scripted) -> None:
        if b"stream" in await child.request():
            await child.say(STREAM_HEAD + chunk(b"data: 1\n\n"))
        await child.until_gone()

    async with scripted_child(handle) as (path, made), relay(way, path) as rig:
        streaming, waiting = await rig.client(), await rig.client()
        streaming.send(post(body={"stream": True}))
        waiting.send(post())
        await streaming.reader.readuntil(b"\r\n\r\n")
        await until(lambda: rig.traffic.count == 2)
        for exchange in rig.traffic.running():
            exchange.cut(Draining("the router is going away"))
        assert (await waiting.answer()).json()["error"]["reason"] == "draining"
        assert b'"reason":"draining"' in await streaming.at_end()
        await until(lambda: rig.traffic.count == 0)
        await until(lambda: all(child.gone.is_set() for child in made))
        at_rest(rig)


async def test_closing_the_connections_of_a_child_ends_its_requests(way: str) -> None:
    async def handle(child: Scripted) -> None:
        await child.request()
        await child.until_gone()

    async with scripted_child(handle) as (path, made), relay(way, path) as rig:
        clients = [await rig.client() for _ in range(3)]
        for client in clients:
            client.send(post())
        await until(lambda: len(made) == 3)
        rig.board.connections.close()
        for client in clients:
            assert (await client.answer()).status == 502
        assert (await (await rig.client()).ask()).status == 502
        at_rest(rig)
