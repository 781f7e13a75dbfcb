"""How much of the queue one key may fill: half of each line, half of all, half of the bytes, where there are others.

Whoever has the other half finds room, however many requests the first one sends. A key that is alone has the whole.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

from msgspec import Struct
from msgspec.structs import replace

from llamarouter.core.errors import QueueFull

_AGAIN = 5.0  # seconds: half a queue is not gone sooner


class Half(Struct, frozen=True):
    """What a share may come to."""

    per_model: int
    in_all: int
    body_bytes: int

    @classmethod
    def of(cls, per_model: int, in_all: int, body_bytes: int) -> Half:
        """Half of what the queue holds, and never nothing."""
        return cls(max(1, per_model // 2), max(1, in_all // 2), max(1, body_bytes // 2))

    def in_line(self, places: int | None) -> Half:
        """The same for a model whose line is bound by itself, to so many places."""
        return self if places is None else replace(self, per_model=max(1, places // 2))


class Share:
    """Those of one key who wait."""

    __slots__ = ("_bytes", "_models", "_waiting")

    def __init__(self) -> None:
        self._models: Counter[str] = Counter()
        self._waiting = 0
        self._bytes = 0

    @contextmanager
    def waiting(self, model: str, body_bytes: int, half: Half) -> Iterator[None]:
        """In the block one more waits. Raises `QueueFull` where that is more than the key's share."""
        self._check(model, body_bytes, half)
        self._models[model] += 1
        self._waiting += 1
        self._bytes += body_bytes
        try:
            yield
        finally:
            self._waiting -= 1
            self._bytes -= body_bytes
            self._models[model] -= 1
            if not self._models[model]:
                del self._models[model]

    def _check(self, model: str, body_bytes: int, half: Half) -> None:
        before = self._models[model]
        if before >= half.per_model:
            message = f"{before} requests of this key wait for model '{model}' already, its share of the queue"
            raise QueueFull(message, retry_after=_AGAIN)
        if self._waiting >= half.in_all or (self._waiting and self._bytes + body_bytes > half.body_bytes):
            what = f"{self._waiting} requests of this key with {self._bytes >> 20} MiB of bodies"
            raise QueueFull(f"{what} wait already, its share of the queue", retry_after=_AGAIN)
