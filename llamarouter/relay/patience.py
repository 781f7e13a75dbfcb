"""A sink for who may have to wait: it tells a stream what it waits for, and everybody else how long he has waited.

    quiet --(a stream that waits for `after` seconds)--> begun: 200 and a comment, then one every now and then
      |                                                    |-- a stream from the child --> its events, in the same body
      |                                                    `-- a refusal, or any other answer --> error event, abort
      `-- the child's answer --> as it came, with the times of its wait, if there was one

Once it is begun a failure has no status left: it is the error event of the route's dialect, behind which the body is
broken off, as behind any stream that fails: not everybody reads events, and one client's library (that of OpenAI, for
`/v1/responses`) takes such an event for a part of the answer and raises only for a body without its end.
Comments go on until the child answers: a long prompt is silent, too. Not so for a conversation, whose stream can be
taken up again at any byte: what the router said in it must not grow any more once somebody may ask for a part of it.
"""

from __future__ import annotations

import asyncio
from typing import Protocol

from llamarouter.core.body import asks_for_stream, form_asks_for_stream
from llamarouter.core.errors import RouterError
from llamarouter.core.outlook import READING, words_behind
from llamarouter.core.routes import Route, Streams
from llamarouter.core.sse import answered_error_event, comment, error_event
from llamarouter.core.wire import AnswerHead, event_stream_head, with_lines
from llamarouter.relay.exchange import Exchange, Request, Sink
from llamarouter.relay.switchboard import Wait
from llamarouter.relay.traffic import Traffic

# The next comment comes as soon as the first did, but at least so often, and at most: nginx ends a silence of 60 s.
_SELDOM, _OFTEN = 15.0, 0.1  # seconds
_SMALL = 1 << 20  # bytes: a larger body is decoded off the event loop
_MAX_ERROR = 64 << 10  # bytes of an answer that is no stream


class WaitableSink(Sink, Protocol):
    """A sink whose end can be awaited."""

    @property
    def broken_off(self) -> bool: ...

    @property
    def behind(self) -> bool:
        """Whether the client has still to take what it was sent."""
        ...

    async def until_ended(self) -> None: ...


class Patience:
    """A `WaitableSink` in front of another, for one request. `after`: seconds until the first comment; 0: none.

    `close` it when the client has left, or its answer has ended.
    """

    def __init__(self, sink: WaitableSink, request: Request, route: Route, traffic: Traffic, after: float) -> None:
        self.wait = Wait()
        self.comments = b""  # all that were said
        self._sink = sink
        self._request = request
        self._traffic = traffic
        self._every = max(_OFTEN, min(after, _SELDOM))
        self._begun = False
        self._inside = False  # in the child
        self._streams = False  # found out before its time, in a model that wakes up
        self._quiet = False  # no comment is to come any more
        self._misfit: AnswerHead | None = None  # of an answer that does not belong into a stream
        self._kept = b""  # of that
        self._sending: asyncio.Task[None] | None = None
        self._awaited = False
        self._timer: asyncio.TimerHandle | None = None
        self._asks = form_asks_for_stream if route.streams is Streams.FORM else asks_for_stream
        if after and route.streams is not Streams.NEVER:
            self._timer = asyncio.get_running_loop().call_later(after, self._due)

    @property
    def broken_off(self) -> bool:
        return self._sink.broken_off

    @property
    def behind(self) -> bool:
        return self._sink.behind

    async def until_ended(self) -> None:
        """Return when the answer is complete, refused or aborted."""
        self._awaited = True
        if self._sending is not None:
            await self._sending
        else:
            await self._sink.until_ended()

    def close(self) -> None:
        """No more comments."""
        self._hush()
        if self._sending is not None:
            self._sending.cancel()

    # --- the sink -----------------------------------------------------------------------------------------------------

    def attach(self, exchange: Exchange) -> None:
        self._inside = True
        if (call := self._request.call) is not None:
            call.queue, call.load = self.wait.seconds - self.wait.load_seconds, self.wait.load_seconds
        if not self._begun and self.wait.waking is not None and len(exchange.request.body) <= _SMALL:
            self._streams = self._asks(exchange.request.body)
        if self._request.conversation is not None or not (self._begun or self._streams):
            self._hush()
        self._sink.attach(exchange)

    def answer(self, head: AnswerHead | None, payload: bytes, done: bool) -> None:
        if self._begun:
            self._go_on(head, payload, done)
        else:
            if head is not None:
                self._hush()  # a model that was being woken answers before the first comment
                if self.wait.seconds:
                    head = with_lines(head, [b"%b: %b" % pair for pair in _times_of(self.wait)])
            self._sink.answer(head, payload, done)

    def refuse(self, error: RouterError) -> None:
        self._hush()
        if (call := self._request.call) is not None:
            self._traffic.journal.refused(call, error)
        if self._begun:
            self._sink.abort(error_event(self._request.dialect, error))
        else:
            self._sink.refuse(error.having(*_times_of(self.wait)) if self.wait.seconds else error)

    def abort(self, last_words: bytes) -> None:
        self._hush()
        if self._misfit is not None:
            last_words = answered_error_event(self._request.dialect, self._misfit.status, b"")
        self._sink.abort(last_words)

    # --- inside -------------------------------------------------------------------------------------------------------

    def _hush(self) -> None:
        self._quiet = True
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _due(self) -> None:
        """It waits for long: is it a stream?"""
        self._timer = None
        body = self._request.body
        if len(body) > _SMALL:
            self._traffic.spawn(self._look_into(body))
        elif self._streams or self._asks(body):
            self._begin()

    async def _look_into(self, body: bytes) -> None:
        if await asyncio.to_thread(self._asks, body) and not self._quiet:
            self._begin()

    def _begin(self) -> None:
        self._begun = True
        self._say(event_stream_head(), self._words())
        if not self._awaited:
            self._sending = self._traffic.spawn(self._sink.until_ended())
        self._timer = asyncio.get_running_loop().call_later(self._every, self._remind)

    def _remind(self) -> None:
        self._timer = asyncio.get_running_loop().call_later(self._every, self._remind)
        if not self._sink.behind:  # who does not read what he was told is told no more
            self._say(None, self._words())

    def _words(self) -> str:
        if not self._inside:
            return self.wait.words()
        return READING if self.wait.waking is None else self.wait.waking()

    def _say(self, head: AnswerHead | None, words: str) -> None:
        said = comment(words)
        self.comments += said
        self._sink.answer(head, said, False)

    def _go_on(self, head: AnswerHead | None, payload: bytes, done: bool) -> None:
        """The child's answer in the stream that is begun."""
        if head is not None:
            self._hush()
            if head.status != 200 or not head.event_stream:
                self._misfit = head
            elif self._request.conversation is None and self.wait.seconds:
                self._say(None, words_behind(self.wait.seconds, self.wait.load_seconds))
        if self._misfit is None:
            if payload or done:
                self._sink.answer(None, payload, done)
            return
        self._kept += payload[: _MAX_ERROR - len(self._kept)]
        if done:
            self._sink.abort(answered_error_event(self._request.dialect, self._misfit.status, self._kept))


def _times_of(wait: Wait) -> list[tuple[bytes, bytes]]:
    """Headers that say how long a request has waited, in milliseconds."""
    load = round(1000 * wait.load_seconds)
    queue = round(1000 * wait.seconds) - load
    return [
        (b"x-lr-queue-ms", b"%d" % queue),
        (b"x-lr-load-ms", b"%d" % load),
        (b"server-timing", b"queue;dur=%d, load;dur=%d" % (queue, load)),
    ]
