"""First requests of connections, so many in one go of the event loop: a thousand clients at once hold up nobody else.

    read, unknown head --admitted--> parsed at once
                          `- too many in this go --> put aside with its bytes --(a later go)--> its turn

The loop handles all that is readable before it looks for more. To read a request for the first time and to queue it
costs ten times as much as one whose head its connection has sent before: those never come by here, and wait for one
go of strangers at most.
"""

from __future__ import annotations

import asyncio
from collections import deque
from typing import Protocol

AT_ONCE = 24  # requests in one go: about a millisecond


class Stranger(Protocol):
    """A connection that has sent what must be parsed."""

    loop: asyncio.AbstractEventLoop

    def take_turn(self) -> None:
        """Read what was put aside."""
        ...


class Crowd:
    """Who is admitted in this go, and who waits for the next."""

    def __init__(self) -> None:
        self._left = AT_ONCE
        self._waiting: deque[Stranger] = deque()
        self._armed = False

    def admits(self, stranger: Stranger) -> bool:
        """Whether it may be read now; else its turn comes, once."""
        if not self._armed:
            self._arm(stranger.loop)
        if self._left:
            self._left -= 1
            return True
        self._waiting.append(stranger)
        return False

    def _arm(self, loop: asyncio.AbstractEventLoop) -> None:
        self._armed = True
        loop.call_soon(self._next, loop)

    def _next(self, loop: asyncio.AbstractEventLoop) -> None:
        self._armed = False
        self._left = AT_ONCE
        try:
            for _ in range(min(AT_ONCE, len(self._waiting))):
                self._waiting.popleft().take_turn()
        finally:
            if self._waiting and not self._armed:  # those whose turn it was had left
                self._arm(loop)
