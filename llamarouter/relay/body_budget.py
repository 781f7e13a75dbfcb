"""How many bytes of bodies may be in the router before their requests wait in the queue, which has a limit of its own.

A body is collected whole before a lease is asked for: without a budget, a hundred clients that send slowly would fill
the memory. What is only announced takes nothing, so that nobody can reserve what he never sends.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from llamarouter.core.errors import QueueFull

BUDGET = 256 << 20  # bytes
_RETRY_AFTER = 2.0  # seconds


class Reading:
    """One body while it is read."""

    def __init__(self, budget: BodyBudget) -> None:
        self._budget = budget
        self.bytes = 0

    def take(self, count: int) -> None:
        """So many bytes more are here. Raises `QueueFull`."""
        self._budget.check(count)
        self.bytes += count
        self._budget.used += count

    def end(self) -> None:
        """Nothing of it is read any more."""
        self._budget.used -= self.bytes
        self.bytes = 0


class BodyBudget:
    """One for the whole router."""

    def __init__(self, limit: int = BUDGET) -> None:
        self._limit = limit
        self.used = 0

    def check(self, count: int) -> None:
        """Raise `QueueFull` where so many bytes more are too many now."""
        if self.used + count > self._limit:
            message = f"requests with {self.used >> 20} MiB of bodies are being read already"
            raise QueueFull(message, retry_after=_RETRY_AFTER)

    @contextmanager
    def reading(self) -> Iterator[Reading]:
        """What is taken within counts until its end."""
        reading = Reading(self)
        try:
            yield reading
        finally:
            reading.end()
