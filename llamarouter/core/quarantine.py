"""Requests that are not let in: each was alone in a child when that crashed, and would crash the next one.

    a child crashes with one request inside -> its mark is held for ten minutes -> the same again is refused at once

A *mark* is what is the same when a client asks the same again: the path and the body, byte for byte, whoever asks. (A
body that calls the model by another name is another one.) It is made of a request only where something is held, and of
the one inside only after the crash. A request beside others is let go: nobody knows which one it was. What changes the
model, and a reload, let everybody in again; so does a new start of the router, which remembers none.
"""

from __future__ import annotations

from collections import OrderedDict
from hashlib import blake2b

from msgspec import Struct

from llamarouter.core.errors import RequestQuarantined

HELD_FOR = 600.0  # seconds
MOST = 1024  # marks of all models together; the oldest go first


class Held(Struct, frozen=True):
    """One request that is kept out."""

    path: str
    crash: str  # what it did
    until: float


def mark_of(target: bytes, body: bytes) -> bytes:
    """The mark of a request; `target`: its path, and a query, which does not count."""
    mark = blake2b(target.partition(b"?")[0] + b"\n", digest_size=16)
    mark.update(body)
    return mark.digest()


class Quarantine:
    """All that are held. Times are those of a monotonic clock."""

    def __init__(self) -> None:
        self._held: OrderedDict[tuple[str, bytes], Held] = OrderedDict()  # in the order in which they end
        # Of which something is held, as far as is known without a look at the clock. Each request asks whether there is
        # any, so it is no property.
        self.models: frozenset[str] = frozenset()

    def crashed(self, model: str, target: bytes, body: bytes, crash: str, now: float) -> None:
        """Hold what was alone in the child of `model`."""
        key = model, mark_of(target, body)
        self._held.pop(key, None)
        self._held[key] = Held(target.partition(b"?")[0].decode("latin-1"), crash, now + HELD_FOR)
        self._forget_old(now)
        self._count()

    def check(self, model: str, mark: bytes, now: float) -> None:
        """Raise `RequestQuarantined` where a request with this mark is held."""
        self._forget_old(now)
        held = self._held.get((model, mark))
        if held is not None:
            raise RequestQuarantined(
                f"this request was alone in the process of model '{model}' when that crashed ({held.crash}); it is not "
                f"let in again for {max(1, round(held.until - now))} s, or until a reload"
            )

    def of(self, model: str, now: float) -> list[Held]:
        """What is held of one model, the latest first."""
        self._forget_old(now)
        return [held for (name, _), held in reversed(self._held.items()) if name == model]

    def forget(self, model: str) -> None:
        """The model, or its engine, is another now."""
        self._keep({key: held for key, held in self._held.items() if key[0] != model})

    def clear(self) -> None:
        """Let everybody in again."""
        self._keep({})

    def _forget_old(self, now: float) -> None:
        known = len(self._held)
        while self._held and (len(self._held) > MOST or next(iter(self._held.values())).until <= now):
            self._held.popitem(last=False)
        if len(self._held) < known:
            self._count()

    def _keep(self, held: dict[tuple[str, bytes], Held]) -> None:
        self._held = OrderedDict(held)
        self._count()

    def _count(self) -> None:
        self.models = frozenset(model for model, _ in self._held)
