"""A client that does not take what there is for it: who reads nothing for `seconds` is let go.

    begin (more is unsent than the transport likes, or it waits to close) --seconds--> less unsent than then? again
      `-- end (it has taken enough)                                                    else `gone`

The timer is not touched by who reads and pauses in turns: it looks again, and stops by itself.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable


class SlowReader:
    __slots__ = ("_before", "_gone", "_handle", "_loop", "_seconds", "_since", "_unsent", "_waiting")

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        seconds: float,
        unsent: Callable[[], int],
        gone: Callable[[], None],
    ) -> None:
        self._loop = loop
        self._seconds = seconds
        self._unsent = unsent
        self._gone = gone
        self._waiting = False
        self._since = 0.0
        self._before = 0  # bytes
        self._handle: asyncio.TimerHandle | None = None

    def begin(self) -> None:
        """From now on something should be taken."""
        self._waiting = True
        self._since = self._loop.time()
        self._before = self._unsent()
        if self._handle is None:
            self._handle = self._loop.call_later(self._seconds, self._look)

    def end(self) -> None:
        self._waiting = False

    def over(self) -> None:
        """The connection is lost. It is let go of, so that nothing of it is left to the garbage collector."""
        if self._handle is not None:
            self._handle.cancel()
            self._handle = None
        self._unsent, self._gone = _nothing, _nobody

    def _look(self) -> None:
        self._handle = None
        if not self._waiting:
            return
        unsent = self._unsent()
        if unsent < self._before:
            self._since, self._before = self._loop.time(), unsent
        left = self._since + self._seconds - self._loop.time()
        if left > 0.001:
            self._handle = self._loop.call_later(left, self._look)
        else:
            self._gone()


def _nothing() -> int:
    return 0


def _nobody() -> None:
    pass
