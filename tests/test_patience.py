"""What a `Patience` says to the sink behind it, and when it says no more."""

from __future__ import annotations

import asyncio

import pytest

from llamarouter.core.errors import Draining, RouterError
from llamarouter.core.routes import RELAYED
from llamarouter.core.wire import AnswerHead
from llamarouter.relay.exchange import Exchange, Request
from llamarouter.relay.patience import Patience
from llamarouter.relay.traffic import Traffic
from tests.waiting import until

pytestmark = pytest.mark.anyio

ROUTE = next(route for route in RELAYED if route.path == "/v1/chat/completions")
LARGE = b'{"prompt":"%b","stream":true}' % (b"x" * (2 << 20))


class Sink:
    """Keeps what it is told."""

    broken_off = False
    behind = False

    def __init__(self) -> None:
        self.told: list[str] = []
        self.ended = asyncio.Event()

    async def until_ended(self) -> None:
        await self.ended.wait()

    def attach(self, exchange: Exchange) -> None:
        self.told.append("attach")

    def answer(self, head: AnswerHead | None, payload: bytes, done: bool) -> None:
        self.told.append("head" if head is not None else "more")

    def refuse(self, error: RouterError) -> None:
        self.told.append("refuse")

    def abort(self, last_words: bytes) -> None:
        self.told.append("abort")


def asked(body: bytes) -> Request:
    return Request.of(b"POST", b"/v1/chat/completions", [], body, ROUTE.dialect)


async def test_a_body_that_is_looked_into_too_late_begins_nothing() -> None:
    traffic, sink = Traffic(), Sink()
    looked: list[asyncio.Task[None]] = []
    original = traffic.spawn

    class Watched(Traffic):
        def spawn(self, work):  # type: ignore[no-untyped-def]
            looked.append(original(work))
            return looked[-1]

    patience = Patience(sink, asked(LARGE), ROUTE, Watched(), 0.01)
    await until(lambda: looked)
    patience.refuse(Draining("bye"))
    await asyncio.wait(looked)
    assert sink.told == ["refuse"]


async def test_who_left_is_told_nothing_more() -> None:
    sink = Sink()
    patience = Patience(sink, asked(b'{"stream":true}'), ROUTE, Traffic(), 0.01)
    await until(lambda: len(sink.told) == 2)
    waiting = asyncio.ensure_future(patience.until_ended())
    patience.close()
    before = len(sink.told)
    other = Sink()
    later = Patience(other, asked(b'{"stream":true}'), ROUTE, Traffic(), 0.3)
    await until(lambda: other.told)
    later.close()
    assert len(sink.told) == before
    with pytest.raises(asyncio.CancelledError):
        await waiting
