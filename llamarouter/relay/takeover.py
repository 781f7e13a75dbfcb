"""How Starlette's route gets at the connection it answers on: past ASGI, when the door is ours.

ASGI cannot say everything that a relay must: it cannot answer HTTP/1.0 without chunks, nor reset a connection. The
door puts a `Takeover` into the scope's extensions; who finds none sends by ASGI.
"""

from __future__ import annotations

import asyncio
from collections.abc import MutableMapping
from typing import TYPE_CHECKING, Any

from llamarouter.core.errors import RouterError
from llamarouter.core.wire import AnswerHead
from llamarouter.relay.call import Call, id_in
from llamarouter.relay.journal import Journal

if TYPE_CHECKING:
    from llamarouter.relay.door import Door
    from llamarouter.relay.exchange import Exchange

EXTENSION = "llamarouter.takeover"
CALL = "llamarouter.call"  # where a scope says what is known of its request


def call_of(scope: MutableMapping[str, Any], journal: Journal) -> Call:
    """What is known of the request of a scope: what our own door has put there, or it begins here."""
    call: Call | None = scope.get(CALL)
    if call is None:
        takeover = scope.get("extensions", {}).get(EXTENSION)
        call = scope[CALL] = takeover.call if takeover is not None else _new_call(scope, journal)
    return call


def _new_call(scope: MutableMapping[str, Any], journal: Journal) -> Call:
    id = id_in(scope["headers"]) or journal.new_id()
    return Call(id, asyncio.get_running_loop().time(), scope.get("client"), scope["method"].encode(), scope["path"])


class Takeover:
    """A `Sink` on the connection of a request that uvicorn believes to be answering."""

    def __init__(self, door: Door) -> None:
        self._door = door
        self.call = door.call
        self.broken_off = False  # for ASGI to know; here the connection is broken off at once
        self._ended = asyncio.Event()

    async def until_ended(self) -> None:
        """Return when the answer is complete, refused or aborted."""
        await self._ended.wait()

    def attach(self, exchange: Exchange) -> None:
        self._door.cycle.response_started = True
        self._door.attach(exchange)

    @property
    def behind(self) -> bool:
        return self._door.behind

    def answer(self, head: AnswerHead | None, payload: bytes, done: bool) -> None:
        self._door.cycle.response_started = True
        if done:
            self._end()
        self._door.answer(head, payload, done)

    def refuse(self, error: RouterError) -> None:
        self._end()
        self._door.refuse(error)

    def abort(self, last_words: bytes) -> None:
        self._end()
        self._door.abort(last_words)

    def _end(self) -> None:
        """Tell uvicorn's cycle that it has answered, before the door goes on to the next request."""
        cycle = self._door.cycle
        cycle.response_started = True
        cycle.response_complete = True
        cycle.message_event.set()
        self._ended.set()
