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
from llamarouter.core.sse import end_of_events, error_event
from llamarouter.core.wire import AnswerHead, Headers, head_start_for_child
from llamarouter.relay.call import Call
from llamarouter.relay.switchboard import Lease, Outcome
from llamarouter.relay.traffic import Traffic
from llamarouter.relay.upstream import Upstream

_MOST_KEPT = 16 << 20  # bytes of a body that is kept to the end of its answer
_COMMENT = ord(":")  # of a stream: its child has begun to compute, and says so
_TAIL = 2048  # bytes of the answer that an outcome carries
_HEAD = 1024  # and of its beginning
_PIECES = 8  # in which the tail is kept: joining them for every token would cost more than relaying it
_MAX_HELD = 256 << 10  # bytes of one event: a longer one passes in pieces, and can no longer be followed by an error


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
        "_bytes",
        "_conversation",
        "_dialect",
        "_event_stream",
        "_events",
        "_failing",
        "_head",
        "_held",
        "_lease",
        "_retried",
        "_sink",
        "_status",
        "_tail",
        "_torn",
        "_traffic",
        "access",
        "body",
        "call",
        "connections",
        "head_start",
        "method",
        "over",
        "paused",
        "upstream",
    )

    def __init__(self, request: Request, lease: Lease, sink: Sink, traffic: Traffic) -> None:
        self.access = request.access
        self.call = request.call or Call(b"", 0.0)
        self.connections = lease.connections
        self.method = request.method
        self.head_start = request.head_start
        self.body = request.body
        self.over = False
        self.paused = False
        self.upstream: Upstream | None = None
        self._bytes = 0  # of the answer's body
        self._conversation = request.conversation is not None
        self._dialect = request.dialect
        self._lease = lease
        self._sink: Sink | None = sink
        self._traffic = traffic
        self._status = 0  # of the answer's head, once it was passed on
        self._event_stream = False
        self._held = b""  # the beginning of an event that is not whole yet
        self._torn = False  # a part of an event has been passed on
        self._events = 0  # pieces in which a stream came
        self._tail: list[bytes] = []
        self._head = b""  # the beginning of what the tail has no more
        self._retried = False
        self._failing: asyncio.Task[None] | None = None

    def start(self) -> None:
        self._traffic.begin(self)
        if self._sink is not None:
            self._sink.attach(self)
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
        if self._conversation and self._failing is None and not self._traffic.closing:
            self.resume()
            return
        upstream = self.upstream
        if upstream is not None:
            upstream.drop()
        self._end(complete=False, client_left=True)

    # --- from the child -----------------------------------------------------------------------------------------------

    def answered(self, head: AnswerHead | None, payload: bytes, done: bool) -> None:
        """One read of the child's answer."""
        if head is not None:
            self._status = head.status
            if head.event_stream:
                self._begin_events(head)
        if payload:
            if not self._bytes and payload[0] != _COMMENT:
                self.call.first = self.connections.last_heard
            self._bytes += len(payload)
            tail = self._tail
            tail.append(payload)
            if len(tail) > _PIECES or len(payload) > _TAIL:
                self._shorten(tail)
            if self._event_stream:
                self._events += 1
                # An event whole in one read, which is how a token comes, is passed on as it is.
                if self._held or self._torn or not payload.endswith(b"\n\n"):
                    payload = self._whole_events(payload)
        if done:
            payload += self._held
            self._held = b""
            self._end(complete=True, client_left=self._sink is None)
        if self._sink is not None and (payload or done or head is not None):
            self._sink.answer(head, payload, done)

    def lost(self, *, unheard: bool) -> None:
        """The connection to the child is gone. `unheard`: a kept one, on which no byte of an answer had come."""
        if self.over:
            return
        self.upstream = None
        if unheard and not self._retried and (self._sink is not None or self._conversation):
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
        if not self._status:
            sink.refuse(error)
        elif self._event_stream and not self._torn:
            sink.abort(error_event(self._dialect, error))
        else:
            sink.abort(b"")

    @property
    def unattended(self) -> bool:
        """Nobody hears the answer."""
        return self._sink is None

    @property
    def begun(self) -> bool:
        """The child has begun to answer."""
        return self._status != 0

    @property
    def target(self) -> bytes:
        """The path and the query of its request."""
        return target_in(self.head_start)

    def hush(self, error: RouterError) -> None:
        """The child is to stop: who has heard nothing of the answer yet hears `error`; the child is read on."""
        sink = self._sink
        if sink is not None and not self._status:
            self._sink = None
            self.resume()
            sink.refuse(error)

    def stopped(self, error: RouterError) -> None:
        """The child was told to stop: it ends the answer of a client that hears one, all else ends now."""
        self._conversation = False
        if self._sink is None or not self._status:
            self.cut(error)

    # --- inside -------------------------------------------------------------------------------------------------------

    async def _fail(self) -> None:
        error = await self._lease.failure()
        self._failing = None
        self.cut(error)

    def pace(self, now: float) -> float:
        """Pieces of its stream a second, from the first to now; 0.0: it is no stream, or has just begun."""
        first = self.call.first
        return (self._events - 1) / (now - first) if self._events > 1 and 0.0 < first < now else 0.0

    def _begin_events(self, head: AnswerHead) -> None:
        # An error event fits only between chunks: a body of a known length has no room for one.
        self._event_stream = head.length is None
        if self._event_stream and len(self.body) > _MOST_KEPT:  # it will not be sent again, and this may be long
            self.body = b""

    def _shorten(self, tail: list[bytes]) -> None:
        """Keep of what has come the end, and the beginning."""
        if not self._head:
            self._head = b"".join(tail)[:_HEAD]
        last = tail[-1]
        self._tail = [last[-_TAIL:] if len(last) >= _TAIL else b"".join(tail)[-_TAIL:]]

    def _whole_events(self, payload: bytes) -> bytes:
        """What can be passed on so that the stream stands between two events; the rest is held."""
        if self._held:
            payload, self._held = self._held + payload, b""
        end = end_of_events(payload)
        if end == len(payload):
            self._torn = False
            return payload
        if len(payload) - end > _MAX_HELD:
            self._torn = True
            return payload
        if end:
            self._torn = False
        elif self._torn:
            return payload
        self._held = payload[end:]
        return payload[:end]

    def _end(self, *, complete: bool, client_left: bool, error: RouterError | None = None) -> None:
        self.over = True
        self.upstream = None
        if self._failing is not None:
            self._failing.cancel()
        self.connections.leave()
        self._traffic.end(self)
        tail = b"".join(self._tail)
        if len(tail) > _TAIL:
            self._head = self._head or tail[:_HEAD]
            tail = tail[-_TAIL:]
        outcome = Outcome(self._status, complete, client_left, tail, self._head, self._events)
        self._lease.end(outcome)
        self._note(outcome, error)

    def _note(self, outcome: Outcome, error: RouterError | None) -> None:
        """It is over, for whoever counts or writes down requests."""
        call, connections, journal = self.call, self.connections, self._traffic.journal
        if call.over:  # its client was sent away before
            return
        call.model = connections.model
        call.bytes_out = self._bytes
        call.status = self._status
        call.outcome = outcome
        if outcome.client_left:
            journal.left(call)
        elif outcome.complete:
            call.ended = connections.last_heard
            journal.over(call)
        elif self._status:
            journal.broken(call, error, begun=True)
        elif error is not None:
            journal.refused(call, error)
