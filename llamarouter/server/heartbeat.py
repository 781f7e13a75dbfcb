"""What the service manager hears of the router: ready, what it does, that it is well, reloading, stopping.

The beat comes from the event loop itself, and only while the supervisor keeps its own time: a loop that hangs, or a
scheduler whose timer nobody rings, is silent, and the manager starts the router anew.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from llamarouter.host.notify import Notifier

_STATUS_EVERY = 5.0  # seconds
# How late the scheduler may be called for something that is due.
_OVERDUE = 10.0  # seconds


class Heartbeat:
    """`deadline`: when the scheduler wants to be called (the loop's time), None: never. `status`: one line."""

    def __init__(self, notifier: Notifier, deadline: Callable[[], float | None], status: Callable[[], str]) -> None:
        self._notifier = notifier
        self._deadline = deadline
        self._status = status
        self._loop = asyncio.get_running_loop()
        self._timer: asyncio.TimerHandle | None = None
        self._said = ""
        self._reloads = 0
        watchdog = notifier.watchdog
        self._every = _STATUS_EVERY if watchdog is None else min(_STATUS_EVERY, watchdog / 3)

    @contextmanager
    def beating(self) -> Iterator[None]:
        """In the block the router is ready; behind it, it says nothing more."""
        if self._notifier.is_heard:
            self._notifier.tell("READY=1")
            self._beat()
        try:
            yield
        finally:
            if self._timer is not None:
                self._timer.cancel()
            self._notifier.close()

    @contextmanager
    def reloading(self) -> Iterator[None]:
        """In the block something is read anew; of several at once the last one ends it."""
        self._reloads += 1
        self._notifier.tell_reloading()
        try:
            yield
        finally:
            self._reloads -= 1
            if not self._reloads:
                self._notifier.tell("READY=1")

    def stopping(self) -> None:
        """The router ends its answers, and then itself; it goes on beating."""
        self._notifier.tell("STOPPING=1")
        self._tell_status()

    def _beat(self) -> None:
        self._timer = self._loop.call_later(self._every, self._beat)
        due = self._deadline()
        if self._notifier.watchdog is not None and (due is None or self._loop.time() - due < _OVERDUE):
            self._notifier.tell("WATCHDOG=1")
        self._tell_status()

    def _tell_status(self) -> None:
        status = self._status()
        if status != self._said:
            self._said = status
            self._notifier.tell(f"STATUS={status}")
