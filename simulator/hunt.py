"""The hunt for our own weak spot: boxes and traces drawn at random, kept where we do worst beside strict LRU.

Half of the tries are new, half vary the worst one so far. What is compared is the mean wait of a request: it is what a
fair scheduler pays for, while its longest waits are what it is better at.
"""

from __future__ import annotations

import itertools
import random
from collections.abc import Iterator
from dataclasses import dataclass, replace

from simulator.box import Box
from simulator.contender import Contender
from simulator.fleet import GIB, fleet_of
from simulator.ours import ours
from simulator.plain import StrictLru
from simulator.result import Result, result_of
from simulator.traces import TRACES, Shape


@dataclass(frozen=True, slots=True)
class Scene:
    """One box and one trace."""

    trace: str
    models: int
    gib: int
    rate: float
    answer: float
    seed: int

    def __str__(self) -> str:
        return (
            f"{self.trace}, {self.models} models, {self.gib} GiB, {self.rate:.3g} requests/s, "
            f"answers of {self.answer:.3g} s"
        )


@dataclass(frozen=True, slots=True)
class Found:
    """How much longer a request waits with us than with strict LRU, on average."""

    scene: Scene
    ratio: float
    ours: Result
    other: Result


def hunt(tries: int, requests: int, seed: int) -> Iterator[Found]:
    """Every scene that is worse for us than those before it."""
    random_ = random.Random(f"hunt {seed}")
    worst: Found | None = None
    for number in range(tries):
        scene = _drawn(random_) if worst is None or number % 2 == 0 else _varied(worst.scene, random_)
        found = _compare(scene, requests)
        if worst is None or found.ratio > worst.ratio:
            worst = found
            yield found


def _drawn(random_: random.Random) -> Scene:
    return Scene(
        trace=random_.choice(sorted(TRACES)),
        models=random_.randint(3, 60),
        gib=random_.choice((24, 32, 48, 80)),
        rate=10 ** random_.uniform(-2, 1),
        answer=10 ** random_.uniform(-0.5, 1.5),
        seed=random_.randrange(1 << 16),
    )


def _varied(scene: Scene, random_: random.Random) -> Scene:
    return replace(
        scene,
        rate=scene.rate * 10 ** random_.uniform(-0.3, 0.3),
        answer=scene.answer * 10 ** random_.uniform(-0.3, 0.3),
        models=max(3, scene.models + random_.randint(-3, 3)),
    )


def _compare(scene: Scene, requests: int) -> Found:
    budget = scene.gib * GIB
    trace = TRACES[scene.trace]
    models = trace.models(fleet_of(scene.models, budget, scene.seed), budget)
    calls = list(itertools.islice(trace.calls(models, Shape(scene.rate, scene.seed, scene.answer)), requests))

    def live(contender: Contender) -> Result:
        return result_of(scene.trace, contender.name, Box(models, budget, contender).run(calls))

    mine = live(ours())
    other = live(StrictLru({model.name: model.bytes for model in models}, budget))
    return Found(scene, _ratio(mine, other), mine, other)


def _ratio(mine: Result, other: Result) -> float:
    """A second on top, so that two waits of nearly nothing are not compared."""
    if other.lost > mine.lost:  # whoever is never served waits for ever
        return 0.0
    return (mine.mean + 1.0) / (other.mean + 1.0)
