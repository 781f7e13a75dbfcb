"""What has happened since the router was started, in figures: counted when it is over, read at each scrape.

    Tally -- ModelTally, by id -- RouteTally, by kind of route
       `---- KeyTally, by name

Of models and keys that are gone nothing is kept: `keep` drops them, so what is held has the size of the list.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Container, Iterable, Sequence

from msgspec import Struct, field

from llamarouter.core.exposition import Histogram
from llamarouter.core.metric_table import ANSWER_SECONDS, LOAD_SECONDS, NO_ANSWER, QUEUE_SECONDS
from llamarouter.core.tokens import Tokens

_CLASSES = (NO_ANSWER, *(f"{number}xx" for number in range(1, 10)))

# By kind, and whether they are guessed.
TokenCounts = Counter[tuple[str, bool]]


class RouteTally(Struct, eq=False):
    """The requests of one kind to one model."""

    statuses: list[int] = field(default_factory=lambda: [0] * len(_CLASSES))  # by class
    duration: Histogram = field(default_factory=lambda: Histogram(ANSWER_SECONDS))
    first_byte: Histogram = field(default_factory=lambda: Histogram(ANSWER_SECONDS))
    bytes_in: int = 0
    bytes_out: int = 0

    def add(
        self,
        statuses: Iterable[int],
        seconds: Sequence[float],
        firsts: Sequence[float],
        bytes_in: Iterable[int],
        bytes_out: Iterable[int],
    ) -> None:
        """Requests that were in their model, `seconds` each; `firsts`: to the first byte of those answers that had one.

        They come in batches, because all of it happens in C then.
        """
        for status, count in Counter(statuses).items():
            self.statuses[status // 100] += count
        self.bytes_in += sum(bytes_in)
        self.bytes_out += sum(bytes_out)
        self.duration.observe(seconds)
        self.first_byte.observe(firsts)


class ModelTally(Struct, eq=False):
    """One model."""

    routes: dict[str, RouteTally] = field(default_factory=dict)
    refusals: Counter[str] = field(default_factory=Counter)  # by reason
    broken: Counter[str] = field(default_factory=Counter)  # by whom
    waits: Histogram = field(default_factory=lambda: Histogram(QUEUE_SECONDS))  # of those that had to wait
    load_wait: float = 0.0
    tokens: TokenCounts = field(default_factory=Counter)
    loads: Counter[str] = field(default_factory=Counter)  # by result
    load_time: Histogram = field(default_factory=lambda: Histogram(LOAD_SECONDS))
    stops: Counter[str] = field(default_factory=Counter)  # by reason
    failures: Counter[tuple[str, str]] = field(default_factory=Counter)  # by stage and cause

    def route(self, kind: str) -> RouteTally:
        """The figures of a kind of route, also where there are none yet."""
        known = self.routes.get(kind)
        if known is None:
            known = self.routes[kind] = RouteTally()
        return known

    def waited(self, queue: float, load: float) -> None:
        """A request that was in the model had waited for so long."""
        self.waits.observe((queue,))
        self.load_wait += load

    def queue(self) -> Histogram:
        """How long all waited that were in the model: most did not."""
        histogram = Histogram(QUEUE_SECONDS)
        histogram.sum = self.waits.sum
        histogram.counts = [*self.waits.counts]
        histogram.counts[0] += sum(route.duration.count for route in self.routes.values()) - self.waits.count
        return histogram

    def loaded(self, seconds: float) -> None:
        """It is ready, so many seconds after its process was started."""
        self.loads["ready"] += 1
        self.load_time.observe((seconds,))

    def stopped(self, reason: str, *, loading: bool) -> None:
        """The router ends its process."""
        self.stops[reason] += 1
        if loading:
            self.loads["stopped"] += 1

    def failed(self, cause: str, *, loading: bool) -> None:
        """Its process ended, and nobody had asked it to."""
        self.failures["loading" if loading else "serving", cause] += 1
        if loading:
            self.loads["failed"] += 1


class KeyTally(Struct, eq=False):
    """One key."""

    statuses: list[int] = field(default_factory=lambda: [0] * len(_CLASSES))
    refusals: Counter[str] = field(default_factory=Counter)
    tokens: TokenCounts = field(default_factory=Counter)

    def add(self, statuses: Iterable[int]) -> None:
        """Requests of its, by how they were answered."""
        for status, count in Counter(statuses).items():
            self.statuses[status // 100] += count


class Tally:
    """Everything that is counted."""

    def __init__(self) -> None:
        self.models: dict[str, ModelTally] = {}
        self.keys: dict[str, KeyTally] = {}

    def model(self, model: str) -> ModelTally:
        """The figures of a model, also where there are none yet."""
        known = self.models.get(model)
        if known is None:
            known = self.models[model] = ModelTally()
        return known

    def key(self, key: str) -> KeyTally:
        """The figures of a key, likewise."""
        known = self.keys.get(key)
        if known is None:
            known = self.keys[key] = KeyTally()
        return known

    def keep(self, models: Container[str], keys: Container[str]) -> None:
        """Forget what is neither one of these models nor one of these keys."""
        for model in [model for model in self.models if model not in models]:
            del self.models[model]
        for key in [key for key in self.keys if key not in keys]:
            del self.keys[key]


def by_class(statuses: Iterable[int]) -> list[tuple[str, int]]:
    """The classes of statuses that there were, and how often."""
    return [(name, count) for name, count in zip(_CLASSES, statuses, strict=True) if count]


def add_tokens(counts: TokenCounts, tokens: Tokens) -> None:
    """Count what one request took."""
    for kind, number in (
        ("prompt", tokens.prompt - tokens.cached),
        ("cached", tokens.cached),
        ("generated", tokens.completion),
    ):
        if number:
            counts[kind, tokens.estimated] += number
