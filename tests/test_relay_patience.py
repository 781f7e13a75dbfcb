"""Who waits is told: a stream by comments, everybody else by headers; what fails then is an event of its stream."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from llamarouter.core.errors import QueueTimeout
from llamarouter.core.routes import RELAYED, Streams
from tests.relay_rig import STREAM_HEAD, WAYS, Answer, Client, Rig, Scripted, chunk, post, relay, scripted_child, whole
from tests.waiting import until

pytestmark = [pytest.mark.anyio, pytest.mark.parametrize("way", WAYS)]

CHAT = "/v1/chat/completions"
SOON = 0.05
STREAM = {"stream": True}
AUDIO = "/v1/audio/transcriptions"


def answering(answer: bytes) -> Callable[[Scripted], Awaitable[None]]:
    """A child that gives one answer to everybody."""

    async def handle(child: Scripted) -> None:
        while True:
            await child.request()
            await child.say(answer)

    return handle


EVENTS = answering(STREAM_HEAD + chunk(b"data: 1\n\n") + chunk(b"data: [DONE]\n\n") + b"0\r\n\r\n")


def closed(rig: Rig) -> asyncio.Event:
    """From now on everybody waits, until it is set."""
    rig.board.at_once = False
    rig.board.gate = asyncio.Event()
    return rig.board.gate


async def comment_of(client: Client) -> bytes:
    """The next comment in a stream that is begun."""
    async with asyncio.timeout(5):
        return (await client.reader.readuntil(b"\n\n")).rpartition(b"\r\n")[2]


def error_of(answer: Answer) -> Any:
    """What the last event of a stream says."""
    return json.loads(answer.events()[-1].rpartition(b"data: ")[2])


async def test_a_stream_that_waits_is_told_what_for_and_gets_its_answer_in_the_same_body(way: str) -> None:
    async with scripted_child(EVENTS) as (path, _), relay(way, path, wait_comment=SOON) as rig:
        gate = closed(rig)
        client = await rig.client()
        client.send(post(CHAT, STREAM))
        await until(lambda: rig.board.waits)
        rig.board.waits[0].words = lambda: "position 3"
        head = await client.reader.readuntil(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 200 OK\r\n")
        assert b"content-type: text/event-stream\r\n" in head.lower()
        assert b"x-accel-buffering: no\r\n" in head.lower()
        assert await comment_of(client) == b": position 3\n\n"
        rig.board.waits[0].words = lambda: "position 2"
        while await comment_of(client) != b": position 2\n\n":
            pass
        rig.board.waits[0].seconds = 7.0
        gate.set()
        rest = await client.reader.readuntil(b"0\r\n\r\n")
        assert b"data: 1\n\n" in rest
        assert b": it was its turn after 7.0 s\n\n" in rest
        await until(lambda: rig.board.outcomes)
        assert rig.board.outcomes[0].complete
        # The connection goes on.
        rig.board.gate = None
        assert (await client.ask(CHAT, STREAM)).events() == [b"data: 1", b"data: [DONE]"]


async def test_who_is_served_before_the_first_comment_gets_the_answer_as_it_came(way: str) -> None:
    async with scripted_child(EVENTS) as (path, _), relay(way, path, wait_comment=30) as rig:
        gate = closed(rig)
        client = await rig.client()
        client.send(post(CHAT, STREAM))
        await until(lambda: rig.board.waits)
        rig.board.waits[0].seconds, rig.board.waits[0].load_seconds = 7.25, 6.0
        gate.set()
        answer = await client.answer()
        assert answer.events() == [b"data: 1", b"data: [DONE]"]
        assert answer.headers["x-lr-queue-ms"] == "1250"
        assert answer.headers["x-lr-load-ms"] == "6000"
        assert answer.headers["server-timing"] == "queue;dur=1250, load;dur=6000"
        # It is the same connection to the child, and the same head: nothing of it is left for who did not wait.
        rig.board.gate = None
        assert not {"x-lr-queue-ms", "x-lr-load-ms", "server-timing"} & (await client.ask(CHAT, STREAM)).headers.keys()


@pytest.mark.parametrize(
    ("path", "body"),
    [
        (CHAT, {}),
        (CHAT, {"stream": False}),
        (CHAT, {"stream": "true"}),
        (CHAT, {"stream": 1}),
        ("/v1/embeddings", STREAM),
        ("/tokenize", STREAM),
    ],
)
async def test_only_a_stream_is_begun_before_its_answer(way: str, path: str, body: dict[str, object]) -> None:
    async with scripted_child(answering(whole(b"{}"))) as (child, _), relay(way, child, wait_comment=SOON) as rig:
        gate = closed(rig)
        waiting, stream = await rig.client(), await rig.client()
        waiting.send(post(path, body))
        await until(lambda: rig.board.waiting == 1)
        stream.send(post(CHAT, STREAM))
        await stream.reader.readuntil(b"\n\n")  # by now the other one would have heard something
        rig.board.waits[0].seconds = 1.0
        gate.set()
        answer = await waiting.answer()
        assert (answer.status, answer.body, answer.headers["x-lr-queue-ms"]) == (200, b"{}", "1000")
        rig.board.gate = None  # the same head comes again from the child
        again = await waiting.ask(path, body)
        assert (again.status, again.body) == (200, b"{}")
        assert not any(name.startswith("x-lr-") for name in again.headers)


async def test_a_large_body_is_looked_into_as_well(way: str) -> None:
    async with scripted_child(EVENTS) as (path, _), relay(way, path, wait_comment=SOON) as rig:
        gate = closed(rig)
        client = await rig.client()
        client.send(post(CHAT, {"prompt": "x" * (2 << 20), **STREAM}))
        assert (await client.reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 200")
        gate.set()
        assert (await client.reader.readuntil(b"0\r\n\r\n")).endswith(b"[DONE]\n\n\r\n0\r\n\r\n")


async def test_without_a_time_nobody_hears_comments(way: str) -> None:
    async with scripted_child(EVENTS) as (path, _), relay(way, path, wait_comment=0) as rig:
        gate = closed(rig)
        client = await rig.client()
        client.send(post(CHAT, STREAM))
        await until(lambda: rig.board.waiting == 1)
        gate.set()
        assert (await client.answer()).events() == [b"data: 1", b"data: [DONE]"]


@pytest.mark.parametrize(
    ("path", "event"), [(CHAT, b""), ("/v1/responses", b"event: error\n"), ("/v1/messages", b"event: error\n")]
)
async def test_a_refusal_behind_a_comment_is_the_error_event_of_its_dialect(way: str, path: str, event: bytes) -> None:
    async with scripted_child(EVENTS) as (child, _), relay(way, child, wait_comment=SOON) as rig:
        gate = closed(rig)
        client = await rig.client()
        client.send(post(path, STREAM))
        await until(lambda: rig.board.waiting == 1)
        rig.board.refusal = QueueTimeout("no room within 300 s")
        answering = asyncio.ensure_future(client.answer())
        await until(lambda: rig.board.told)
        gate.set()
        answer = await answering
        assert (answer.status, answer.whole) == (200, False)  # it is broken off
        assert answer.events()[0].startswith(b": ")
        assert answer.events()[-1].startswith(event + b"data: {")
        said = error_of(answer)
        assert "no room within 300 s" in json.dumps(said)


async def test_an_error_of_the_child_behind_a_comment_is_an_error_event(way: str) -> None:
    error = {"code": 400, "message": "the request exceeds the available context size", "type": "invalid_request_error"}
    body = json.dumps({"error": error}).encode()
    answer = b"HTTP/1.1 400 Bad Request\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body)
    heard = await behind_a_comment(way, answering(answer))
    assert (heard.status, heard.whole) == (200, False)
    assert error_of(heard) == {"error": error}


async def test_an_answer_that_is_no_stream_behind_a_comment_is_an_error_event(way: str) -> None:
    heard = await behind_a_comment(way, answering(whole(b'{"choices":[]}', b"Content-Type: application/json")))
    assert error_of(heard)["error"]["message"] == "the model's process answered 200, and no stream"


async def test_a_stream_that_says_it_failed_is_no_answer_either(way: str) -> None:
    head = STREAM_HEAD.replace(b"200 OK", b"503 No")
    heard = await behind_a_comment(way, answering(head + chunk(b"data: 1\n\n") + b"0\r\n\r\n"))
    assert (error_of(heard)["error"]["code"], heard.whole) == (503, False)


async def test_a_long_one_is_not_kept(way: str) -> None:
    heard = await behind_a_comment(way, answering(whole(b'{"error":{"message":"' + b"x" * 300_000 + b'"}}')))
    assert error_of(heard)["error"]["message"] == "the model's process answered 200, and no stream"


async def test_a_child_that_dies_behind_a_comment_is_an_error_event(way: str) -> None:
    async def before(child: Scripted) -> None:
        await child.request()

    heard = await behind_a_comment(way, before)
    assert (error_of(heard)["error"]["reason"], heard.whole) == ("model_crashed", False)

    async def within(child: Scripted) -> None:
        await child.request()
        await child.say(STREAM_HEAD + chunk(b"data: 1\n\n") + chunk(b"data: to"))

    heard = await behind_a_comment(way, within)
    assert (error_of(heard)["error"]["reason"], heard.whole) == ("model_crashed", False)
    assert heard.events()[-2] == b"data: 1"

    async def within_an_error(child: Scripted) -> None:
        await child.request()
        await child.say(b'HTTP/1.1 500 No\r\nContent-Length: 100\r\n\r\n{"error":')

    heard = await behind_a_comment(way, within_an_error)
    assert (error_of(heard)["error"]["code"], heard.whole) == (500, False)


async def behind_a_comment(way: str, handle: Callable[[Scripted], Awaitable[None]]) -> Answer:
    """What a stream hears that has heard a comment before it reaches such a child."""
    async with scripted_child(handle) as (path, _), relay(way, path, wait_comment=SOON) as rig:
        gate = closed(rig)
        client = await rig.client()
        client.send(post(CHAT, STREAM))
        answering = asyncio.ensure_future(client.answer())
        await until(lambda: rig.board.told)
        gate.set()
        answer = await answering
        await until(lambda: rig.board.held == rig.traffic.count == 0)
        return answer


async def test_comments_go_on_until_the_child_answers(way: str) -> None:
    go_on = asyncio.Event()

    async def slow(child: Scripted) -> None:
        await child.request()
        await go_on.wait()
        await child.say(STREAM_HEAD + chunk(b"data: 1\n\n") + b"0\r\n\r\n")

    async with scripted_child(slow) as (path, _), relay(way, path, wait_comment=SOON) as rig:
        gate = closed(rig)
        client = await rig.client()
        client.send(post(CHAT, STREAM))
        await comment_of(client)
        await comment_of(client)
        gate.set()
        while await comment_of(client) != b": the model is reading the prompt\n\n":
            pass
        go_on.set()
        assert (await client.reader.readuntil(b"0\r\n\r\n")).endswith(chunk(b"data: 1\n\n") + b"0\r\n\r\n")


async def test_who_has_his_place_before_the_first_comment_hears_none_however_long_the_prompt_is(way: str) -> None:
    go_on = asyncio.Event()

    async def slow(child: Scripted) -> None:
        await child.request()
        await go_on.wait()
        await child.say(b"HTTP/1.1 400 No\r\nContent-Length: 2\r\n\r\n{}")

    async with scripted_child(slow) as (path, made), relay(way, path, wait_comment=SOON) as rig:
        gate = closed(rig)
        gate.set()
        early = await rig.client()
        early.send(post(CHAT, STREAM))
        await until(lambda: made)
        rig.board.gate = asyncio.Event()
        waits = await rig.client()
        waits.send(post(CHAT, STREAM))
        await comment_of(waits)
        await comment_of(waits)  # by now the first one would have heard something
        go_on.set()
        assert (await early.answer()).status == 400


async def test_who_woke_a_model_soon_enough_hears_no_comment_within_a_long_answer(way: str) -> None:
    """Its first comment was still to come when the answer began: a second head would stand in the middle of that."""
    go_on = asyncio.Event()

    async def slow(child: Scripted) -> None:
        await child.request()
        await child.say(STREAM_HEAD + chunk(b"data: 1\n\n"))
        await go_on.wait()
        await child.say(chunk(b"data: [DONE]\n\n") + b"0\r\n\r\n")

    async with scripted_child(slow) as (path, made), relay(way, path, wait_comment=SOON) as rig:
        gate = closed(rig)
        woke = await rig.client()
        woke.send(post(CHAT, STREAM))
        await until(lambda: rig.board.waits)
        rig.board.waits[0].waking = lambda: "it wakes up"
        gate.set()
        await until(lambda: made)
        rig.board.gate = asyncio.Event()
        other = await rig.client()
        other.send(post(CHAT, STREAM))
        await comment_of(other)
        await comment_of(other)  # by now the first one would have heard something
        go_on.set()
        answer = await woke.answer()
        assert answer.status == 200
        assert answer.events() == [b"data: 1", b"data: [DONE]"]


async def test_who_leaves_while_he_hears_comments_gives_up_his_place(way: str) -> None:
    async with scripted_child(EVENTS) as (path, made), relay(way, path, wait_comment=SOON) as rig:
        closed(rig)
        client = await rig.client()
        client.send(post(CHAT, STREAM))
        await comment_of(client)
        await comment_of(client)
        client.close()
        await until(lambda: rig.board.left == 1, seconds=0.1)
        assert not made


async def test_who_does_not_read_is_told_no_more(way: str) -> None:
    async with scripted_child(EVENTS) as (path, _), relay(way, path, wait_comment=SOON) as rig:
        closed(rig)
        client = await rig.client()
        client.send(post(CHAT, STREAM))
        await until(lambda: rig.board.waiting == 1)
        client.writer.transport.pause_reading()  # type: ignore[attr-defined]
        asked = 0

        def words() -> str:
            nonlocal asked
            asked += 1
            return "x" * (24 << 20)  # more than the kernel keeps

        rig.board.waits[0].words = words
        other = await rig.client()
        other.send(post(CHAT, STREAM))
        await until(lambda: asked == 1)
        for _ in range(5):
            await comment_of(other)
        assert asked <= 2  # ASGI takes a second one before it waits
        client.close()
        await until(lambda: rig.board.left == 1, seconds=1)


async def test_a_conversation_hears_them_as_well_and_waits_on_without_its_client(way: str) -> None:
    async with scripted_child(EVENTS) as (path, _), relay(way, path, wait_comment=SOON) as rig:
        gate = closed(rig)
        client = await rig.client()
        client.send(post(CHAT, STREAM, x_conversation_id="c"))
        await comment_of(client)
        await comment_of(client)
        client.close()
        last = rig.desk.last
        assert last is not None
        await until(lambda: last.comments.count(b": in the queue\n\n") >= 2)
        assert rig.board.left == 0
        gate.set()
        await until(lambda: rig.board.outcomes)
        assert rig.board.outcomes[0].complete


async def test_a_conversation_hears_nothing_more_once_it_is_inside(way: str) -> None:
    go_on = asyncio.Event()

    async def slow(child: Scripted) -> None:
        await child.request()
        await go_on.wait()
        await child.say(STREAM_HEAD + chunk(b"data: 1\n\n") + b"0\r\n\r\n")

    async with scripted_child(slow) as (path, made), relay(way, path, wait_comment=SOON) as rig:
        gate = closed(rig)
        client = await rig.client()
        client.send(post(CHAT, STREAM, x_conversation_id="c"))
        answering = asyncio.ensure_future(client.answer())
        await until(lambda: rig.board.told >= 2)
        gate.set()
        await until(lambda: made)
        other = await rig.client()
        rig.board.gate = asyncio.Event()
        other.send(post(CHAT, STREAM))
        await comment_of(other)
        await comment_of(other)
        go_on.set()
        last = rig.desk.last
        assert last is not None
        assert (await answering).body == last.comments + b"data: 1\n\n"


def form(stream: str) -> bytes:
    parts = {'"model"': b"m", '"stream"': stream.encode(), '"file"; filename="a.wav"': b"RIFF" * 300_000}
    lines = [
        b"--b\r\nContent-Disposition: form-data; name=%b\r\n\r\n%b\r\n" % (name.encode(), value)
        for name, value in parts.items()
    ]
    return b"".join(lines) + b"--b--\r\n"


async def test_a_form_that_asks_for_a_stream_is_told_too_and_no_other_one(way: str) -> None:
    async with scripted_child(EVENTS) as (path, _), relay(way, path, wait_comment=SOON) as rig:
        gate = closed(rig)
        told, silent = await rig.client(), await rig.client()
        silent.send(post(AUDIO, form("false"), content_type="multipart/form-data; boundary=b"))
        await until(lambda: rig.board.waits)
        told.send(post(AUDIO, form("true"), content_type="multipart/form-data; boundary=b"))
        assert b"content-type: text/event-stream\r\n" in (await told.reader.readuntil(b"\r\n\r\n")).lower()
        assert (await comment_of(told)).startswith(b": ")
        for wait in rig.board.waits:
            wait.seconds = 7.0
        gate.set()
        assert b"data: 1\n\n" in await told.reader.readuntil(b"0\r\n\r\n")
        assert (await silent.answer()).headers["x-lr-queue-ms"] == "7000"  # it heard nothing before its answer


async def test_an_old_client_hears_them_and_sees_a_failure(way: str) -> None:
    async with scripted_child(EVENTS) as (path, _), relay(way, path, wait_comment=SOON) as rig:
        gate = closed(rig)
        client = await rig.client()
        client.send(post(CHAT, STREAM, version="1.0"))
        head = await client.reader.readuntil(b"\r\n\r\n")
        if way != "asgi":  # uvicorn's own answers to HTTP/1.0 are chunked
            assert b"transfer-encoding" not in head.lower()
        assert (await comment_of(client)).startswith(b": ")
        gate.set()
        assert b"data: 1\n\n" in await client.at_end()


async def test_the_routes_that_stream(way: str) -> None:
    if way != "fast":
        return
    assert {route.path for route in RELAYED if route.streams is Streams.FORM} == {AUDIO, "/audio/transcriptions"}
    assert {route.path for route in RELAYED if route.streams is Streams.JSON} == {
        "/completion",
        "/completions",
        "/v1/completions",
        "/chat/completions",
        CHAT,
        "/infill",
        "/v1/responses",
        "/responses",
        "/v1/messages",
    }
