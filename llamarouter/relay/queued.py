"""A request of the fast lane that waits for its place, without Starlette: many clients on few slots nearly all do.

    waiting --place--> in its child (an `Exchange`, told apart by nobody) --> over
       |- refused: the error is the answer
       `- client_left: it leaves the queue

For its door it stands where the exchange will stand, and between the two as the sink: what a stream hears while it
waits is the `Patience`'s business.
"""

from __future__ import annotations

import asyncio
import logging
from typing import Protocol

from llamarouter.core.errors import Internal, RouterError
from llamarouter.core.wire import AnswerHead
from llamarouter.relay.exchange import Exchange, Request, Sink
from llamarouter.relay.patience import Patience
from llamarouter.relay.screening import lease_for
from llamarouter.relay.switchboard import Ask, Switchboard
from llamarouter.relay.traffic import Traffic

log = logging.getLogger("llamarouter")


class Counter(Sink, Protocol):
    """The door at which it waits."""

    @property
    def behind(self) -> bool:
        """Whether the client has still to take what it was sent."""
        ...


class Queued:
    """One request from the queue to the end of its answer. `wait_comment`: as of `RelayEndpoint`."""

    broken_off = False  # for `Patience`: at a door of ours a connection is broken off at once

    def __init__(
        self,
        request: Request,
        ask: Ask,
        door: Counter,
        switchboard: Switchboard,
        traffic: Traffic,
        wait_comment: float,
    ) -> None:
        self._door = door
        self._call = request.call
        self._traffic = traffic
        self._exchange: Exchange | None = None
        patience = Patience(self, request, ask.route, traffic, wait_comment)
        self._patience: Patience | None = patience  # None: it is over
        self._task = traffic.spawn(self._wait(request, ask, switchboard, patience))
        self._task.add_done_callback(self._waited)

    async def _wait(self, request: Request, ask: Ask, switchboard: Switchboard, patience: Patience) -> None:
        try:
            lease = await lease_for(switchboard, ask, request, patience.wait)
        except RouterError as error:
            patience.refuse(error)
            return
        exchange = Exchange(request, lease, patience, self._traffic)
        exchange.start()

    def _waited(self, task: asyncio.Task[None]) -> None:
        if not task.cancelled() and (error := task.exception()) is not None:
            log.error("a request that waited failed", exc_info=error)
            if self._patience is not None:
                self._patience.refuse(Internal("internal error; the router's log has the details"))

    # --- for the door, in the place of an exchange --------------------------------------------------------------------

    def client_left(self) -> None:
        """The client is gone: it leaves the queue, or its answer ends."""
        if self._patience is None:
            return
        self._patience.close()
        if self._exchange is not None:
            self._exchange.client_left()
        else:
            self._task.cancel()
            if self._call is not None:
                self._traffic.journal.left(self._call)

    def pause(self) -> None:
        if self._exchange is not None:
            self._exchange.pause()

    def resume(self) -> None:
        if self._exchange is not None:
            self._exchange.resume()

    # --- the sink -----------------------------------------------------------------------------------------------------

    @property
    def behind(self) -> bool:
        return self._door.behind

    async def until_ended(self) -> None:
        """Nobody has to wait for it: the door hears of the end by itself."""

    def attach(self, exchange: Exchange) -> None:
        self._exchange = exchange
        exchange.paused = self._door.behind

    def answer(self, head: AnswerHead | None, payload: bytes, done: bool) -> None:
        self._door.answer(head, payload, done)
        if done:
            self._over()

    def refuse(self, error: RouterError) -> None:
        self._door.refuse(error)
        self._over()

    def abort(self, last_words: bytes) -> None:
        self._door.abort(last_words)
        self._over()

    def _over(self) -> None:
        """Let go of what holds this: a crowd that has gone is not left to the garbage collector, all at once."""
        self._patience = self._exchange = None
