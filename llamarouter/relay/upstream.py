"""One connection to a child: a request goes in, its answer is read just far enough to find its end.

    idle --send--> head --(1xx)--> head --> body --> idle (given back) | closed
                     `------- lost, dropped: closed -------'

Every read is parsed before a byte of it is passed on, so what stands behind the end of an answer reaches nobody. The
parser is ours, not httptools': it has to say where in a read the payload lies, and an answer to HEAD has no body.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, cast

from llamarouter.core.chunked import ChunkReader
from llamarouter.core.wire import WITH_BODY, AnswerHead, BrokenAnswerError, answer_head_of, head_for_child
from llamarouter.relay.familiar import Familiar, learn

if TYPE_CHECKING:
    from llamarouter.relay.connections import ChildConnections
    from llamarouter.relay.exchange import Exchange

_MAX_HEAD = 64 << 10
_PING = b"3\r\n:\n\n\r\n"  # what llama-server writes into a stream that is silent: no sign that it computes
_MOST_PINGS = 8 * len(_PING)  # bytes of a read that may be nothing else
_JOIN_BELOW = 64 << 10  # bytes: a longer body is not copied behind its head
_BODILESS = (b"GET", b"HEAD")


class Upstream(asyncio.Protocol):
    """The protocol on one connection to a child."""

    __slots__ = (
        "_chunks",
        "_connections",
        "_done",
        "_exchange",
        "_familiar",
        "_head",
        "_left",
        "_one_request",
        "_partial",
        "_reusable",
        "heard_at",
        "idle_since",
        "paused",
        "pooled",
        "transport",
    )

    def __init__(self, connections: ChildConnections) -> None:
        self.transport: asyncio.Transport = cast(asyncio.Transport, None)
        self.idle_since = 0.0
        self.heard_at = 0.0
        self.pooled = False  # it was kept alive before the request that it carries
        self._connections = connections
        self._exchange: Exchange | None = None
        self._one_request = False  # it was told to close behind its first answer
        self.paused = False
        self._partial = b""
        self._head: AnswerHead | None = None
        self._familiar: Familiar[AnswerHead] | None = None  # an answer of a known length that came before
        self._left = 0
        self._chunks: ChunkReader | None = None
        self._done = False
        self._reusable = True

    def pace(self, now: float) -> float:
        """Of the stream that it carries, in pieces a second."""
        return 0.0 if self._exchange is None else self._exchange.pace(now)

    # --- what the exchange asks ---------------------------------------------------------------------------------------

    def send(self, exchange: Exchange, *, one_request: bool = False) -> None:
        """Carry `exchange` on this idle connection. `one_request`: ask the child to close behind its answer."""
        self._exchange = exchange
        exchange.upstream = self
        request, id = exchange.request, exchange.call.id
        body = request.body
        size = len(body)
        if not id or one_request or size >= _JOIN_BELOW or request.method in _BODILESS:
            self._send_unusual(exchange, one_request=one_request)
        else:
            self.transport.write(WITH_BODY % (request.head_start, self._connections.own_lines, id, size, body))
        if exchange.paused:
            self.pause()

    def _send_unusual(self, exchange: Exchange, *, one_request: bool) -> None:
        """Its answer is looked at: it is another one than the last, or may come before all of the body has gone."""
        self._familiar = None
        self._one_request = one_request
        own_lines = self._connections.closing_lines if one_request else self._connections.own_lines
        request = exchange.request
        body_length = None if request.method in _BODILESS else len(request.body)
        self.transport.write(head_for_child(request.head_start, body_length, own_lines, exchange.call.id))
        if body_length:
            self.transport.write(request.body)

    def pause(self) -> None:
        """Read no further: the client does not keep up."""
        if not self.paused and not self.transport.is_closing():
            self.paused = True
            self.transport.pause_reading()

    def resume(self) -> None:
        if self.paused and not self.transport.is_closing():
            self.paused = False
            self._connections.heard()
            self.transport.resume_reading()

    def drop(self) -> None:
        """Cut the connection; nobody is told."""
        self._exchange = None
        self.transport.abort()

    def cut(self) -> None:
        """Cut the connection as if the child had: its exchange is told."""
        self.transport.abort()

    # --- asyncio.Protocol ---------------------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)
        # uvloop keeps what is written to the end of its round, unless it may keep nothing: the child begins at once.
        self.transport.set_write_buffer_limits(high=0)

    def data_received(self, data: bytes) -> None:
        exchange, familiar = self._exchange, self._familiar
        if exchange is None:  # nobody asked for this
            self.transport.abort()
        elif familiar is None or self._head is not None or (payload := familiar.body_of(data)) is None:
            self._read(data, exchange)
        else:  # an answer that is here as a whole and whose head is one that came before: it is not read again
            connections = self._connections
            connections.last_heard = self.heard_at = now = connections.clock()
            head = familiar.means
            head.length = len(payload)
            self._exchange = None
            if self.paused:
                self.resume()
            connections.give_back(self, now)
            exchange.answered_whole(head, payload)

    def eof_received(self) -> None:
        """The child closes: so do we (`connection_lost` follows)."""

    def connection_lost(self, exc: Exception | None) -> None:
        self._connections.forget(self)
        exchange, self._exchange = self._exchange, None
        if exchange is not None:
            exchange.lost(unheard=self.pooled and self._head is None and not self._partial)

    # --- reading an answer --------------------------------------------------------------------------------------------

    def _read(self, data: bytes, exchange: Exchange) -> None:
        connections = self._connections
        self.heard_at = now = connections.clock()
        if len(data) > _MOST_PINGS or data.replace(_PING, b""):
            connections.last_heard = now
        head = None
        try:
            if self._head is None:
                behind = self._read_head(data, head_only=exchange.request.method == b"HEAD")
                if behind is None:
                    return
                data, head = behind, self._head
            payload = self._read_body(data) if data else data
        except BrokenAnswerError as error:
            self.drop()
            exchange.broken(str(error))
            return
        if self._done:
            self._give_back(now)
            exchange.answered(head, payload, True)
        else:
            exchange.answered(head, payload, False)

    def _read_head(self, data: bytes, *, head_only: bool) -> bytes | None:
        """Read the head; what came behind it, or None if it is not whole yet."""
        if self._partial:
            data = self._partial + data
        while True:
            end = data.find(b"\r\n\r\n")
            if end < 0 or end > _MAX_HEAD:
                if len(data) > _MAX_HEAD:
                    raise BrokenAnswerError("its head is too long")
                self._partial = data
                self._familiar = None
                return None
            head = answer_head_of(data[:end], head_only=head_only)
            whole = data
            data = data[end + 4 :]
            if head.status >= 200:
                break
            if head.status == 101:
                raise BrokenAnswerError("it switches protocols unasked")
        self._partial = b""
        self._head = head
        if head.length and not head_only and head.status == 200 and head.reusable and not head.event_stream:
            self._familiar = learn(whole, head)
        return self._begin_body(head, data, head_only=head_only)

    def _begin_body(self, head: AnswerHead, data: bytes, *, head_only: bool) -> bytes:
        """How the body ends; what of it came with the head."""
        # llama-server closes behind an event stream without saying so: the next request would find it closed.
        self._reusable = head.reusable and not self._one_request and not head.event_stream
        if self._reusable and self.transport.get_write_buffer_size():  # answered before it has read the request
            self._reusable = False
        self._chunks = None
        self._left = head.length or 0
        if head_only or head.length == 0:
            self._done = True
            self._left = 0
            if data:  # more than it may say
                self._reusable = False
            return b""
        if head.length is None:
            self._chunks = ChunkReader()
        return data

    def _read_body(self, data: bytes) -> bytes:
        chunks = self._chunks
        if chunks is not None:
            payload = chunks.feed(data)
            if chunks.done:
                self._done = True
                if chunks.rest:
                    self._reusable = False
            return payload
        self._left -= len(data)
        if self._left > 0:
            return data
        self._done = True
        if self._left < 0:
            self._reusable = False
            data = data[: self._left]
        return data

    def _give_back(self, now: float) -> None:
        self._exchange = None
        if self.paused:
            self.resume()
        if self._reusable:
            self._head = None
            self._done = False
            self._connections.give_back(self, now)
        else:
            self.transport.abort()  # a close would wait for what nobody reads any more
