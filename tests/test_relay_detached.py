"""A request of a conversation goes on without its client: in the queue, before its first byte, in mid-answer."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from llamarouter.core.errors import BadRequest, Draining
from llamarouter.relay.detached import Stage
from tests.relay_rig import STREAM_HEAD, WAYS, Client, Rig, Scripted, chunk, post, relay, scripted_child
from tests.waiting import until

pytestmark = [pytest.mark.anyio, pytest.mark.parametrize("way", WAYS)]


def answering(go_on: asyncio.Event, *first: bytes) -> Callable[[Scripted], Awaitable[None]]:
    """A child that says `first`, and the rest when it is told."""

    async def handle(child: Scripted) -> None:
        await child.request()
        if first:
            await child.say(STREAM_HEAD + b"".join(map(chunk, first)))
        await go_on.wait()
        await child.say((b"" if first else STREAM_HEAD) + chunk(b"data: last\n\n") + b"0\r\n\r\n")
        await child.until_gone()

    return handle


async def ask(rig: Rig, conversation: str = "c", **body: object) -> Client:
    client = await rig.client()
    client.send(post(body={"stream": True, **body}, x_conversation_id=conversation))
    return client


async def gone(rig: Rig, client: Client) -> None:
    """The client has left, and the router knows."""
    client.close()
    await until(lambda: rig.protocols[-1].transport is None or rig.protocols[-1].transport.is_closing())


async def test_the_child_is_read_to_its_end(way: str) -> None:
    go_on = asyncio.Event()
    async with scripted_child(answering(go_on, b"data: 1\n\n")) as (path, made), relay(way, path) as rig:
        client = await ask(rig)
        await client.reader.readuntil(b"data: 1\n\n")
        await gone(rig, client)
        await until(lambda: all(exchange.unattended for exchange in rig.running()))
        assert rig.traffic.count == rig.board.held == 1
        assert not made[0].gone.is_set()
        go_on.set()
        await until(lambda: rig.board.outcomes)
        outcome = rig.board.outcomes[0]
        assert (outcome.complete, outcome.client_left) == (True, True)
        assert outcome.tail == b"data: 1\n\ndata: last\n\n"
        assert rig.desk.told == [("begin", "private-c"), ("ended", "private-c")]


async def test_leaving_before_the_first_byte_ends_nothing(way: str) -> None:
    go_on = asyncio.Event()
    async with scripted_child(answering(go_on)) as (path, made), relay(way, path) as rig:
        client = await ask(rig)
        await until(lambda: made and rig.traffic.count == 1)
        await gone(rig, client)
        await until(lambda: all(exchange.unattended for exchange in rig.running()))
        go_on.set()
        await until(lambda: rig.board.outcomes)
        assert rig.board.outcomes[0].complete
        await until(lambda: rig.board.held == rig.traffic.count == 0)


async def test_leaving_while_it_waits_keeps_its_place_in_the_queue(way: str) -> None:
    go_on = asyncio.Event()
    async with scripted_child(answering(go_on)) as (path, made), relay(way, path) as rig:
        rig.board.gate = asyncio.Event()
        client = await ask(rig)
        await until(lambda: rig.board.waiting == 1)
        await gone(rig, client)
        assert (rig.board.waiting, rig.board.left, rig.desk.told) == (1, 0, [("begin", "private-c")])
        rig.board.gate.set()
        await until(lambda: made)
        go_on.set()
        await until(lambda: rig.board.outcomes)
        outcome = rig.board.outcomes[0]
        assert (outcome.complete, outcome.client_left, outcome.status) == (True, True, 200)


async def test_what_is_thrown_away_is_not_kept(way: str) -> None:
    """The router reads megabytes that nobody hears, and holds none of them."""

    async def flooding(child: Scripted) -> None:
        await child.request()
        await child.say(STREAM_HEAD + chunk(b"data: 1\n\n"))
        for _ in range(100):
            await child.say(chunk(b"data: " + b"x" * 99_992 + b"\n\n"))
        await child.say(b"0\r\n\r\n")

    async with scripted_child(flooding) as (path, _), relay(way, path) as rig:
        client = await rig.client()
        client.writer.transport.pause_reading()  # type: ignore[attr-defined]
        client.send(post(body={"stream": True}, x_conversation_id="c"))
        await until(lambda: rig.traffic.count == 1)
        await gone(rig, client)
        await until(lambda: rig.board.outcomes)
        assert rig.board.outcomes[0].complete
        assert len(rig.board.outcomes[0].tail) == 2048


async def test_the_childs_name_of_the_conversation_replaces_the_clients(way: str) -> None:
    seen: list[bytes] = []

    async def handle(child: Scripted) -> None:
        seen.append(await child.request())
        await child.say(STREAM_HEAD + b"0\r\n\r\n")

    async with scripted_child(handle) as (path, _), relay(way, path) as rig:
        client = await rig.client()
        raw = post(body={"stream": True}, x_conversation_id="c")
        client.send(raw.replace(b"x-conversation-id: c", b"X-Conversation-ID: a\r\nx-conversation-id: c"))
        assert (await client.answer()).whole
        assert seen[0].lower().count(b"x-conversation-id") == 1
        assert b"x-conversation-id: private-c\r\n" in seen[0]


async def test_what_generates_nothing_is_no_answer_of_a_conversation(way: str) -> None:
    async def silent(child: Scripted) -> None:
        await child.request()
        await child.until_gone()

    async with scripted_child(silent) as (path, made), relay(way, path) as rig:
        client = await rig.client()
        client.send(post("/tokenize", x_conversation_id="c"))
        await until(lambda: made and rig.traffic.count == 1)
        client.close()
        await made[0].gone.wait()
        await until(lambda: rig.board.held == 0)
        assert rig.desk.told == []


async def test_an_empty_id_is_none(way: str) -> None:
    async def silent(child: Scripted) -> None:
        await child.request()
        await child.until_gone()

    async with scripted_child(silent) as (path, made), relay(way, path) as rig:
        client = await rig.client()
        client.send(post().replace(b"\r\n\r\n", b"\r\nx-conversation-id:\r\n\r\n", 1))
        await until(lambda: made and rig.traffic.count == 1)
        client.close()
        await made[0].gone.wait()
        await until(lambda: rig.board.outcomes)
        assert rig.desk.told == []


async def test_a_stop_in_the_queue_is_the_answer_and_leaves_the_queue(way: str) -> None:
    go_on = asyncio.Event()
    async with scripted_child(answering(go_on)) as (path, made), relay(way, path) as rig:
        rig.board.gate = asyncio.Event()
        client = await ask(rig)
        await until(lambda: rig.board.waiting == 1)
        assert rig.desk.last is not None
        rig.desk.last.cancel(BadRequest("enough"))
        answer = await client.answer()
        assert (answer.status, answer.json()["error"]["message"]) == (400, "enough")
        await until(lambda: rig.board.left == 1)
        assert not made
        assert rig.desk.told[-1] == ("refused", "private-c")
        assert rig.desk.last.stage is Stage.OVER


async def test_a_stop_after_the_client_has_left_ends_it_at_once(way: str) -> None:
    go_on = asyncio.Event()
    async with scripted_child(answering(go_on, b"data: 1\n\n")) as (path, made), relay(way, path) as rig:
        client = await ask(rig)
        await client.reader.readuntil(b"data: 1\n\n")
        await gone(rig, client)
        await until(lambda: all(exchange.unattended for exchange in rig.running()))
        assert rig.desk.last is not None
        rig.desk.last.cancel(BadRequest("enough"))
        assert rig.board.held == rig.traffic.count == 0
        await made[0].reader.read()
        assert rig.desk.told[-1] == ("ended", "private-c")


async def test_a_stop_before_the_first_byte_is_the_answer(way: str) -> None:
    go_on = asyncio.Event()
    async with scripted_child(answering(go_on)) as (path, made), relay(way, path) as rig:
        client = await ask(rig)
        await until(lambda: made and rig.traffic.count == 1)
        assert rig.desk.last is not None
        rig.desk.last.cancel(BadRequest("enough"))
        assert (await client.answer()).status == 400
        assert rig.board.held == 0


async def test_a_stop_of_what_has_not_begun_is_the_answer_and_the_child_is_read_on(way: str) -> None:
    go_on = asyncio.Event()
    async with scripted_child(answering(go_on)) as (path, made), relay(way, path) as rig:
        client = await ask(rig)
        await until(lambda: made and rig.traffic.count == 1)
        assert rig.desk.last is not None
        assert not rig.desk.last.begun
        rig.desk.last.hush(BadRequest("enough"))
        assert (await client.answer()).json()["error"]["message"] == "enough"
        assert rig.board.held == rig.traffic.count == 1
        assert not made[0].gone.is_set()
        go_on.set()
        await rig.desk.last.until_over(5.0)
        assert rig.desk.last.begun
        assert rig.board.outcomes[0].complete


async def test_a_stop_in_mid_answer_leaves_the_end_to_the_child(way: str) -> None:
    go_on = asyncio.Event()
    async with scripted_child(answering(go_on, b"data: 1\n\n")) as (path, _), relay(way, path) as rig:
        client = await ask(rig)
        await client.reader.readuntil(b"data: 1\n\n")
        assert rig.desk.last is not None
        rig.desk.last.cancel(BadRequest("enough"))
        assert rig.traffic.count == 1
        go_on.set()
        assert b"data: last" in await client.reader.readuntil(b"0\r\n\r\n")
        assert rig.board.outcomes[0].complete


async def test_a_client_that_leaves_a_stopped_answer_ends_it(way: str) -> None:
    go_on = asyncio.Event()
    async with scripted_child(answering(go_on, b"data: 1\n\n")) as (path, _), relay(way, path) as rig:
        client = await ask(rig)
        await client.reader.readuntil(b"data: 1\n\n")
        assert rig.desk.last is not None
        rig.desk.last.cancel(BadRequest("enough"))
        await gone(rig, client)
        await until(lambda: rig.board.held == rig.traffic.count == 0)
        assert not rig.board.outcomes[0].complete


async def test_the_one_before_is_stopped_before_the_next_goes_on(way: str) -> None:
    go_on = asyncio.Event()
    async with scripted_child(answering(go_on, b"data: 1\n\n")) as (path, made), relay(way, path) as rig:
        first = await ask(rig)
        await first.reader.readuntil(b"data: 1\n\n")
        await gone(rig, first)
        second = await ask(rig)
        await second.reader.readuntil(b"data: 1\n\n")
        names = [what for what, _ in rig.desk.told]
        assert names == ["begin", "begin", "stop", "ended"]
        assert len(made) == 2
        go_on.set()
        await second.reader.readuntil(b"0\r\n\r\n")


async def test_a_refusal_reaches_who_still_listens(way: str) -> None:
    go_on = asyncio.Event()
    async with scripted_child(answering(go_on)) as (path, _), relay(way, path) as rig:
        client = await ask(rig, model="unknown")
        assert (await client.answer()).status == 404
        assert rig.desk.told == [("begin", "private-c"), ("refused", "private-c")]


async def test_what_nobody_hears_is_cut_when_the_router_goes(way: str) -> None:
    go_on = asyncio.Event()
    async with scripted_child(answering(go_on, b"data: 1\n\n")) as (path, _), relay(way, path) as rig:
        heard = await ask(rig, "heard")
        await heard.reader.readuntil(b"data: 1\n\n")
        left = await ask(rig, "left")
        rig.desk.last = None
        await left.reader.readuntil(b"data: 1\n\n")
        left.close()
        await until(lambda: sum(exchange.unattended for exchange in rig.running()) == 1)
        rig.traffic.close(Draining("bye"))
        assert rig.traffic.count == 1
        heard.close()
        await until(lambda: rig.traffic.count == 0)


async def test_a_bug_on_the_way_to_the_child_is_an_answer(way: str, caplog: pytest.LogCaptureFixture) -> None:
    go_on = asyncio.Event()
    async with scripted_child(answering(go_on)) as (path, _), relay(way, path) as rig:
        rig.board.bug = ValueError("a bug")
        client = await ask(rig)
        assert (await client.answer()).status == 500
        assert "a bug" in caplog.text
