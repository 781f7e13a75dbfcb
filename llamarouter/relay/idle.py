"""Closing a client's connection on which nothing goes on for long, with one timer for its whole life.

    idle: `closed` after `seconds`        a request comes, and nothing more of it: `stalled` after one to two times that
    a request is answered: nothing to look at until its end restarts the timer

A timer that is set anew by every request would cost more than the request's parsing; this one looks again.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Hashable


class IdleTimer:
    """`busy`: whether something goes on; `reading`: how far the request is that is being read, None where none is."""

    __slots__ = ("_before", "_busy", "_closed", "_handle", "_loop", "_reading", "_seconds", "_since", "_stalled")

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        seconds: float,
        *,
        busy: Callable[[], bool],
        reading: Callable[[], Hashable],
        closed: Callable[[], None],
        stalled: Callable[[], None],
    ) -> None:
        self._loop = loop
        self._seconds = seconds
        self._busy = busy
        self._reading = reading
        self._closed = closed
        self._stalled = stalled
        self._since = 0.0
        self._before: Hashable = None
        self._handle: asyncio.TimerHandle | None = None

    def restart(self) -> None:
        """Something has just ended: idle from now on."""
        self._since = self._loop.time()
        if self._handle is None:
            self._handle = self._loop.call_later(self._seconds, self._look)

    def cancel(self) -> None:
        if self._handle is not None:
            self._handle.cancel()
            self._handle = None

    def _look(self) -> None:
        self._handle = None
        before, self._before = self._before, self._reading()
        if self._before is not None:
            if self._before == before:
                self._stalled()
            else:
                self._handle = self._loop.call_later(self._seconds, self._look)
        elif not self._busy():  # its end restarts the timer
            self._end_or_wait()

    def _end_or_wait(self) -> None:
        left = self._since + self._seconds - self._loop.time()
        if left > 0.001:
            self._handle = self._loop.call_later(left, self._look)
        else:
            self._closed()
