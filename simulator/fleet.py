"""The fleet: the models of a simulated box, their sizes and how long each takes to load."""

from __future__ import annotations

import math
import random
from dataclasses import dataclass

GIB = 1 << 30

# A cold load on a box with one NVMe disk: opening, reading, a warm-up. Only ratios of results are meant to be read.
_BYTES_PER_SECOND = 2.5 * GIB
_FIXED_SECONDS = 1.2
_SMALLEST, _LARGEST = 1 * GIB, 20 * GIB
_MEDIAN = 6 * GIB
_SPREAD = 0.7  # of the logarithm: most models are small, a few are large


@dataclass(frozen=True, slots=True)
class SimulatedModel:
    """One model. `bytes` on the one device of the box, once loaded."""

    name: str
    bytes: int
    load_seconds: float
    slots: int = 4


def fleet_of(count: int, budget: int, seed: int) -> tuple[SimulatedModel, ...]:
    """`count` models that fit into `budget` bytes, the same ones for the same seed."""
    random_ = random.Random(f"fleet {seed}")
    return tuple(_model(f"m{number:03}", budget, random_) for number in range(count))


def share_of(name: str, budget: int, share: float) -> SimulatedModel:
    """A model that takes just so much of the device."""
    size = int(budget * share)
    return SimulatedModel(name, size, load_seconds_of(size))


def _model(name: str, budget: int, random_: random.Random) -> SimulatedModel:
    size = int(min(_LARGEST, budget, max(_SMALLEST, random_.lognormvariate(math.log(_MEDIAN), _SPREAD))))
    return SimulatedModel(name, size, load_seconds_of(size))


def load_seconds_of(size: int) -> float:
    """How long a load of `size` bytes takes."""
    return _FIXED_SECONDS + size / _BYTES_PER_SECOND
