"""What the child answers reaches the client as it comes, by every way and in every framing."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator

import pytest

from tests.relay_rig import (
    STREAM_HEAD,
    WAYS,
    Client,
    Scripted,
    chunk,
    fake_child,
    post,
    read_answer,
    relay,
    scripted_child,
    whole,
)
from tests.waiting import until

pytestmark = [pytest.mark.anyio, pytest.mark.parametrize("way", WAYS)]


@pytest.fixture(scope="module")
def child() -> Iterator[str]:
    with fake_child() as path:
        yield path


async def direct(path: str, request: bytes) -> bytes:
    """The body of the child's own answer, without the router."""
    reader, writer = await asyncio.open_unix_connection(path)
    writer.write(request)
    answer = await read_answer(reader)
    while answer.status < 200:
        answer = await read_answer(reader)
    writer.close()
    return answer.body


FRAMINGS = ("length", "chunked", "bytes", "dribble", "conn-close", "interim", "trailers", "one-write")


@pytest.mark.parametrize("framing", FRAMINGS)
@pytest.mark.parametrize("stream", [False, True])
async def test_bodies_are_the_same_through_every_framing(way: str, child: str, framing: str, stream: bool) -> None:
    request = post(body={"stream": stream, "fake": {"framing": framing, "tokens": 5}})
    expected = await direct(child, request)
    async with relay(way, child) as rig:
        client = await rig.client()
        for _ in range(3):  # on one connection: nothing of one answer may stand before the next
            client.send(request)
            answer = await client.answer()
            assert answer.status == 200
            assert answer.body == expected
            assert answer.whole
        assert [outcome.complete for outcome in rig.board.outcomes] == [True] * 3
        assert rig.board.held == rig.traffic.count == rig.board.connections.in_flight == 0
        assert expected.endswith(rig.board.outcomes[0].tail)
        assert rig.board.outcomes[0].tail


async def test_mixed_requests_are_the_same_as_direct_ones(way: str, child: str) -> None:
    wishes = [
        {"stream": n % 3 == 0, "fake": {"tokens": n % 7, "framing": FRAMINGS[n % 8], "text": "ü\n" * (n % 50)}}
        for n in range(60)
    ]
    paths = ("/v1/chat/completions", "/completion", "/v1/messages", "/v1/responses", "/tokenize", "/v1/embeddings")
    async with relay(way, child) as rig:
        client = await rig.client()
        for n, wish in enumerate(wishes):
            request = post(paths[n % 6], wish)
            client.send(request)
            assert (await client.answer()).body == await direct(child, request)


async def test_a_large_answer_comes_whole(way: str, child: str) -> None:
    async with relay(way, child) as rig:
        client = await rig.client()
        answer = await client.ask(body={"fake": {"size": 5_000_000}})
        assert len(answer.body) > 5_000_000
        assert answer.json()["choices"][0]["message"]["content"] == "x" * 5_000_000


async def test_status_and_headers_pass_but_for_those_of_the_connection(way: str, child: str) -> None:
    wish = {"status": 418, "headers": {"X-Thing": "a, b", "Proxy-Connection": "x", "Access-Control-Allow-Methods": "*"}}
    async with relay(way, child) as rig:
        client = await rig.client()
        answer = await client.ask(body={"fake": wish})
        assert answer.status == 418
        assert answer.headers["x-thing"] == "a, b"
        assert answer.headers["content-type"] == "application/json; charset=utf-8"
        unwanted = {"server", "keep-alive", "proxy-connection", "connection"}
        assert not unwanted & set(answer.headers)
        assert not [name for name in answer.headers if name.startswith("access-control-")]
        assert rig.board.outcomes[0].status == 418


async def test_a_head_request_has_no_body_and_keeps_both_connections(way: str, child: str) -> None:
    async with relay(way, child) as rig:
        client = await rig.client()
        for _ in range(3):
            client.send(
                b"".join(b"%b /slots?model=m HTTP/1.1\r\nhost: h\r\n\r\n" % method for method in (b"HEAD", b"GET"))
            )
            head = await client.answer(head_only=True)
            full = await client.answer()
            assert head.status == full.status == 200
            assert head.headers["content-length"] == str(len(full.body))
            assert full.json()[0]["id"] == 0
        assert rig.board.connections.opened == 1


async def test_a_head_request_whose_answer_has_no_length(way: str) -> None:
    async def handle(child: Scripted) -> None:
        while (await child.request()).startswith(b"HEAD"):
            await child.say(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
        await child.say(whole(b"body"))

    async with scripted_child(handle) as (path, made), relay(way, path) as rig:
        client = await rig.client()
        client.send(b"".join(b"%b /slots?model=m HTTP/1.1\r\nhost: h\r\n\r\n" % method for method in (b"HEAD", b"GET")))
        assert (await client.answer(head_only=True)).status == 200
        assert (await client.answer()).body == b"body"
        assert len(made) == 1


async def test_no_content_has_no_body(way: str) -> None:
    async def handle(child: Scripted) -> None:
        while True:
            await child.request()
            await child.say(b"HTTP/1.1 204 No Content\r\nX-A: b\r\n\r\n")

    async with scripted_child(handle) as (path, made), relay(way, path) as rig:
        client = await rig.client()
        for _ in range(2):
            client.send(post())
            answer = await client.answer()
            assert answer.status == 204
            assert not {"content-length", "transfer-encoding"} & set(answer.headers)
        assert len(made) == 1


async def test_each_chunk_leaves_as_it_comes(way: str) -> None:
    seen = asyncio.Event()

    async def handle(child: Scripted) -> None:
        await child.request()
        await child.say(STREAM_HEAD)
        for n in range(3):
            await child.say(chunk(b"data: %d\n\n" % n))
            await seen.wait()  # the next one only when the client has this one
            seen.clear()
        await child.say(b"0\r\n\r\n")

    async with scripted_child(handle) as (path, _), relay(way, path) as rig:
        client = await rig.client()
        client.send(post(body={"stream": True}))
        assert b"200 OK" in await client.reader.readuntil(b"\r\n\r\n")
        for n in range(3):
            assert await client.reader.readuntil(b"\n\n\r\n") == chunk(b"data: %d\n\n" % n)
            seen.set()
        assert await client.reader.readuntil(b"0\r\n\r\n") == b"0\r\n\r\n"


async def test_a_torn_event_waits_for_its_end(way: str) -> None:
    more = asyncio.Event()

    async def handle(child: Scripted) -> None:
        await child.request()
        await child.say(STREAM_HEAD + chunk(b"data: 1\n\ndata: 2") + b"5\r\n3\n")
        await more.wait()
        await child.say(b"\nda\r\n" + chunk(b"ta: x") + b"0\r\n\r\n")

    async with scripted_child(handle) as (path, _), relay(way, path) as rig:
        client = await rig.client()
        client.send(post(body={"stream": True}))
        await client.reader.readuntil(b"\r\n\r\n")
        assert await client.reader.readuntil(b"data: 1\n\n\r\n") == chunk(b"data: 1\n\n")
        more.set()
        rest = await client.reader.readuntil(b"0\r\n\r\n")
        assert rest == chunk(b"data: 23\n\ndata: x") + b"0\r\n\r\n"


async def test_what_comes_behind_the_end_reaches_nobody(way: str) -> None:
    async def handle(child: Scripted) -> None:
        await child.request()
        await child.say(whole(b"mine") + whole(b"not asked for"))
        await child.until_gone()

    async with scripted_child(handle) as (path, made), relay(way, path) as rig:
        client = await rig.client()
        for n in range(2):
            answer = await client.ask()
            assert answer.body == b"mine"
            assert len(made) == n + 1  # such a connection is not used again
        await until(lambda: all(child.gone.is_set() for child in made))


async def test_bytes_on_an_idle_connection_end_it(way: str) -> None:
    say_more = asyncio.Event()

    async def handle(child: Scripted) -> None:
        await child.request()
        await child.say(whole(b"one"))
        await say_more.wait()
        await child.say(whole(b"smuggled"))
        await child.until_gone()

    async with scripted_child(handle) as (path, made), relay(way, path) as rig:
        client = await rig.client()
        assert (await client.ask()).body == b"one"
        say_more.set()
        await until(lambda: made[0].gone.is_set(), seconds=2)  # sooner than any idle connection is dropped
        assert (await client.ask()).body == b"one"
        assert len(made) == 2


async def test_http_1_0_gets_a_plain_body_and_the_end(way: str, child: str) -> None:
    if way == "asgi":  # uvicorn by itself answers HTTP/1.0 with chunks: a reason for having a door of our own
        return
    expected = await direct(child, post(body={"stream": True, "fake": {"tokens": 3}}))
    async with relay(way, child) as rig:
        for stream in (True, False):
            client = await rig.client()
            client.send(post(body={"stream": stream, "fake": {"tokens": 3}}, version="1.0"))
            answer = await client.answer()
            assert answer.headers["connection"] == "close"
            assert "transfer-encoding" not in answer.headers
            assert await client.at_end() == b""
            if stream:
                assert answer.body == expected
            else:
                assert json.loads(answer.body)["model"]


async def test_connection_close_is_honoured(way: str, child: str) -> None:
    async with relay(way, child) as rig:
        client = await rig.client()
        client.send(post("/tokenize", connection="close") + post("/tokenize"))
        answer = await client.answer()
        assert answer.status == 200
        assert answer.headers["connection"] == "close"
        assert await client.at_end() == b""
        assert len(rig.board.outcomes) == 1


async def test_the_last_bytes_come_before_the_close(way: str, child: str) -> None:
    async with relay(way, child) as rig:
        client = await rig.client()
        client.writer.transport.pause_reading()  # type: ignore[attr-defined]
        client.send(post(body={"fake": {"size": 20_000_000}}, connection="close"))
        await until(lambda: rig.traffic.count == 1)
        for _ in range(100):
            await asyncio.sleep(0)  # noqa: TID251 (let the answer come as far as it does)
        client.writer.transport.resume_reading()  # type: ignore[attr-defined]
        answer = await client.answer()
        assert answer.whole
        assert len(answer.body) > 20_000_000
        assert await client.at_end() == b""


async def test_connections_to_the_child_are_kept_and_its_close_is_honoured(way: str, child: str) -> None:
    async with relay(way, child) as rig:
        client = await rig.client()
        for _ in range(5):
            await client.ask("/tokenize")
        assert rig.board.connections.opened == 1
        await client.ask("/tokenize", {"fake": {"framing": "conn-close"}})
        assert rig.board.connections.idle == 0
        await client.ask("/tokenize")
        assert rig.board.connections.opened == 2


async def test_many_clients_at_once(way: str, child: str) -> None:
    async def one(client: Client, n: int) -> None:
        for m in range(5):
            answer = await client.ask("/tokenize", {"content": f"{n}-{m}", "fake": {"echo": True}})
            assert json.loads(answer.json()["body"])["content"] == f"{n}-{m}"

    async with relay(way, child) as rig:
        clients = [await rig.client() for _ in range(80)]
        async with asyncio.TaskGroup() as group:
            for n, client in enumerate(clients):
                group.create_task(one(client, n))
        assert len(rig.board.outcomes) == 400
        assert rig.board.connections.idle <= 56


@pytest.mark.parametrize("size", [1_000_000, 20_000_000])
async def test_a_child_that_answers_before_it_has_read_the_request_is_not_asked_again_there(
    way: str, size: int
) -> None:
    """The rest of that body would go before the next request; and nothing of it is kept for a child that reads none."""

    async def hasty(child: Scripted) -> None:
        await child.reader.readuntil(b"\r\n\r\n")
        child.reader._transport.pause_reading()  # type: ignore[attr-defined]
        await child.say(b"HTTP/1.1 413 Payload Too Large\r\nContent-Length: 5\r\n\r\nlarge")
        child.reader._transport.resume_reading()  # type: ignore[attr-defined]
        await child.until_gone()

    async with scripted_child(hasty) as (path, made), relay(way, path) as rig:
        client = await rig.client()
        for asked in (1, 2):
            answer = await client.ask(body={"prompt": "x" * size})
            assert (answer.status, answer.body) == (413, b"large")
            assert len(made) == asked
            assert rig.board.connections.idle == 0
        await until(lambda: all(each.gone.is_set() for each in made))
        assert rig.board.held == 0
        assert rig.board.connections.open == 0
