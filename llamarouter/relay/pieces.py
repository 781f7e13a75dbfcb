"""An answer that comes in pieces: what is kept of it for its outcome, and where its events end.

payload --take--> what can be passed on        a stream is cut only between two events, so the beginning of one
            `---> held until its event is whole      that has come without its end waits for it here
"""

from __future__ import annotations

from llamarouter.core.sse import end_of_events

TAIL = 2048  # bytes of an answer's end that its outcome carries
HEAD = 1024  # and of its beginning
_PIECES = 8  # in which the tail is kept: joining them for every token would cost more than relaying it
_MAX_HELD = 256 << 10  # bytes of one event: a longer one passes in pieces, and can no longer be followed by an error


class Pieces:
    """Those of one answer. `events`: it is a stream of events, whose end nobody knows beforehand."""

    __slots__ = ("_head", "_held", "_tail", "bytes", "count", "events", "status", "torn")

    def __init__(self, status: int, *, events: bool) -> None:
        self.status = status
        self.events = events
        self.bytes = 0  # that came
        self.count = 0  # pieces of a stream: a token each, as a rule
        self.torn = False  # a part of an event has been passed on
        self._held = b""  # the beginning of an event that is not whole yet
        self._tail: list[bytes] = []
        self._head = b""  # the beginning of what the tail has no more

    def take(self, payload: bytes) -> bytes:
        """One more, which is not empty; what of it can be passed on."""
        self.bytes += len(payload)
        tail = self._tail
        tail.append(payload)
        if len(tail) > _PIECES or len(payload) > TAIL:
            self._shorten(tail)
        if self.events:
            self.count += 1
            # An event whole in one read, which is how a token comes, is passed on as it is.
            if self._held or self.torn or not payload.endswith(b"\n\n"):
                return self._whole_events(payload)
        return payload

    def rest(self) -> bytes:
        """What is still held, at the end."""
        held, self._held = self._held, b""
        return held

    def ends(self) -> tuple[bytes, bytes]:
        """The end of all that came, and its beginning where the end is not all of it."""
        tail = b"".join(self._tail)
        if len(tail) <= TAIL:
            return tail, self._head
        return tail[-TAIL:], self._head or tail[:HEAD]

    def _shorten(self, tail: list[bytes]) -> None:
        """Keep of what has come the end, and the beginning."""
        if not self._head:
            self._head = b"".join(tail)[:HEAD]
        last = tail[-1]
        self._tail = [last[-TAIL:] if len(last) >= TAIL else b"".join(tail)[-TAIL:]]

    def _whole_events(self, payload: bytes) -> bytes:
        """What can be passed on so that the stream stands between two events; the rest is held."""
        if self._held:
            payload, self._held = self._held + payload, b""
        end = end_of_events(payload)
        if end == len(payload):
            self.torn = False
            return payload
        if len(payload) - end > _MAX_HELD:
            self.torn = True
            return payload
        if end:
            self.torn = False
        elif self.torn:
            return payload
        self._held = payload[end:]
        return payload[:end]
