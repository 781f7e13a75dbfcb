"""`GET /v1/stream`: an answer that is taken up again, relayed from the child that keeps it.

It is a request like any other from the moment that it has its lease: the child says what it has, and goes on saying
what comes. The client's leaving ends it, and nothing else.
"""

from __future__ import annotations

from typing import Protocol

from llamarouter.core.errors import RouterError
from llamarouter.core.wire import Headers
from llamarouter.relay.asgi import Message, Receive, Send, carry, sink_of, while_connected
from llamarouter.relay.exchange import Request
from llamarouter.relay.switchboard import Lease
from llamarouter.relay.traffic import Traffic


class Readers(Protocol):
    """Who knows where answers are kept."""

    def open(self, method: bytes, headers: Headers, query: bytes) -> tuple[Request, Lease]:
        """What to ask which child. Raises `RouterError`."""
        ...


class ReplayEndpoint:
    """Give it to `starlette.routing.Route` as its endpoint."""

    def __init__(self, readers: Readers, traffic: Traffic) -> None:
        self._readers = readers
        self._traffic = traffic

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        sink = sink_of(scope, send)
        try:
            request, lease = self._readers.open(scope["method"].encode(), scope["headers"], scope["query_string"])
        except RouterError as error:
            sink.refuse(error)
            await sink.until_ended()
        else:
            await while_connected(carry(request, lease, sink, self._traffic), sink, receive)
