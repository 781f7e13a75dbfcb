"""What the figures must reach: a bar for each target, and whether this run is over it.

Ratios and differences are those within a round, from three rounds at least; a row that this run has not measured is
not judged.
"""

from __future__ import annotations

import enum
from collections.abc import Iterable
from dataclasses import dataclass

from bench.measure import Measure


class Kind(enum.Enum):
    """Which figure of a row is held against its bar; the values are how people read it."""

    FIGURE = ""
    HIGHEST = " at most in a round"
    RATIO = " x llama-server's router"
    ADDED = " over reaching the model directly"


@dataclass(frozen=True, slots=True)
class Bar:
    """`row`: what the names of its measures begin with; of two that fit, the longer counts."""

    row: str
    kind: Kind
    most: float | None = None
    least: float | None = None

    def figure(self, measure: Measure) -> float | None:
        """What is judged; None where there is too little to say."""
        match self.kind:
            case Kind.FIGURE:
                return measure.median("lr")
            case Kind.HIGHEST:
                return max(measure.values.get("lr", []), default=None)
            case Kind.RATIO:
                return measure.ratio()
            case Kind.ADDED:
                return measure.added()

    def is_reached(self, figure: float) -> bool:
        """Whether it is good enough."""
        return (self.most is None or figure <= self.most) and (self.least is None or figure >= self.least)


BARS = (
    Bar("small requests, 16 connections: requests", Kind.RATIO, least=6),
    Bar("small requests, 16 connections: CPU", Kind.FIGURE, most=65),
    Bar("small requests, 16 connections: failed", Kind.HIGHEST, most=0),
    Bar("small requests, 1 connection: p50", Kind.ADDED, most=150),
    Bar("small requests, 1 connection: failed", Kind.HIGHEST, most=0),
    Bar("streamed chat, 64 tokens, 4 connections: CPU", Kind.FIGURE, most=35),
    Bar("streamed chat, 64 tokens, 4 connections: failed", Kind.HIGHEST, most=0),
    Bar("small requests, 16 connections, with a key: requests", Kind.RATIO, least=6),
    Bar("small requests, 16 connections, with a key: CPU", Kind.FIGURE, most=65),
    Bar("small requests, 16 connections, with a key: failed", Kind.HIGHEST, most=0),
    Bar("small requests, 1 connection, with a key: p50", Kind.ADDED, most=150),
    Bar("streamed chat, 64 tokens, 4 connections, with a key: CPU", Kind.FIGURE, most=35),
    Bar("streamed chat, 64 tokens, 4 connections, with a key: failed", Kind.HIGHEST, most=0),
    Bar("cold, ", Kind.ADDED, most=15),
    Bar("3 models, 8 clients, --models-max 1: 160 requests", Kind.RATIO, most=0.75),
    Bar("3 models, 8 clients, --models-max 1: lost", Kind.HIGHEST, most=0),
    Bar("3 models, 8 clients, --models-max 2: 160 requests", Kind.RATIO, most=1),
    Bar("3 models, 8 clients, --models-max 2: lost", Kind.HIGHEST, most=0),
    Bar("1,000 at once for a cold model: lost", Kind.HIGHEST, most=0),
    Bar("1,000 at once for a cold model: processes started", Kind.HIGHEST, most=1),
    Bar("1,000 at once for a cold model: longest answer of another", Kind.FIGURE, most=50),
    Bar("start with ", Kind.FIGURE, most=500),
    Bar("GET /models", Kind.FIGURE, most=20),
    Bar("GET /models?reload=1", Kind.FIGURE, most=300),
    Bar("lr ", Kind.FIGURE, most=200),
    Bar("memory, idle", Kind.FIGURE, most=60),
    Bar("memory after the loads", Kind.FIGURE, most=60),
    Bar("memory, 1,000 streams", Kind.FIGURE, most=30),
    # A client that does not read holds what its own socket, the router's for it and one read of the child take.
    Bar("memory, 50 ", Kind.FIGURE, most=60),
    Bar("memory, 50 bodies of which 1 of 20 MB comes", Kind.FIGURE, most=120),
    Bar("memory, an answer of 100 MB", Kind.FIGURE, most=10),
)


@dataclass(frozen=True, slots=True)
class Verdict:
    """One row against its bar."""

    measure: Measure
    bar: Bar
    figure: float

    @property
    def reached(self) -> bool:
        return self.bar.is_reached(self.figure)

    def __str__(self) -> str:
        unit = "" if self.bar.kind is Kind.RATIO else f" {self.measure.unit}"
        limit = f"at most {self.bar.most:g}" if self.bar.most is not None else f"at least {self.bar.least:g}"
        word = "ok" if self.reached else "missed"
        return f"{word:6}  {self.measure.name}: {self.figure:.3g}{unit}{self.bar.kind.value} ({limit})"


def judged(measures: Iterable[Measure]) -> list[Verdict]:
    """Every row that has a bar and figures enough."""
    verdicts = []
    for measure in measures:
        bar = max((bar for bar in BARS if measure.name.startswith(bar.row)), key=lambda bar: len(bar.row), default=None)
        if bar is not None and (figure := bar.figure(measure)) is not None:
            verdicts.append(Verdict(measure, bar, figure))
    return verdicts
