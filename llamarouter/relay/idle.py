"""Closing a client's connection that has been idle for long, with one timer for its whole life.

A timer that is set anew by every request would cost more than the request's parsing; this one looks again.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable


class IdleTimer:
    """Calls `close` once the connection has been idle for `seconds`; `busy` tells whether something goes on."""

    __slots__ = ("_busy", "_close", "_handle", "_loop", "_seconds", "_since")

    def __init__(
        self, loop: asyncio.AbstractEventLoop, seconds: float, busy: Callable[[], bool], close: Callable[[], None]
    ) -> None:
        self._loop = loop
        self._seconds = seconds
        self._busy = busy
        self._close = close
        self._since = 0.0
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
        if self._busy():  # its end restarts the timer
            return
        left = self._since + self._seconds - self._loop.time()
        if left > 0.001:
            self._handle = self._loop.call_later(left, self._look)
        else:
            self._close()
