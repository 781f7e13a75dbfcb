"""One exchange: a request that has its lease goes into the child, and the answer's bytes come out at a door.

    entered --> answering --> over
       |            |- client_left -> the connection to the child is cut (or, detached, read to its end)
       `------------`- lost, broken, cut -> a refusal before the first byte, afterwards an error event and an abort

There is one implementation and there are two doors: a `Sink` is what an exchange needs of either. The lease ends
exactly once, before the door hears of the end, so that whoever comes next finds the place free.
"""

from __future__ import annotations

import asyncio
from typing import Protocol, Self

import msgspec

from llamarouter.core.access import OPEN, Access
from llamarouter.core.errors import ModelCrashed, RouterError
from llamarouter.core.routes import Dialect
from llamarouter.core.sse import error_event
from llamarouter.core.wire import AnswerHead, Headers, head_start_for_child
from llamarouter.relay.call import Call
from llamarouter.relay.pieces import HEAD, TAIL, Pieces
from llamarouter.relay.switchboard import Lease, Outcome
from llamarouter.relay.traffic import Traffic
from llamarouter.relay.upstream import Upstream

_MOST_KEPT = 16 << 20  # bytes of a body that is kept to the end of its answer
_COMMENT = ord(":")  # of a stream: its child has begun to compute, and says so


class Sink(Protocol):
    """The client's side of one exchange. It ends by `answer(..., done=True)`, `refuse` or `abort`, once."""

    def attach(self, exchange: Exchange) -> None:
        """`exchange` is about to answer here: pause it when the client does not keep up."""
        ...

    def answer(self, head: AnswerHead | None, payload: bytes, done: bool) -> None:
        """The answer's head (first), bytes of its body (without chunk framing), its end (last)."""
        ...

    def refuse(self, error: RouterError) -> None:
        """Answer with an error: nothing was answered yet."""
        ...

    def abort(self, last_words: bytes) -> None:
        """Break the answer off, visibly, behind `last_words`."""
        ...


class Request(msgspec.Struct, gc=False):
    """What goes to the child, and how its answer is to be understood."""

    method: bytes
    head_start: bytes  # of `core.wire.head_start_for_child`
    body: bytes
    dialect: Dialect
    # Where it has one, its client may come back for the rest: the child is read to its end (see `Detached`).
    conversation: str | None = None
    access: Access = OPEN  # whose it is
    call: Call | None = None  # what is to be known of it in the end

    @property
    def target(self) -> bytes:
        """Path and query."""
        return target_in(self.head_start)

    @classmethod
    def of(cls, method: bytes, target: bytes, headers: Headers, body: bytes, dialect: Dialect) -> Self:
        """From the parts of a message; `target`: path and query, as they came."""
        return cls(method, head_start_for_child(method, target, headers), body, dialect)


def target_in(head_start: bytes) -> bytes:
    """The path and the query that a head begins with."""
    return head_start.split(b" ", 2)[1]


class Exchange:
    """One request inside a child; `start` it once."""

    __slots__ = (
        "_failing",
        "_lease",
        "_pieces",
        "_retried",
        "_sink",
        "_traffic",
        "call",
        "connections",
        "over",
        "paused",
        "request",
        "upstream",
    )

    def __init__(self, request: Request, lease: Lease, sink: Sink, traffic: Traffic) -> None:
        self.request = request
        self.call = request.call or Call(b"", 0.0)
        self.connections = lease.connections
        self.over = False
        self.paused = False
        self.upstream: Upstream | None = None
        self._lease = lease
        self._sink: Sink | None = sink
        self._traffic = traffic
        self._pieces: Pieces | None = None  # of an answer that has begun, and did not come as a whole
        self._retried = False
        self._failing: asyncio.Task[None] | None = None

    def start(self) -> None:
        self._traffic.inside.add(self)
        if (sink := self._sink) is not None:
            sink.attach(self)
        self.connections.enter(self)

    # --- from the client ----------------------------------------------------------------------------------------------

    def pause(self) -> None:
        """The client does not keep up."""
        self.paused = True
        if self.upstream is not None:
            self.upstream.pause()

    def resume(self) -> None:
        self.paused = False
        if self.upstream is not None:
            self.upstream.resume()

    def client_left(self) -> None:
        """The client is gone: so is its connection to the child, unless the conversation goes on without it."""
        if self.over or self._sink is None:
            return
        self._sink = None
        if self.request.conversation is not None and self._failing is None and not self._traffic.closing:
            self.resume()
            return
        upstream = self.upstream
        if upstream is not None:
            upstream.drop()
        self._end(complete=False, client_left=True)

    # --- from the child -----------------------------------------------------------------------------------------------

    def answered_whole(self, head: AnswerHead, payload: bytes) -> None:
        """The child's answer, all of it in one read, and no stream: most are."""
        sink = self._sink
        size = len(payload)
        if size:
            self.call.first = self.connections.last_heard
        if size <= TAIL:
            outcome = Outcome(head.status, True, sink is None, payload)
        else:
            outcome = Outcome(head.status, True, sink is None, payload[-TAIL:], payload[:HEAD])
        self._end_with(outcome, size)
        if sink is not None:
            sink.answer(head, payload, True)

    def answered(self, head: AnswerHead | None, payload: bytes, done: bool) -> None:
        """One read of the child's answer."""
        pieces = self._pieces
        if pieces is None:
            assert head is not None
            pieces = self._begin(head)
        if payload:
            if not pieces.bytes and payload[0] != _COMMENT:
                self.call.first = self.connections.last_heard
            payload = pieces.take(payload)
        if done:
            payload += pieces.rest()
            self._end(complete=True, client_left=self._sink is None)
        if self._sink is not None and (payload or done or head is not None):
            self._sink.answer(head, payload, done)

    def lost(self, *, unheard: bool) -> None:
        """The connection to the child is gone. `unheard`: a kept one, on which no byte of an answer had come."""
        if self.over:
            return
        self.upstream = None
        if unheard and not self._retried and (self._sink is not None or self.request.conversation is not None):
            self._retried = True
            self.connections.connect(self)
            return
        self._failing = self._traffic.spawn(self._fail())

    def broken(self, reason: str) -> None:
        """The child's answer cannot be passed on; its connection has been cut."""
        self.upstream = None
        self.cut(ModelCrashed(f"the model's process sent an answer that cannot be passed on: {reason}"))

    # --- from the router ----------------------------------------------------------------------------------------------

    def cut(self, error: RouterError) -> None:
        """End it now: before the first byte the client gets `error` as its answer, afterwards as the last event."""
        if self.over:
            return
        if self.upstream is not None:
            self.upstream.drop()
        sink = self._sink
        self._end(complete=False, client_left=sink is None, error=error)
        if sink is None:
            return
        pieces = self._pieces
        if pieces is None:
            sink.refuse(error)
        elif pieces.events and not pieces.torn:
            sink.abort(error_event(self.request.dialect, error))
        else:
            sink.abort(b"")

    @property
    def unattended(self) -> bool:
        """Nobody hears the answer."""
        return self._sink is None

    @property
    def begun(self) -> bool:
        """The child has begun to answer."""
        return self._pieces is not None

    @property
    def target(self) -> bytes:
        """The path and the query of its request."""
        return self.request.target

    def hush(self, error: RouterError) -> None:
        """The child is to stop: who has heard nothing of the answer yet hears `error`; the child is read on."""
        sink = self._sink
        if sink is not None and not self.begun:
            self._sink = None
            self.resume()
            sink.refuse(error)

    def stopped(self, error: RouterError) -> None:
        """The child was told to stop: it ends the answer of a client that hears one, all else ends now."""
        self.request.conversation = None
        if self._sink is None or not self.begun:
            self.cut(error)

    # --- inside -------------------------------------------------------------------------------------------------------

    async def _fail(self) -> None:
        error = await self._lease.failure()
        self._failing = None
        self.cut(error)

    def pace(self, now: float) -> float:
        """Pieces of its stream a second, from the first to now; 0.0: it is no stream, or has just begun."""
        first, count = self.call.first, 0 if self._pieces is None else self._pieces.count
        return (count - 1) / (now - first) if count > 1 and 0.0 < first < now else 0.0

    def _begin(self, head: AnswerHead) -> Pieces:
        # An error event fits only between chunks: a body of a known length has no room for one.
        events = head.event_stream and head.length is None
        if events and len(self.request.body) > _MOST_KEPT:  # it will not be sent again, and this may be long
            self.request.body = b""
        self._pieces = pieces = Pieces(head.status, events=events)
        return pieces

    def _end(self, *, complete: bool, client_left: bool, error: RouterError | None = None) -> None:
        pieces = self._pieces
        if pieces is None:
            self._end_with(Outcome(0, complete, client_left, b""), 0, error)
        else:
            outcome = Outcome(pieces.status, complete, client_left, *pieces.ends(), pieces.count)
            self._end_with(outcome, pieces.bytes, error)

    def _end_with(self, outcome: Outcome, size: int, error: RouterError | None = None) -> None:
        """`size`: bytes of the answer's body."""
        self.over = True
        self.upstream = None
        if self._failing is not None:
            self._failing.cancel()
        connections, traffic = self.connections, self._traffic
        connections.in_flight -= 1
        traffic.inside.discard(self)
        self._lease.end(outcome)
        call = self.call
        if call.over:  # its client was sent away before
            return
        call.model = connections.model
        call.bytes_out = size
        call.status = outcome.status
        call.outcome = outcome
        if outcome.complete and not outcome.client_left:
            call.ended = connections.last_heard
            traffic.journal.over(call)
        else:
            self._note_failure(call, outcome, error)

    def _note_failure(self, call: Call, outcome: Outcome, error: RouterError | None) -> None:
        journal = self._traffic.journal
        if outcome.client_left:
            journal.left(call)
        elif outcome.status:
            journal.broken(call, error, begun=True)
        elif error is not None:
            journal.refused(call, error)
