"""What happened, in bounded memory: what became of how many requests of each kind, what was lost, what was done."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

from soak.verdict import Fate

_KEPT = 20  # of what was lost, or did not go as it should
_SHOWN = 400


@dataclass(slots=True)
class Book:
    """`lost` and `misdone` are for a person, the first ones; `fates` and `deeds` count all of them."""

    fates: Counter[tuple[str, Fate]] = field(default_factory=Counter)
    slowest: dict[str, float] = field(default_factory=dict)
    deeds: Counter[str] = field(default_factory=Counter)
    lost: list[str] = field(default_factory=list)
    misdone: list[str] = field(default_factory=list)
    failures: int = 0  # deeds that did not go as they should

    def note(self, kind: str, fate: Fate, seconds: float, why: str) -> None:
        self.fates[kind, fate] += 1
        self.slowest[kind] = max(self.slowest.get(kind, 0.0), seconds)
        if fate is Fate.LOST and len(self.lost) < _KEPT:
            self.lost.append(f"{kind}: {why[:_SHOWN]}")

    def misdo(self, what: str, why: str) -> None:
        self.failures += 1
        if len(self.misdone) < _KEPT:
            self.misdone.append(f"{what}: {why[:_SHOWN]}")

    def count(self, fate: Fate) -> int:
        return sum(number for (_, each), number in self.fates.items() if each is fate)

    @property
    def requests(self) -> int:
        return self.fates.total()
