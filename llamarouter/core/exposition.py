"""The text that Prometheus reads, in its format 0.0.4 and as OpenMetrics 1.0: families of samples, written in order.

    page.family(METRIC, [(labels_of(...), 3)]) ... page.pieces()

The client library of Prometheus would do the same, and keep the counts, too: it takes 65 ms to import (a third of the
router's start), 3 us for each observation (half of what a small request may cost) and 0.8 s for a page of a thousand
histograms. So this is ours, and the library's parser reads it in the tests.
"""

from __future__ import annotations

import enum
import functools
from bisect import bisect_left
from collections import Counter, deque
from collections.abc import Iterable, Iterator, Sequence
from itertools import accumulate, islice, repeat

from msgspec import Struct

PLAIN = "text/plain; version=0.0.4; charset=utf-8"
OPEN_METRICS = "application/openmetrics-text; version=1.0.0; charset=utf-8"

_INFINITE = float("inf")

_LINES = 32  # in a piece, or so many histograms: what is written meanwhile fits into a cache of the processor
_PIECES = 8  # of histograms at each step: a millisecond
_WHOLE = 1 << 30


class Kind(enum.Enum):
    """What Prometheus may do with a metric; the word of its TYPE line."""

    COUNTER = "counter"  # only ever rises, while the router runs
    GAUGE = "gauge"
    HISTOGRAM = "histogram"
    UNKNOWN = "untyped"


class Metric(Struct, frozen=True):
    """One family. `labels`: their names in order, for people and tests; `le` is not named."""

    name: str
    kind: Kind
    labels: tuple[str, ...]
    help: str


class Histogram:
    """Observations by how large they were. `bounds`: the upper ends of its buckets, inclusive, in order."""

    __slots__ = ("bounds", "counts", "sum")

    def __init__(self, bounds: tuple[float, ...]) -> None:
        self.bounds = bounds
        self.counts = [0] * (len(bounds) + 1)
        self.sum = 0.0

    def observe(self, values: Sequence[float]) -> None:
        counts = self.counts
        for bucket, count in Counter(map(bisect_left, repeat(self.bounds), values)).items():
            counts[bucket] += count
        self.sum += sum(values)

    @property
    def count(self) -> int:
        return sum(self.counts)


def labels_of(names: Sequence[str], values: Sequence[str]) -> str:
    """What stands between the braces of a sample: any text can be a value."""
    return ",".join(map(_pair, names, values))


@functools.lru_cache(maxsize=8192)
def _pair(name: str, value: str) -> str:
    """One of them: the same stands in hundreds of lines."""
    return f'{name}="{_escaped(value)}"'


def wants_open_metrics(accept: str) -> bool:
    """Whether an `Accept` header asks for OpenMetrics, as Prometheus does from version 2.5 on."""
    for part in accept.split(","):
        media, *parameters = (word.strip().lower() for word in part.split(";"))
        if media == "application/openmetrics-text":
            said = dict(each.partition("=")[::2] for each in parameters)
            return said.get("version", "1.0.0") in ("1.0.0", "0.0.1") and not _is_zero(said.get("q", "1"))
    return False


class Page:
    """One answer to a scrape. Each family is named once, and whole; its samples are read when it is written.

    family, histograms ... -> write, step by step -> pieces
    """

    def __init__(self, *, open_metrics: bool = False) -> None:
        self._open_metrics = open_metrics
        self._families: deque[tuple[Metric, Iterator[str], int]] = deque()  # not written yet; pieces at each step
        self._pieces: list[bytes] = []

    @property
    def content_type(self) -> str:
        return OPEN_METRICS if self._open_metrics else PLAIN

    def family(self, metric: Metric, samples: Iterable[tuple[str, float]]) -> None:
        """A counter or a gauge: what stands between each sample's braces, and its value. Without a sample, nothing."""
        self._families.append((metric, _lines_of(metric.name, samples), _WHOLE))

    def histograms(self, metric: Metric, samples: Iterable[tuple[str, Histogram]]) -> None:
        """A family of histograms. Much may happen between one and the next."""
        lines = (_text_of(metric.name, labels, histogram) for labels, histogram in samples)
        self._families.append((metric, lines, _PIECES))

    def write(self) -> Iterator[None]:
        """A family at each step, or some of its histograms: with thousands of models all together take long.

        It is kept in pieces: to put ten megabytes together takes as long as to write them, most of it in the kernel,
        which has to find the memory.
        """
        while self._families:
            metric, lines, most = self._families.popleft()
            head, written = self._head_of(metric), 0
            while text := "".join(islice(lines, _LINES)):
                # What is no Unicode (half a pair of surrogates, out of a file's name) is no label either.
                self._pieces.append((head + text).encode("utf-8", "replace"))
                head, written = "", written + 1
                if written % most == 0:
                    yield
            yield

    def pieces(self) -> list[bytes]:
        """The whole page."""
        for _ in self.write():
            pass
        return [*self._pieces, b"# EOF\n"] if self._open_metrics else self._pieces

    def _head_of(self, metric: Metric) -> str:
        name, word, help = metric.name, metric.kind.value, _help_of(metric.help)
        if self._open_metrics:
            help = help.replace('"', '\\"')
            if metric.kind is Kind.COUNTER:
                name = name.removesuffix("_total")
                if name == metric.name:  # a counter of llama-server's that is none
                    word = "unknown"
            elif metric.kind is Kind.UNKNOWN:
                word = "unknown"
        return f"# HELP {name} {help}\n# TYPE {name} {word}\n"


def _lines_of(name: str, samples: Iterable[tuple[str, float]]) -> Iterator[str]:
    for labels, value in samples:
        number = value if type(value) is int else _number(value)
        yield f"{name}{{{labels}}} {number}\n" if labels else f"{name} {number}\n"


def _text_of(name: str, labels: str, histogram: Histogram) -> str:
    """All lines of one by two substitutions: a page of a thousand models has tens of thousands."""
    counts = tuple(accumulate(histogram.counts))
    before, braced = (f"{{{labels},", f"{{{labels}}}") if labels else ("{", "")
    buckets = (_form_of(histogram.bounds) % counts).replace(_BEFORE, f"{name}_bucket{before}")
    return f"{buckets}{name}_sum{braced} {_number(round(histogram.sum, 6))}\n{name}_count{braced} {counts[-1]}\n"


_BEFORE = "\0"  # where the name and the labels go in a form


@functools.cache
def _form_of(bounds: tuple[float, ...]) -> str:
    """The buckets of a histogram, but for its name, its labels and its figures."""
    ends = (*(str(float(bound)) for bound in bounds), "+Inf")
    return "".join(f'{_BEFORE}le="{end}"}} %d\n' for end in ends)


def _number(value: float) -> str:
    if value == _INFINITE:
        return "+Inf"
    return "-Inf" if value == -_INFINITE else "NaN" if value != value else repr(value)


def _escaped(value: str) -> str:
    return value.replace("\\", "\\\\").replace("\n", "\\n").replace('"', '\\"')


def _help_of(text: str) -> str:
    return text.replace("\\", "\\\\").replace("\n", "\\n")


def _is_zero(weight: str) -> bool:
    try:
        return float(weight) == 0.0
    except ValueError:
        return False
