"""The text that Prometheus reads, in its format 0.0.4 and as OpenMetrics 1.0: families of samples, written in order.

    page.family(METRIC, [(labels_of(...), 3)]) ... page.text()

The client library of Prometheus would do the same, and keep the counts, too: it takes 65 ms to import (a third of the
router's start), 3 us for each observation (half of what a small request may cost) and 0.8 s for a page of a thousand
histograms. So this is ours, and the library's parser reads it in the tests.
"""

from __future__ import annotations

import enum
import functools
from bisect import bisect_left
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from itertools import accumulate

from msgspec import Struct

PLAIN = "text/plain; version=0.0.4; charset=utf-8"
OPEN_METRICS = "application/openmetrics-text; version=1.0.0; charset=utf-8"

_INFINITE = float("inf")


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

    def observe(self, value: float) -> None:
        self.counts[bisect_left(self.bounds, value)] += 1
        self.sum += value

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

    family, histograms ... -> write, step by step -> text
    """

    def __init__(self, *, open_metrics: bool = False) -> None:
        self._open_metrics = open_metrics
        self._families: deque[tuple[Metric, Iterator[str]]] = deque()  # not written yet
        self._parts: list[bytes] = []

    @property
    def content_type(self) -> str:
        return OPEN_METRICS if self._open_metrics else PLAIN

    def family(self, metric: Metric, samples: Iterable[tuple[str, float]]) -> None:
        """A counter or a gauge: what stands between each sample's braces, and its value. Without a sample, nothing."""
        self._families.append((metric, _lines_of(metric.name, samples)))

    def histograms(self, metric: Metric, samples: Iterable[tuple[str, Histogram]]) -> None:
        """A family of histograms."""
        self._families.append((metric, (_text_of(metric.name, labels, histogram) for labels, histogram in samples)))

    def write(self) -> Iterator[None]:
        """A family at each step: with thousands of models one takes milliseconds, all together many."""
        while self._families:
            metric, lines = self._families.popleft()
            text = "".join(lines)
            if text:
                # What is no Unicode (half a pair of surrogates, out of a file's name) is no label either.
                self._parts.append((self._head_of(metric) + text).encode("utf-8", "replace"))
            yield

    def text(self) -> bytes:
        """The whole page."""
        for _ in self.write():
            pass
        return b"".join(self._parts) + (b"# EOF\n" if self._open_metrics else b"")

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
        yield f"{name}{{{labels}}} {_number(value)}\n" if labels else f"{name} {_number(value)}\n"


def _text_of(name: str, labels: str, histogram: Histogram) -> str:
    """All lines of one by one substitution: a page of a thousand models has tens of thousands."""
    counts = tuple(accumulate(histogram.counts))
    before = (labels + "," if labels else "").replace("%", "%%")
    braced = f"{{{labels}}}".replace("%", "%%") if labels else ""
    form = _form_of(name, histogram.bounds).replace(_BEFORE, before).replace(_BRACED, braced)
    return form % (*counts, _number(round(histogram.sum, 6)), counts[-1])


# Where the labels go in a form; no text that is written has such a character.
_BEFORE, _BRACED = "\0", "\1"


@functools.cache
def _form_of(name: str, bounds: tuple[float, ...]) -> str:
    """The lines of a histogram, but for its labels and figures."""
    ends = (*(str(float(bound)) for bound in bounds), "+Inf")
    buckets = "".join(f'{name}_bucket{{{_BEFORE}le="{end}"}} %d\n' for end in ends)
    return f"{buckets}{name}_sum{_BRACED} %s\n{name}_count{_BRACED} %d\n"


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
