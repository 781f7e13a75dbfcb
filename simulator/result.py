"""One row of the table: what a trace was like for its clients, and what it cost the box, under one contender."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

from simulator.box import Life
from simulator.fleet import GIB


@dataclass(frozen=True, slots=True)
class Result:
    """Waits are seconds from the arrival of a request until it has a slot."""

    trace: str
    contender: str
    requests: int
    loads: int
    gib_loaded: float
    mean: float
    p50: float
    p99: float
    longest: float
    worst_model: str  # the one whose clients wait longest on average, of those with at least ten requests
    worst_mean: float
    lost: int  # refused, failed with their load, or never served
    ends_at: float
    quantiles: tuple[float, ...]  # of the waits, at `QUANTILES`


# Dense towards the end, where the contenders differ.
QUANTILES = (*(step / 100 for step in range(100)), *(1 - 10 ** -(2 + step / 20) for step in range(61)), 1.0)


def result_of(trace: str, contender: str, life: Life) -> Result:
    """The row of a life."""
    waits = sorted(life.waits)
    model, worst = _worst(life)
    return Result(
        trace=trace,
        contender=contender,
        requests=len(waits) + life.refused + life.unserved,
        loads=life.starts,
        gib_loaded=life.bytes_loaded / GIB,
        mean=sum(waits) / len(waits) if waits else 0.0,
        p50=_at(waits, 0.50),
        p99=_at(waits, 0.99),
        longest=_at(waits, 1.0),
        worst_model=model,
        worst_mean=worst,
        lost=life.refused + life.unserved,
        ends_at=life.ends_at,
        quantiles=tuple(_at(waits, quantile) for quantile in QUANTILES),
    )


def _at(ordered: Sequence[float], quantile: float) -> float:
    return ordered[min(len(ordered) - 1, int(quantile * len(ordered)))] if ordered else 0.0


def _worst(life: Life) -> tuple[str, float]:
    by_model: dict[str, list[float]] = defaultdict(list)
    for model, wait in zip(life.models, life.waits, strict=True):
        by_model[model].append(wait)
    means = {model: sum(waits) / len(waits) for model, waits in by_model.items() if len(waits) >= 10}
    return max(means.items(), key=lambda item: item[1], default=("-", 0.0))
