"""The text that Prometheus reads, in its format 0.0.4 and as OpenMetrics 1.0: families of samples, written in order.

    Page(open_metrics).family(METRIC, [(labels_of(...), 3)]) ... .text()

The client library of Prometheus would do the same, and keep the counts, too: it takes 65 ms to import (a third of the
router's start), 3 us for each observation (half of what a small request may cost) and 0.8 s for a page of a thousand
histograms. So this is ours, and the library's parser reads it in the tests.
"""

from __future__ import annotations

import enum
import functools
from bisect import bisect_left
from collections.abc import Iterable, Sequence

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
    return ",".join(f'{name}="{_escaped(value)}"' for name, value in zip(names, values, strict=True))


def wants_open_metrics(accept: str) -> bool:
    """Whether an `Accept` header asks for OpenMetrics, as Prometheus does from version 2.5 on."""
    for part in accept.split(","):
        media, *parameters = (word.strip().lower() for word in part.split(";"))
        if media == "application/openmetrics-text":
            said = dict(each.partition("=")[::2] for each in parameters)
            return said.get("version", "1.0.0") in ("1.0.0", "0.0.1") and not _is_zero(said.get("q", "1"))
    return False


class Page:
    """One answer to a scrape, as it is being written. Each family is written once, and whole."""

    def __init__(self, *, open_metrics: bool = False) -> None:
        self._open_metrics = open_metrics
        self._parts: list[str] = []

    @property
    def content_type(self) -> str:
        return OPEN_METRICS if self._open_metrics else PLAIN

    def family(self, metric: Metric, samples: Iterable[tuple[str, float]]) -> None:
        """A counter or a gauge: what stands between each sample's braces, and its value. Without a sample, nothing."""
        name = metric.name
        lines = [
            f"{name}{{{labels}}} {_number(value)}\n" if labels else f"{name} {_number(value)}\n"
            for labels, value in samples
        ]
        if lines:
            self._begin(metric)
            self._parts += lines

    def histograms(self, metric: Metric, samples: Iterable[tuple[str, Histogram]]) -> None:
        """A family of histograms."""
        lines: list[str] = []
        for labels, histogram in samples:
            _write_histogram(lines, metric.name, labels, histogram)
        if lines:
            self._begin(metric)
            self._parts += lines

    def text(self) -> bytes:
        """The whole page."""
        end = "# EOF\n" if self._open_metrics else ""
        # What is no Unicode (half a pair of surrogates, out of a file's name) is no label either.
        return ("".join(self._parts) + end).encode("utf-8", "replace")

    def _begin(self, metric: Metric) -> None:
        name, word, help = metric.name, metric.kind.value, _help_of(metric.help)
        if self._open_metrics:
            help = help.replace('"', '\\"')
            if metric.kind is Kind.COUNTER:
                name = name.removesuffix("_total")
                if name == metric.name:  # a counter of llama-server's that is none
                    word = "unknown"
            elif metric.kind is Kind.UNKNOWN:
                word = "unknown"
        self._parts.append(f"# HELP {name} {help}\n# TYPE {name} {word}\n")


def _write_histogram(lines: list[str], name: str, labels: str, histogram: Histogram) -> None:
    before = f'{name}_bucket{{{labels},le="' if labels else f'{name}_bucket{{le="'
    total = 0
    for bound, count in zip(_ends_of(histogram.bounds), histogram.counts, strict=True):
        total += count
        lines.append(f'{before}{bound}"}} {total}\n')
    braced = f"{{{labels}}}" if labels else ""
    lines.append(f"{name}_sum{braced} {_number(round(histogram.sum, 6))}\n{name}_count{braced} {total}\n")


@functools.cache
def _ends_of(bounds: tuple[float, ...]) -> tuple[str, ...]:
    """The bounds as they are written."""
    return (*(str(float(bound)) for bound in bounds), "+Inf")


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
