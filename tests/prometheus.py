"""A page of metrics as Prometheus reads it: by its own library's parsers, which raise on what is no such page."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping

from prometheus_client import Metric
from prometheus_client.openmetrics.parser import text_string_to_metric_families as of_open_metrics
from prometheus_client.parser import text_string_to_metric_families as of_text

OPEN = "application/openmetrics-text; version=1.0.0"
Series = Mapping[tuple[str, frozenset[tuple[str, str]]], float]


def read(text: bytes) -> dict[str, Metric]:
    """The families of a page in the format 0.0.4, by name; each stands there once."""
    return _once(list(of_text(text.decode())))


def read_open(text: bytes) -> dict[str, Metric]:
    """Those of an OpenMetrics page."""
    return _once(list(of_open_metrics(text.decode())))


def _once(families: list[Metric]) -> dict[str, Metric]:
    names = Counter(family.name for family in families)
    assert max(names.values()) == 1, names
    return {family.name: family for family in families}


def series(families: Mapping[str, Metric]) -> Series:
    """Every sample by its name and labels; each stands there once."""
    found: dict[tuple[str, frozenset[tuple[str, str]]], float] = {}
    for family in families.values():
        for sample in family.samples:
            which = sample.name, frozenset(sample.labels.items())
            assert which not in found, which
            found[which] = sample.value
    return found


def value(text: bytes, name: str, **labels: str) -> float | None:
    """One sample of a page, None where it is not there."""
    return series(read(text)).get((name, frozenset(labels.items())))
