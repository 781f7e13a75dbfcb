"""The connections to one child: how many are kept, for how long, and how silent the child has been."""

from __future__ import annotations

import asyncio
import contextlib

import pytest

from llamarouter.core.errors import ModelCrashed, RouterError
from llamarouter.core.routes import Dialect
from llamarouter.core.wire import AnswerHead
from llamarouter.relay.connections import ChildConnections
from llamarouter.relay.exchange import Exchange, Request
from llamarouter.relay.switchboard import Outcome
from llamarouter.relay.traffic import Traffic
from tests.relay_rig import STREAM_HEAD, Scripted, chunk, scripted_child, whole
from tests.waiting import until

pytestmark = pytest.mark.anyio


class Place:
    """A lease and a client in one: it notes what it is given."""

    def __init__(self, connections: ChildConnections) -> None:
        self.connections = connections
        self.outcome: Outcome | None = None
        self.body = b""
        self.ended = asyncio.Event()

    def end(self, outcome: Outcome) -> None:
        self.outcome = outcome

    async def failure(self) -> RouterError:
        return ModelCrashed("gone")

    def attach(self, exchange: Exchange) -> None:
        pass

    def answer(self, head: AnswerHead | None, payload: bytes, done: bool) -> None:
        self.body += payload
        if done:
            self.ended.set()

    def refuse(self, error: RouterError) -> None:
        self.ended.set()

    def abort(self, last_words: bytes) -> None:
        self.ended.set()


def ask(connections: ChildConnections) -> tuple[Exchange, Place]:
    place = Place(connections)
    request = Request.of(b"POST", b"/x", [], b"{}", Dialect.OPENAI)
    exchange = Exchange(request, place, place, Traffic())
    exchange.start()
    return exchange, place


async def serve(child: Scripted) -> None:
    while True:
        request = await child.request()
        closing = b"connection: close" in request
        await child.say(whole(b"closing" if closing else b"kept"))
        if closing:
            return


async def test_beyond_the_limit_connections_are_for_one_request() -> None:
    go_on = asyncio.Event()

    async def handle(child: Scripted) -> None:
        await go_on.wait()
        await serve(child)

    async with scripted_child(handle) as (path, made):
        connections = ChildConnections(path, limit=3, clock=asyncio.get_running_loop().time)
        places = [ask(connections)[1] for _ in range(5)]
        await until(lambda: len(made) == 5)
        assert connections.in_flight == 5
        go_on.set()
        for place in places:
            await place.ended.wait()
        assert sorted(place.body for place in places) == [b"closing"] * 2 + [b"kept"] * 3
        assert connections.idle == 3
        assert connections.in_flight == 0
        connections.close()
        assert connections.idle == 0


async def test_an_idle_connection_is_dropped_before_the_child_would() -> None:
    async with scripted_child(serve) as (path, made):
        connections = ChildConnections(path, clock=asyncio.get_running_loop().time, keep_idle=0.05)
        _, place = ask(connections)
        await place.ended.wait()
        assert connections.idle == 1
        await until(lambda: connections.idle == 0)
        await until(lambda: made[0].reader.at_eof(), seconds=1)
        _, place = ask(connections)
        await place.ended.wait()
        assert place.body == b"kept"
        assert len(made) == 2
        connections.close()


async def test_the_connection_that_was_used_last_is_used_next() -> None:
    async with scripted_child(serve) as (path, made):
        connections = ChildConnections(path, clock=asyncio.get_running_loop().time)
        first, second = ask(connections)[1], ask(connections)[1]
        await first.ended.wait()
        await second.ended.wait()
        for _ in range(3):
            _, place = ask(connections)
            await place.ended.wait()
        assert len(made) == 2
        connections.close()


async def test_silence_counts_from_the_last_byte_of_any_answer() -> None:
    now = 100.0
    go_on = asyncio.Event()

    async def handle(child: Scripted) -> None:
        await child.request()
        await child.say(STREAM_HEAD + chunk(b"data: 1\n\n"))
        await go_on.wait()
        await child.say(b"0\r\n\r\n")

    async with scripted_child(handle) as (path, _):
        connections = ChildConnections(path, clock=lambda: now)
        assert connections.silence() == 0.0
        now = 200.0
        _, place = ask(connections)
        assert connections.silence() == 0.0  # it has had no time to say anything
        await until(lambda: place.body)
        now = 230.0
        assert connections.silence() == 30.0
        ask(connections)  # newcomers do not make the child less silent
        assert connections.silence() == 30.0
        go_on.set()
        await place.ended.wait()
        assert connections.silence() == 0.0
        connections.close()


async def test_pings_break_no_silence_and_reach_the_client() -> None:
    now = 100.0
    ping = asyncio.Event()
    speak = asyncio.Event()
    pings = chunk(b":\n\n") * 2

    async def pinging(child: Scripted) -> None:
        await child.request()
        await child.say(STREAM_HEAD)
        await ping.wait()
        await child.say(pings)
        await speak.wait()
        await child.say(pings + chunk(b"data: 1\n\n"))

    async with scripted_child(pinging) as (path, made):
        connections = ChildConnections(path, clock=lambda: now)
        exchange, place = ask(connections)
        await until(lambda: made and exchange.begun)
        now = 160.0
        ping.set()
        await until(lambda: place.body == b":\n\n:\n\n")
        assert connections.silence() == 60.0
        speak.set()
        await until(lambda: place.body.endswith(b"data: 1\n\n"))
        assert connections.silence() == 0.0
        connections.close()


async def test_a_child_that_is_not_read_from_is_not_silent() -> None:
    """Its clients do not keep up: what it has to say waits in the kernel."""
    now = 100.0

    async def silent(child: Scripted) -> None:
        await child.request()
        await child.say(STREAM_HEAD)
        await child.until_gone()

    async with scripted_child(silent) as (path, made):
        connections = ChildConnections(path, clock=lambda: now)
        slow, _ = ask(connections)
        other, _ = ask(connections)
        await until(lambda: slow.upstream is not None and other.upstream is not None)
        slow.pause()
        now = 200.0
        assert connections.silence() == 100.0
        other.pause()
        assert connections.silence() == 0.0
        slow.resume()
        now = 230.0
        assert connections.silence() == 30.0
        connections.close()
        assert len(made) == 2


async def test_every_chunk_reaches_the_client_in_the_call_in_which_it_comes() -> None:
    """Not a loop's turn later: the exchange passes it on before `data_received` returns."""

    async def silent(child: Scripted) -> None:
        await child.until_gone()

    async with scripted_child(silent) as (path, _):
        connections = ChildConnections(path, clock=asyncio.get_running_loop().time)
        exchange, place = ask(connections)
        await until(lambda: exchange.upstream)
        upstream = exchange.upstream
        assert upstream is not None
        upstream.data_received(STREAM_HEAD)
        for n in range(3):
            upstream.data_received(chunk(b"data: %d\n\n" % n))
            assert place.body.endswith(b"data: %d\n\n" % n)
        upstream.data_received(b"0\r\n\r\n")
        assert place.ended.is_set()
        assert place.outcome == Outcome(200, True, False, place.body, events=3)
        connections.close()


async def test_the_tail_is_bounded() -> None:
    async def handle(child: Scripted) -> None:
        await child.request()
        await child.say(STREAM_HEAD)
        for n in range(3000):
            await child.say(chunk(b"data: %d\n\n" % n))
        await child.say(b"0\r\n\r\n")

    async with scripted_child(handle) as (path, _):
        connections = ChildConnections(path, clock=asyncio.get_running_loop().time)
        _, place = ask(connections)
        await place.ended.wait()
        assert place.outcome is not None
        assert len(place.outcome.tail) == 2048
        assert place.body.endswith(place.outcome.tail)
        connections.close()


async def test_an_event_too_long_to_be_held_passes_in_pieces() -> None:
    seen = asyncio.Event()

    async def handle(child: Scripted) -> None:
        await child.request()
        await child.say(STREAM_HEAD + chunk(b"data: " + b"x" * 300_000))
        await seen.wait()
        await child.say(chunk(b"x\n\ndata: torn"))

    async with scripted_child(handle) as (path, _):
        connections = ChildConnections(path, clock=asyncio.get_running_loop().time)
        _, place = ask(connections)
        await until(lambda: len(place.body) > 256 << 10)
        seen.set()
        await place.ended.wait()
        assert place.body.endswith(b"x\n\n")
        connections.close()


async def test_a_closed_child_takes_nothing_more() -> None:
    async with scripted_child(serve) as (path, made):
        connections = ChildConnections(path, clock=asyncio.get_running_loop().time)
        with contextlib.closing(connections):
            pass
        _, place = ask(connections)
        await place.ended.wait()
        assert place.outcome == Outcome(0, False, False, b"")
        assert not made
