"""Every request is told once, by whatever way it came and however it ended; its id goes in, through and out."""

from __future__ import annotations

import asyncio

import pytest

from llamarouter.core.errors import QueueFull
from llamarouter.relay.call import Call, Ending, id_in, sane_id
from llamarouter.relay.journal import Journal
from tests.relay_rig import STREAM_HEAD, WAYS, Rig, Scripted, chunk, post, relay, scripted_child, whole
from tests.waiting import until

pytestmark = pytest.mark.anyio

SAID = b'{"usage":{"prompt_tokens":3,"completion_tokens":4}}'


async def answering(child: Scripted) -> None:
    while True:
        request = await child.request()
        head, _, body = request.partition(b"\r\n\r\n")
        if b'"crash"' in body:
            return
        if b'"cut"' in body:
            await child.say(STREAM_HEAD + chunk(b"data: 1\n\n"))
            return
        if b'"hang"' in body:
            await child.say(STREAM_HEAD + chunk(b"data: 1\n\n"))
            await child.until_gone()
            return
        ids = [line for line in head.lower().split(b"\r\n") if line.startswith(b"x-request-id:")]
        await child.say(whole(SAID, b"X-Request-Id: of the child", b"X-Seen:" + b"|".join(ids)))


def told(rig: Rig) -> list[Call]:
    calls: list[Call] = []
    rig.traffic.journal.readers.append(calls.extend)
    return calls


async def call_of(rig: Rig, calls: list[Call]) -> Call:
    def one() -> bool:
        rig.traffic.journal.flush()
        return bool(calls)

    await until(one)
    (call,) = calls
    calls.clear()
    assert call.ended >= call.since > 0
    return call


@pytest.mark.parametrize("way", WAYS)
async def test_each_request_is_told_once(way: str) -> None:
    async with scripted_child(answering) as (path, _), relay(way, path) as rig:
        calls = told(rig)
        client = await rig.client()
        answer = await client.ask(body={"content": "x"})
        call = await call_of(rig, calls)
        assert (call.ending, call.status, call.reason) == (Ending.OK, 200, "")
        assert (call.method, call.path) == (b"POST", "/v1/chat/completions")
        assert (call.bytes_in, call.bytes_out) == (len(b'{"model": "m", "content": "x"}'), len(SAID))
        assert call.since <= call.first <= call.ended
        assert call.outcome is not None
        assert call.outcome.tail == SAID
        assert call.ask is not None
        assert call.ask.model == "m"
        assert call.access is call.ask.access
        assert call.peer is not None
        assert call.peer[0] == "127.0.0.1"
        assert answer.body == SAID

        answer = await client.ask(body={"model": "unknown"})
        call = await call_of(rig, calls)
        assert (call.ending, call.status, call.reason) == (Ending.REFUSED, 404, "model_not_found")
        assert call.outcome is None

        client = await rig.client()
        answer = await client.ask(body={"do": "crash"})
        call = await call_of(rig, calls)
        assert (call.ending, call.status, call.reason) == (Ending.FAILED, 502, "model_crashed")
        assert answer.status == 502
        assert call.first == 0.0

        client = await rig.client()
        await client.ask(body={"do": "cut"})
        call = await call_of(rig, calls)
        assert (call.ending, call.status, call.reason) == (Ending.TRUNCATED, 200, "model_crashed")
        assert call.bytes_out == len(b"data: 1\n\n")

        client = await rig.client()
        client.send(post(body={"do": "hang"}))
        await client.reader.readuntil(b"data: 1\n\n")
        client.close()
        call = await call_of(rig, calls)
        assert (call.ending, call.status) == (Ending.CLIENT_GONE, 200)


@pytest.mark.parametrize("way", [way for way in WAYS if way != "fast" and way != "tls"])
async def test_who_leaves_the_queue_is_told_once(way: str) -> None:
    async with scripted_child(answering) as (path, _), relay(way, path) as rig:
        calls = told(rig)
        rig.board.gate = asyncio.Event()
        client = await rig.client()
        client.send(post())
        await until(lambda: rig.board.waiting)
        client.close()
        call = await call_of(rig, calls)
        assert (call.ending, call.status) == (Ending.CLIENT_GONE, 0)
        rig.board.gate.set()
        rig.board.refusal = QueueFull("too many")
        client = await rig.client()
        assert (await client.ask()).status == 429
        call = await call_of(rig, calls)
        assert (call.ending, call.status, call.reason) == (Ending.REFUSED, 429, "queue_full")


@pytest.mark.parametrize("way", WAYS)
async def test_an_id_goes_in_through_and_out(way: str) -> None:
    async with scripted_child(answering) as (path, _), relay(way, path) as rig:
        calls = told(rig)
        client = await rig.client()
        mine = await client.ask(x_request_id="mine-1.2_3")
        assert mine.headers["x-seen"] == "x-request-id: mine-1.2_3"
        assert (await call_of(rig, calls)).id == b"mine-1.2_3"
        seen = set()
        for asked in (None, "with blanks", "x" * 129, "semi;colon", "ü", ""):
            more = {} if asked is None else {"x_request_id": asked}
            answer = await client.ask(**more)
            call = await call_of(rig, calls)
            assert answer.headers["x-seen"] == f"x-request-id: {call.id.decode()}"
            assert sane_id(call.id)
            seen.add(call.id)
            if way != "asgi":  # there the guard says it
                assert answer.headers["x-request-id"] == call.id.decode()
        assert len(seen) == 6
        if way != "asgi":
            refused = await client.ask(body={"model": "unknown"}, x_request_id="mine")
            assert refused.headers["x-request-id"] == "mine"


@pytest.mark.parametrize("way", ["fast", "slow", "tls"])
async def test_what_cannot_be_read_is_told_with_who_sent_it(way: str) -> None:
    async with scripted_child(answering) as (path, _), relay(way, path) as rig:
        calls = told(rig)
        client = await rig.client()
        client.send(b"POST /v1/chat/completions?key=secret HTTP/1.1\r\nX-Request-Id: a\r\n\r\n")
        answer = await client.answer()
        call = await call_of(rig, calls)
        assert (answer.status, answer.headers["x-request-id"]) == (400, "a")
        assert (call.ending, call.status, call.reason, call.id) == (Ending.REFUSED, 400, "bad_request", b"a")
        assert call.path == "/v1/chat/completions"
        assert call.peer is not None
        client = await rig.client()
        client.send(b"\x00\x01 nothing\r\n\r\n")
        await client.answer()
        assert (await call_of(rig, calls)).reason == "bad_request"


async def test_they_are_told_in_batches_and_only_to_who_reads() -> None:
    journal, batches = Journal(), []  # type: ignore[var-annotated]
    journal.over(Call(b"a", 1.0))
    journal.flush()
    journal.readers.append(lambda calls: batches.append([call.id for call in calls]))
    journal.flush()
    assert batches == []
    twice = Call(b"b", 1.0)
    journal.over(twice)
    journal.over(twice)
    journal.left(twice)
    assert batches == []
    await until(lambda: batches)
    for number in range(300):
        journal.over(Call(b"%d" % number, 1.0))
    assert [len(batch) for batch in batches] == [1, 256]
    journal.flush()
    assert [len(batch) for batch in batches] == [1, 256, 44]


def test_the_first_sane_id_counts() -> None:
    assert id_in([(b"x", b"y"), (b"x-request-id", b"no way"), (b"x-request-id", b"a"), (b"x-request-id", b"b")]) == b"a"
    assert id_in([]) is None
    assert sane_id(b"a\n") is None
