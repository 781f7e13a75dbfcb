"""A request that goes on without its client, because it belongs to a conversation: the client may come back for it.

    WAITING for its lease --> INSIDE the child --> OVER
       `-- cancelled, refused -------------------'

With `X-Conversation-Id` llama-server keeps the answer for a while, and a client that leaves ends nothing: neither the
wait nor the answer. What comes from the child then is read, so that it can be counted, and thrown away. Only the end
of the answer, or the user who stops the conversation, gives the place back.
"""

from __future__ import annotations

import asyncio
import contextlib
import enum
import logging
from typing import Protocol

from llamarouter.core.errors import Internal, RouterError
from llamarouter.core.wire import AnswerHead, Headers
from llamarouter.relay.connections import ChildConnections
from llamarouter.relay.exchange import Exchange, Request, Sink
from llamarouter.relay.patience import Patience
from llamarouter.relay.screening import lease_for
from llamarouter.relay.switchboard import Ask, Lease, Outcome, Switchboard
from llamarouter.relay.traffic import Traffic

log = logging.getLogger("llamarouter")


class Stage(enum.Enum):
    """Where a detached request is."""

    WAITING = enum.auto()
    INSIDE = enum.auto()
    OVER = enum.auto()


class Conversations(Protocol):
    """Who remembers which request answers which conversation."""

    def name_of(self, headers: Headers) -> str | None:
        """The conversation that a request belongs to, as the child is to know it. Raises `RouterError`."""
        ...

    def begin(self, detached: Detached) -> None:
        """It answers its conversation from now on; the one that did before may have to be stopped."""
        ...

    async def until_free(self, conversation: str) -> None:
        """Return when no request of a conversation is being stopped: the next would be taken for it."""
        ...

    def ended(self, detached: Detached) -> None:
        """Its answer is complete, or broke off: the child may have it still."""
        ...

    def refused(self, detached: Detached) -> None:
        """It never reached a child."""
        ...


class Detached:
    """One request of a conversation; `start` it once."""

    def __init__(
        self,
        request: Request,
        ask: Ask,
        sink: Patience,
        *,
        switchboard: Switchboard,
        traffic: Traffic,
        conversations: Conversations,
    ) -> None:
        assert request.conversation is not None
        self.conversation = request.conversation
        self.ask = ask
        self.dialect = request.dialect
        self.stage = Stage.WAITING
        self.comments = b""  # what the router itself had said in the stream before it came into the child
        self.connections: ChildConnections | None = None  # to the child that it went into
        self._request: Request | None = request  # until it is sent
        self._sink: Sink = sink
        self._patience: Patience | None = sink  # while it may say something
        self._call = request.call
        self._told = sink.wait
        self._switchboard = switchboard
        self._traffic = traffic
        self._conversations = conversations
        self._client_left = False
        self._exchange: Exchange | None = None
        self._waiting: asyncio.Task[None] | None = None
        self._ended = asyncio.Event()

    def start(self) -> None:
        """Be remembered, now; then wait for a place, and answer."""
        self._conversations.begin(self)
        self._waiting = self._traffic.spawn(self._wait())
        self._waiting.add_done_callback(self._waited)

    @property
    def unheard(self) -> bool:
        """Whether its answer is made for nobody."""
        return self.stage is Stage.INSIDE and self._client_left

    @property
    def begun(self) -> bool:
        """Whether its child knows of it, as far as can be seen: it has begun to answer."""
        return self.stage is Stage.OVER or (self._exchange is not None and self._exchange.begun)

    async def until_over(self, seconds: float) -> None:
        """Return when its lease has ended, after `seconds` at the latest."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._ended.wait()

    def client_left(self) -> None:
        """Nobody listens any more."""
        self._client_left = True
        if self._exchange is not None:
            self._exchange.client_left()
        self._sink = _Nobody()
        self._end_comments()

    def hush(self, error: RouterError) -> None:
        """The user wants no more of it, and its child is being told: who listens for a beginning hears `error`."""
        if self._exchange is not None:
            self._exchange.hush(error)

    def cancel(self, error: RouterError) -> None:
        """The user wants no more of it, and its child knows; who still listens for a beginning hears `error`."""
        if self.stage is Stage.WAITING:
            self._refuse(error)
            if self._waiting is not None:
                self._waiting.cancel()
        elif self._exchange is not None:
            self._exchange.stopped(error)

    # --- inside -------------------------------------------------------------------------------------------------------

    async def _wait(self) -> None:
        request = self._request
        assert request is not None
        try:
            await self._conversations.until_free(self.conversation)
            lease = await lease_for(self._switchboard, self.ask, request, self._told)
        except RouterError as error:
            self._refuse(error)
            return
        self._request = None
        self.stage = Stage.INSIDE
        self.connections = lease.connections
        self._exchange = Exchange(request, _Watched(lease, self), self._sink, self._traffic)
        self._exchange.start()
        self._end_comments()
        if self._client_left:
            self._exchange.client_left()

    def _end_comments(self) -> None:
        if self._patience is not None:
            self.comments, self._patience = self._patience.comments, None

    def _waited(self, task: asyncio.Task[None]) -> None:
        if not task.cancelled() and (error := task.exception()) is not None:
            log.error("a request of a conversation failed", exc_info=error)
            self._refuse(Internal("internal error; the router's log has the details"))

    def _refuse(self, error: RouterError) -> None:
        if self.stage is Stage.WAITING:
            self.stage = Stage.OVER
            self._request = None
            self._conversations.refused(self)
            self._sink.refuse(error)
            if self._call is not None:
                self._traffic.journal.refused(self._call, error)

    def over(self) -> None:
        """Its lease has ended."""
        self.stage = Stage.OVER
        self._exchange = None
        self._ended.set()
        self._conversations.ended(self)


class _Watched:
    """The lease of a detached request, which hears of its end."""

    def __init__(self, lease: Lease, detached: Detached) -> None:
        self.connections = lease.connections
        self._lease = lease
        self._detached = detached

    def end(self, outcome: Outcome) -> None:
        self._lease.end(outcome)
        self._detached.over()

    async def failure(self) -> RouterError:
        return await self._lease.failure()


class _Nobody:
    """The sink of a client that has left."""

    def attach(self, exchange: Exchange) -> None:
        pass

    def answer(self, head: AnswerHead | None, payload: bytes, done: bool) -> None:
        pass

    def refuse(self, error: RouterError) -> None:
        pass

    def abort(self, last_words: bytes) -> None:
        pass
