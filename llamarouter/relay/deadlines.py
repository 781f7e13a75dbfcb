"""When a client's connection is to end because its client does not send, with one timer for its whole life.

    fresh, idle        `idled`     header-timeout after it was made; keepalive-timeout after its last answer
    head comes         `stalled`   header-timeout after its first byte
    body comes         `stalled`   body-timeout after its last byte, or once all of it has taken too long
    is answered        nothing to look at: its end restarts the timer

A body may take the body-timeout, and once more for each MiB of it: who sends a byte now and then does not stay for
ever. A timer that is set anew by every request would cost more than the request's parsing: this one looks again, and
is set to an earlier time only by a request that does not come as a whole, and by the first answer after a look.
"""

from __future__ import annotations

import asyncio
from typing import Protocol

from llamarouter.core.door_limits import DoorLimits
from llamarouter.relay.incoming import Incoming


class Connection(Protocol):
    """What goes on, and what to do where nothing does."""

    def reading(self) -> Incoming | None: ...

    def is_idle(self) -> bool: ...

    def is_held(self) -> bool: ...

    def idled(self) -> None: ...

    def stalled(self) -> None: ...


class Deadlines:
    __slots__ = ("_connection", "_handle", "_idle_for", "_limits", "_loop", "_moved", "restarted", "since")

    def __init__(self, loop: asyncio.AbstractEventLoop, limits: DoorLimits, connection: Connection) -> None:
        self._loop = loop
        self._limits = limits
        self._connection: Connection | None = connection  # None: it is lost
        self._idle_for = limits.header_timeout
        self.since = 0.0  # when it became idle last
        self.restarted = False  # and the timer is set for that
        self._moved = 0.0  # when something of a body came last
        self._handle: asyncio.TimerHandle | None = None

    def begin(self) -> None:
        """The connection is made."""
        self.since = self._loop.time()
        self._handle = self._loop.call_later(self._idle_for, self._look)

    def restart(self) -> None:
        """An answer has just ended: idle `since` then. Once `restarted`, that is all that has to be set."""
        self.restarted = True
        self._idle_for = self._limits.keepalive_timeout
        # That of a fresh connection may ring too late: who is idle may have less time than a head.
        if self._handle is None or self._handle.when() > self.since + self._idle_for:
            self._cancel()
            self._handle = self._loop.call_later(self._idle_for, self._look)

    def expect_more(self, incoming: Incoming) -> None:
        """Something of a request came, and there has to come more."""
        self._moved = self._loop.time()
        due = self._due(incoming)
        if self._handle is None or self._handle.when() > due:
            self._cancel()
            self._handle = self._loop.call_at(due, self._look)

    def over(self) -> None:
        """The connection is lost, and let go of: nothing of it is left to the garbage collector."""
        self._cancel()
        self._connection = None

    def _cancel(self) -> None:
        if self._handle is not None:
            self._handle.cancel()
            self._handle = None

    def _due(self, incoming: Incoming) -> float:
        head = max(incoming.since, self.since) + self._limits.header_timeout
        if not incoming.head_complete:
            return head
        for_each = self._limits.body_timeout
        return min(self._moved + for_each, head + for_each * (1 + (incoming.body_bytes >> 20)))

    def _look(self) -> None:
        self._handle = None
        self.restarted = False
        connection, now = self._connection, self._loop.time()
        if connection is None:
            return
        incoming = connection.reading()
        if incoming is not None:
            if connection.is_held():
                self._moved = now
            due, late = self._due(incoming), connection.stalled
        elif connection.is_idle():
            due, late = self.since + self._idle_for, connection.idled
        else:
            return  # its end restarts the timer
        if due - now > 0.001:
            self._handle = self._loop.call_at(due, self._look)
        else:
            late()
