"""Heads that a connection has shown before, on the wire: what is recognised is relayed as if it had been parsed."""

from __future__ import annotations

import pytest

from llamarouter.relay import door as door_module
from tests.relay_rig import Scripted, post, relay, scripted_child, whole

pytestmark = pytest.mark.anyio


async def echo(child: Scripted) -> None:
    """Answers with the whole request that came."""
    while True:
        await child.say(whole(await child.request(), b"Keep-Alive: timeout=5, max=100"))


def body_in(answer: bytes) -> bytes:
    return answer.partition(b"\r\n\r\n")[2]


@pytest.fixture
def parsed(monkeypatch: pytest.MonkeyPatch) -> list[bytes]:
    """The reads that the door's parser was given."""
    reads: list[bytes] = []
    feed = door_module.Door._feed

    def noting(door: door_module.Door, data: bytes) -> None:
        reads.append(data)
        feed(door, data)

    monkeypatch.setattr(door_module.Door, "_feed", noting)
    return reads


async def test_bodies_of_any_length_reach_the_child_as_they_came(parsed: list[bytes]) -> None:
    async with scripted_child(echo) as (path, _), relay("fast", path) as rig:
        client = await rig.client()
        bodies = [{"content": "x" * size} for size in (1, 5, 1, 3000, 2, 60_000, 1)]
        for body in bodies:
            answer = await client.ask("/tokenize", body)
            request = post("/tokenize", body)
            assert answer.status == 200
            assert body_in(answer.body) == body_in(request)
            assert answer.body.count(b"content-length:") == 1
            assert b"content-length: %d\r\n" % len(body_in(request)) in answer.body
        # The first one taught the door; the large one came in more than one read, or taught it anew.
        assert len(parsed) < len(bodies)
        assert rig.board.held == 0


async def test_another_head_is_parsed_and_its_headers_pass(parsed: list[bytes]) -> None:
    async with scripted_child(echo) as (path, _), relay("fast", path) as rig:
        client = await rig.client()
        for name in ("one", "one", "two", "one"):
            answer = await client.ask("/tokenize", {"content": "x"}, x_name=name)
            assert b"x-name: %b\r\n" % name.encode() in answer.body
        assert len(parsed) == 3


async def test_a_recognised_head_is_no_credential_by_itself() -> None:
    async with scripted_child(echo) as (path, _), relay("fast", path) as rig:
        client = await rig.client()
        rig.board.key = b"good"
        assert (await client.ask("/tokenize", {}, x_api_key="good")).status == 200
        assert (await client.ask("/tokenize", {}, x_api_key="good")).status == 200
        rig.board.key = b"changed"
        assert (await client.ask("/tokenize", {}, x_api_key="good")).status == 401
        rig.board.key = b"good"
        assert (await client.ask("/tokenize", {}, x_api_key="evil")).status == 401
        assert (await client.ask("/tokenize", {}, x_api_key="good")).status == 200


async def test_a_recognised_request_can_be_refused_handed_over_and_served_again() -> None:
    async with scripted_child(echo) as (path, _), relay("fast", path) as rig:
        client = await rig.client()
        for at_once, model, status in (
            (True, "m", 200),
            (True, "unknown", 404),
            (False, "m", 200),
            (False, "unknown", 404),
            (True, "m", 200),
        ):
            rig.board.at_once = at_once
            answer = await client.ask("/tokenize", {"model": model, "content": "y" * len(model)})
            assert answer.status == status
            if status == 200:
                assert body_in(answer.body) == body_in(post("/tokenize", {"model": model, "content": "y" * len(model)}))
        bad = await client.ask("/tokenize", b"{")
        assert bad.json()["error"]["reason"] == "invalid_json"


async def test_a_recognised_request_that_waits_goes_in_with_its_own_body() -> None:
    async with scripted_child(echo) as (path, _), relay("fast", path) as rig:
        client = await rig.client()
        rig.board.at_once = False
        for body in (b'{"model":"m"}', b'{"model":"m"}' + b" " * 13, b'{"model":"m"}' + b" " * 39, b'{"model":"m"}'):
            assert body_in((await client.ask("/tokenize", body)).body) == body


async def test_a_second_length_in_an_answer_is_never_overlooked() -> None:
    async def handle(child: Scripted) -> None:
        for body in (b"first", b"second"):
            await child.request()
            await child.say(whole(body, b"Content-Length: 5 "))
        await child.until_gone()

    async with scripted_child(handle) as (path, _), relay("fast", path) as rig:
        client = await rig.client()
        assert (await client.ask("/tokenize", {})).body == b"first"
        assert (await client.ask("/tokenize", {})).status == 502


async def test_a_recognised_request_and_more_behind_it_are_answered_in_order(parsed: list[bytes]) -> None:
    async with scripted_child(echo) as (path, _), relay("fast", path) as rig:
        client = await rig.client()
        assert (await client.ask("/tokenize", {"content": "0"})).status == 200
        client.send(b"".join(post("/tokenize", {"content": str(number)}) for number in range(1, 6)))
        for number in range(1, 6):
            assert b'"content": "%d"' % number in (await client.answer()).body
        assert len(parsed) > 1


async def test_an_answer_that_only_begins_like_the_last_one_is_read_in_full() -> None:
    answers = [
        whole(b"first"),
        whole(b"second one"),
        whole(b"third", b"X-New: 1"),
        whole(b"fourth").replace(b"200 OK", b"400 No"),
        whole(b"fifth"),
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nsixth\r\n0\r\n\r\n",
        whole(b"seventh"),
    ]

    async def handle(child: Scripted) -> None:
        for answer in answers:
            await child.request()
            await child.say(answer)

    async with scripted_child(handle) as (path, made), relay("fast", path) as rig:
        client = await rig.client()
        got = [await client.ask("/tokenize", {}) for _ in answers]
        assert [(answer.status, answer.body) for answer in got] == [
            (200, b"first"),
            (200, b"second one"),
            (200, b"third"),
            (400, b"fourth"),
            (200, b"fifth"),
            (200, b"sixth"),
            (200, b"seventh"),
        ]
        assert len(made) == 1
