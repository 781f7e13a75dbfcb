"""The door's way out: the `Sink` of what is answered on one client's connection, written straight to its transport."""

from __future__ import annotations

from typing import Any

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from llamarouter.core.errors import RouterError
from llamarouter.core.wire import AnswerHead, answer_lines_of, error_answer_of
from llamarouter.relay.call import Call
from llamarouter.relay.closing import close_by_reset, close_idle, close_softly
from llamarouter.relay.door_options import DoorOptions
from llamarouter.relay.exchange import Exchange
from llamarouter.relay.incoming import Incoming
from llamarouter.relay.queued import Queued
from llamarouter.relay.slow_reader import SlowReader

_MOST_REFUSALS = 24  # requests of one read that may be refused: a millisecond


class WayOut(HttpToolsProtocol):
    """The half of the `Door` that writes; which request is answered, and what comes next, the other half knows."""

    options: DoorOptions

    # Slots beside the parent's dict: with these too it would be larger than what the interpreter is quick with.
    __slots__ = ("_call", "_chunked", "_current", "_deaf", "_ended", "_exchange", "_slow_reader")

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._current: Incoming | None = None  # being answered
        self._exchange: Exchange | Queued | None = None  # answering `_current`, or waiting to
        self._call = Call(b"", 0.0)  # what is known of `_current`
        self._deaf = False  # nothing more is read: the connection ends
        self._chunked = False  # how the current answer is framed
        self._ended = 0  # requests that ended within the read that is being parsed
        self._slow_reader = SlowReader(self.loop, self.options.limits.send_timeout, self._unsent, self._hang_up)

    def pause_writing(self) -> None:
        super().pause_writing()
        self._slow_reader.begin()
        if self._exchange is not None:
            self._exchange.pause()

    def resume_writing(self) -> None:
        super().resume_writing()
        self._slow_reader.end()
        if self._exchange is not None:
            self._exchange.resume()

    @property
    def behind(self) -> bool:
        """Whether the client has still to take what it was sent."""
        return bool(self.flow.write_paused)

    def attach(self, exchange: Exchange) -> None:
        self._exchange = exchange
        exchange.paused = self.flow.write_paused

    def answer(self, head: AnswerHead | None, payload: bytes, done: bool) -> None:
        current = self._current
        if current is None or self.transport.is_closing():
            return
        start = b""
        if head is not None:
            if done and head.length and head.said is not None and current.keep_alive:  # as nearly all are: in one go
                if current.door_headers is not self.server_state.default_headers:
                    self._renew(current)
                parts = (head.said, head.length, self._call.id, current.door_lines, payload)
                self.transport.write(b"%bcontent-length: %d\r\nx-request-id: %b\r\n%b%b" % parts)
                self._next()
                return
            self._chunked = head.length is None and current.version != "1.0"
            start = self._whole(answer_lines_of(head, chunked=self._chunked), current)
        if not self._chunked:
            self.transport.write(start + payload)
        else:
            end = b"0\r\n\r\n" if done and not current.head_only else b""
            if payload:
                self.transport.write(b"%b%x\r\n%b\r\n%b" % (start, len(payload), payload, end))
            else:
                self.transport.write(start + end)
        if done:
            self._answered(current)

    def refuse(self, error: RouterError) -> None:
        current = self._current
        if current is None or self.transport.is_closing():
            return
        current.keep_alive &= current.whole  # else the rest of its body would be read as the next request
        if self.flow.write_paused or self._ended > _MOST_REFUSALS:  # nothing else ends who pipelines nonsense
            current.keep_alive = False
        head, body = error_answer_of(error)
        self._call.bytes_out = len(body)
        self.options.traffic.journal.refused(self._call, error)
        self.transport.write(self._whole(head, current, b"" if current.head_only else body))
        self._answered(current)

    def abort(self, last_words: bytes) -> None:
        if self._current is None or self.transport.is_closing():
            return
        self._deaf = True
        if last_words:
            self.transport.write(b"%x\r\n%b\r\n" % (len(last_words), last_words) if self._chunked else last_words)
        if self._chunked:
            self.transport.close()
        else:
            close_by_reset(self.transport)
        self._over()

    def _whole(self, lines: bytes, current: Incoming, payload: bytes = b"") -> bytes:
        """A head that begins with `lines`, and what comes behind it.

        At its end stands what the door itself says: whether it keeps open, the date, the server's own headers.
        """
        if current.door_headers is not self.server_state.default_headers:
            self._renew(current)
        close = b"" if current.keep_alive else b"connection: close\r\n"
        return b"%b%bx-request-id: %b\r\n%b%b" % (lines, close, self._call.id, current.door_lines, payload)

    def _renew(self, current: Incoming) -> None:
        """What the server says in every answer: uvicorn makes a new list of it every second."""
        current.door_headers = self.server_state.default_headers
        extra_headers = self.options.extra_headers
        extra = b"" if extra_headers is None else extra_headers(current.headers)
        said = b"".join(b"%b: %b\r\n" % pair for pair in current.door_headers)
        current.door_lines = said + extra + b"\r\n"

    def _call_of(self, incoming: Incoming) -> Call:
        """What is known of a request as it comes."""
        id = incoming.request_id or self.options.traffic.journal.new_id()
        return Call(id, incoming.since, self.client, incoming.method, incoming.path)

    @property
    def call(self) -> Call:
        """What is known of the request that is being answered."""
        return self._call

    def _answered(self, current: Incoming) -> None:
        if current.keep_alive:
            self._next()
        else:
            self._close_behind(current)
            self._over()

    def shutdown(self) -> None:
        """The server ends: an idle connection is closed, a busy one after its answer."""
        if self._current is None:
            close_idle(self.transport, self.loop)
        else:
            self._end_behind(self._current)

    def _end_behind(self, current: Incoming) -> None:
        """Close the connection once `current` has its answer."""
        current.keep_alive = False
        if current.handed_over:
            self.cycle.keep_alive = False

    def _break_in(self, error: RouterError) -> None:
        """Refuse a request whose body the application is reading: it hears that its client has left."""
        begun = self.cycle.response_started
        self.cycle.disconnected = True
        self.cycle.message_event.set()
        if begun:
            self._hang_up()
        else:
            self.refuse(error)
            self._deaf = True

    def _close_behind(self, current: Incoming) -> None:
        """The answer to `current` was the last one of this connection."""
        self._deaf = True
        if current.whole:
            self.transport.close()
        else:
            self.flow.resume_reading()
            close_softly(self.transport, self.loop)

    def _unsent(self) -> int:
        return self.transport.get_write_buffer_size()

    def _hang_up(self) -> None:
        """The client is gone, or is to be: leave nothing running for it."""
        raise NotImplementedError

    def _next(self) -> None:
        """The current answer is complete, and the connection lives: on to the next request."""
        raise NotImplementedError

    def _over(self) -> None:
        """The current answer is complete; the connection may end."""
        raise NotImplementedError
