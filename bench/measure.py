"""What is measured: figures of several candidates, taken in turns, and the ratios that they give.

The ratio (and the difference) of two candidates is the median over the rounds of that within one round, from three
rounds at least.
"""

from __future__ import annotations

import statistics
from dataclasses import dataclass, field

FEWEST_PAIRS = 3


@dataclass(slots=True)
class Measure:
    """One row of the table. `better`: which way it should go."""

    name: str
    unit: str
    better: str = "less"  # or "more"
    values: dict[str, list[float]] = field(default_factory=dict)  # by candidate, one for each round

    def add(self, candidate: str, value: float) -> None:
        """The figure of the next round."""
        self.values.setdefault(candidate, []).append(value)

    def median(self, candidate: str) -> float | None:
        """The figure of a candidate, if it has one."""
        values = self.values.get(candidate)
        return statistics.median(values) if values else None

    def ratio(self, ours: str = "lr", theirs: str = "reference") -> float | None:
        """How many times theirs ours is; None where there are too few pairs to say."""
        pairs = list(zip(self.values.get(ours, []), self.values.get(theirs, []), strict=False))
        if len(pairs) < FEWEST_PAIRS or any(not other for _, other in pairs):
            return None
        return statistics.median(one / other for one, other in pairs)

    def added(self, ours: str = "lr", base: str = "direct") -> float | None:
        """By how much ours is above the base; None where there are too few pairs to say."""
        pairs = list(zip(self.values.get(ours, []), self.values.get(base, []), strict=False))
        return statistics.median(one - other for one, other in pairs) if len(pairs) >= FEWEST_PAIRS else None


def rotated(names: list[str], number: int) -> list[str]:
    """The order of the candidates in a round: each begins in its turn."""
    start = number % len(names)
    return names[start:] + names[:start]
