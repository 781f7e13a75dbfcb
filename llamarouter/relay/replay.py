"""`GET /v1/stream`: an answer that is taken up again, relayed from the child that keeps it.

It is a request like any other from the moment that it has its lease: the child says what it has, and goes on saying
what comes. The client's leaving ends it, and nothing else.
"""

from __future__ import annotations

from typing import Protocol

from msgspec.structs import replace

from llamarouter.core.errors import RouterError
from llamarouter.core.wire import AnswerHead, Headers
from llamarouter.relay.asgi import Message, Receive, Send, carry, sink_of, while_connected
from llamarouter.relay.exchange import Exchange, Request
from llamarouter.relay.patience import WaitableSink
from llamarouter.relay.switchboard import Lease
from llamarouter.relay.takeover import call_of
from llamarouter.relay.traffic import Traffic


class Readers(Protocol):
    """Who knows where answers are kept."""

    def open(self, method: bytes, headers: Headers, query: bytes) -> tuple[Request, Lease, bytes]:
        """What to ask which child, and what goes before its answer. Raises `RouterError`."""
        ...


class ReplayEndpoint:
    """Give it to `starlette.routing.Route` as its endpoint."""

    def __init__(self, readers: Readers, traffic: Traffic) -> None:
        self._readers = readers
        self._traffic = traffic

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        sink = sink_of(scope, send)
        journal = self._traffic.journal
        call = call_of(scope, journal)
        call.relayed = True
        try:
            request, lease, before = self._readers.open(
                scope["method"].encode(), scope["headers"], scope["query_string"]
            )
        except RouterError as error:
            sink.refuse(error)
            journal.refused(call, error)
            await sink.until_ended()
        else:
            request.call = call
            if before:
                sink = _Begun(sink, before)
            await while_connected(carry(request, lease, sink, self._traffic), sink, receive)


class _Begun:
    """A sink before another, for a stream in which the router has said something before the child."""

    def __init__(self, sink: WaitableSink, before: bytes) -> None:
        self._sink = sink
        self._before = before

    @property
    def broken_off(self) -> bool:
        return self._sink.broken_off

    @property
    def behind(self) -> bool:
        return self._sink.behind

    async def until_ended(self) -> None:
        await self._sink.until_ended()

    def attach(self, exchange: Exchange) -> None:
        self._sink.attach(exchange)

    def answer(self, head: AnswerHead | None, payload: bytes, done: bool) -> None:
        if head is not None and head.status == 200 and head.event_stream:
            head = replace(head, length=None)  # it is longer now
            payload = self._before + payload
        self._sink.answer(head, payload, done)

    def refuse(self, error: RouterError) -> None:
        self._sink.refuse(error)

    def abort(self, last_words: bytes) -> None:
        self._sink.abort(last_words)
