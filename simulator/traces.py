"""Traces: who asks for which model when, and for how long he keeps a slot.

    poisson      independent clients, popularity by rank (Zipf): the common case
    bursty       the same mean rate, but a model is asked for in bursts with long pauses between
    diurnal      the rate follows the day, and the popular models of one half of it are not those of the other
    scan         one more model than fits, asked for in turns: the worst that any cache can meet
    hot          two models, of which only one has room, with work all day; a third one is asked for now and then
    giant        small models that fit beside each other, and now and then one that needs nearly all of the device

Times are seconds from the start. A generator is endless; the same seed gives the same trace.
"""

from __future__ import annotations

import itertools
import json
import math
import random
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

from simulator.fleet import SimulatedModel, share_of

_DAY = 86_400.0
_ZIPF = 1.1
_ANSWER = 4.0  # seconds in a slot, on average
_BURST, _BURST_SECONDS = 20, 5.0
_HOT_SHARE = 0.6  # of what one model's slots can do
_RARE = 0.02


class TraceError(Exception):
    """A recorded trace that cannot be read: file, line, what is wrong."""


@dataclass(frozen=True, slots=True)
class Call:
    """One request. `seconds`: how long it keeps its slot."""

    at: float
    model: str
    seconds: float


@dataclass(frozen=True, slots=True)
class Shape:
    """What a trace may vary; `rate` is requests per second over all models."""

    rate: float
    seed: int
    answer: float = _ANSWER


Models = Sequence[SimulatedModel]


@dataclass(frozen=True, slots=True)
class Trace:
    """`models`: those that it asks for, of a fleet and the bytes of the device; `calls`: who asks when."""

    models: Callable[[Models, int], Models]
    calls: Callable[[Models, Shape], Iterator[Call]]


def _poisson(models: Models, shape: Shape) -> Iterator[Call]:
    """Independent clients."""
    random_ = random.Random(f"poisson {shape.seed}")
    popularity = _zipf(models, random_)
    now = 0.0
    while True:
        now += random_.expovariate(shape.rate)
        yield Call(now, popularity(random_), random_.expovariate(1 / shape.answer))


def _bursty(models: Models, shape: Shape) -> Iterator[Call]:
    """Bursts of some requests for one model within a few seconds."""
    random_ = random.Random(f"bursty {shape.seed}")
    return _merged(_bursts(random_, _zipf(models, random_), shape))


def _diurnal(models: Models, shape: Shape) -> Iterator[Call]:
    """A day that is busy and a night that is not, with other favourites."""
    random_ = random.Random(f"diurnal {shape.seed}")
    day, night = _zipf(models, random_), _zipf(models, random_)
    now = 0.0
    while True:
        phase = 0.5 + 0.5 * math.sin(2 * math.pi * now / _DAY)
        now += random_.expovariate(shape.rate * (0.2 + 1.6 * phase))
        favourites = day if random_.random() < phase else night
        yield Call(now, favourites(random_), random_.expovariate(1 / shape.answer))


def _scan(models: Models, shape: Shape) -> Iterator[Call]:
    """Each in turns, for ever."""
    random_ = random.Random(f"scan {shape.seed}")
    now = 0.0
    for model in itertools.cycle(models):
        now += random_.expovariate(shape.rate)
        yield Call(now, model.name, random_.expovariate(1 / shape.answer))


def _hot(models: Models, shape: Shape) -> Iterator[Call]:
    """Requests for the first two one after the other, so many that the slots of one are nearly always busy."""
    random_ = random.Random(f"hot {shape.seed}")
    first, second, rare = models
    rate = _HOT_SHARE * first.slots / shape.answer
    now = 0.0
    while True:
        now += random_.expovariate(rate)
        model = rare if random_.random() < _RARE else random_.choice((first, second))
        yield Call(now, model.name, random_.expovariate(1 / shape.answer))


def _giant(models: Models, shape: Shape) -> Iterator[Call]:
    """Mostly one of the small ones."""
    random_ = random.Random(f"giant {shape.seed}")
    *small, large = models
    now = 0.0
    while True:
        now += random_.expovariate(shape.rate)
        model = large if random_.random() < _RARE else random_.choice(small)
        yield Call(now, model.name, random_.expovariate(1 / shape.answer))


def _all(models: Models, budget: int) -> Models:
    return models


def _one_too_many(models: Models, budget: int) -> Models:
    return models[: _fitting(models, budget) + 1]


def _three_of_a_half(models: Models, budget: int) -> Models:
    return [share_of(name, budget, 0.55) for name in ("hot-a", "hot-b", "rare")]


def _small_and_giant(models: Models, budget: int) -> Models:
    ordered = sorted(models, key=lambda model: model.bytes)
    return [*ordered[: max(2, _fitting(ordered, budget))], share_of("giant", budget, 0.9)]


def _fitting(models: Models, budget: int) -> int:
    """How many of them, from the first one on, fit together."""
    return sum(size <= budget for size in itertools.accumulate(model.bytes for model in models))


TRACES: dict[str, Trace] = {
    "poisson": Trace(_all, _poisson),
    "bursty": Trace(_all, _bursty),
    "diurnal": Trace(_all, _diurnal),
    "scan": Trace(_one_too_many, _scan),
    "hot": Trace(_three_of_a_half, _hot),
    "giant": Trace(_small_and_giant, _giant),
}


def recorded(name: str, lines: Iterable[str], known: set[str]) -> Iterator[Call]:
    """A trace of one JSON object a line: `{"at": 0.5, "model": "m003", "seconds": 2.1}`, in the order of time.

    Raises TraceError with the line and what is wrong with it.
    """
    before = 0.0
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        call = _read(f"{name}:{number}", line)
        if call.model not in known:
            raise TraceError(
                f"{name}:{number}: no model {call.model!r} in the fleet ({', '.join(sorted(known)[:3])} ...)"
            )
        if call.at < before:
            raise TraceError(f"{name}:{number}: {call.at:g} s comes before the {before:g} s of the line above")
        before = call.at
        yield call


def _read(where: str, line: str) -> Call:
    try:
        said = json.loads(line)
        call = Call(float(said["at"]), str(said["model"]), float(said["seconds"]))
    except (ValueError, TypeError, KeyError) as error:
        wanted = '{"at": 0.5, "model": "m003", "seconds": 2.1}'
        raise TraceError(f"{where}: not a request like {wanted}: {error}") from error
    if not (0 <= call.at < math.inf and 0 < call.seconds < math.inf):
        raise TraceError(f"{where}: `at` must be 0 or more and `seconds` more than 0, both finite")
    return call


def _zipf(models: Models, random_: random.Random) -> Callable[[random.Random], str]:
    """Draws a model's name: the r-th in an order of chance is asked for 1/r^s as often as the first."""
    names = [model.name for model in models]
    random_.shuffle(names)
    weights = list(itertools.accumulate(1 / (rank + 1) ** _ZIPF for rank in range(len(names))))

    def draw(random_: random.Random) -> str:
        return random_.choices(names, cum_weights=weights)[0]

    return draw


def _bursts(
    random_: random.Random, popularity: Callable[[random.Random], str], shape: Shape
) -> Iterator[tuple[float, list[Call]]]:
    """When each burst begins, and what is asked in it."""
    now = 0.0
    while True:
        now += random_.expovariate(shape.rate / _BURST)
        model = popularity(random_)
        times = sorted(now + random_.uniform(0, _BURST_SECONDS) for _ in range(_BURST))
        yield now, [Call(at, model, random_.expovariate(1 / shape.answer)) for at in times]


def _merged(bursts: Iterator[tuple[float, list[Call]]]) -> Iterator[Call]:
    """The calls of bursts that overlap, in the order of time."""
    open_: list[Call] = []
    for begins, burst in bursts:
        ready = sorted((call for call in open_ if call.at < begins), key=lambda call: call.at)
        yield from ready
        open_ = [call for call in open_ if call.at >= begins] + burst
