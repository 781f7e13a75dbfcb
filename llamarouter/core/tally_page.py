"""A tally written onto a page: the counters and histograms of requests, models and keys."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Iterator

from llamarouter.core import metric_table as table
from llamarouter.core.exposition import Histogram, Metric, Page, labels_of
from llamarouter.core.tally import KeyTally, ModelTally, RouteTally, Tally, TokenCounts, by_class

Samples = Iterator[tuple[str, float]]


def write_tally(page: Page, tally: Tally) -> None:
    """Everything that was counted. What was never counted is not there, as Prometheus has it with labels."""
    _write_requests(page, tally)
    _write_models(page, tally)
    _write_keys(page, tally)


def _write_requests(page: Page, tally: Tally) -> None:
    routes = [
        (labels_of(("model", "route"), (model, kind)), route)
        for model, each in tally.models.items()
        for kind, route in each.routes.items()
    ]

    def requests() -> Samples:
        for labels, route in routes:
            for status, count in by_class(route.statuses):
                yield f'{labels},status="{status}"', count

    def histograms(of: Callable[[RouteTally], Histogram]) -> Iterator[tuple[str, Histogram]]:
        return ((labels, of(route)) for labels, route in routes if of(route).count)

    page.family(table.REQUESTS, requests())
    page.histograms(table.DURATION, histograms(lambda route: route.duration))
    page.histograms(table.FIRST_BYTE, histograms(lambda route: route.first_byte))


def _write_models(page: Page, tally: Tally) -> None:
    models = [(labels_of(("model",), (model,)), each) for model, each in tally.models.items()]

    def counters(metric: Metric, of: Callable[[ModelTally], Iterable[tuple[tuple[str, ...], float]]]) -> None:
        more = metric.labels[1:]
        page.family(
            metric,
            ((f"{labels},{_rest(more, rest)}", count) for labels, each in models for rest, count in of(each)),
        )

    def histograms(metric: Metric, of: Callable[[ModelTally], Histogram]) -> None:
        found = ((labels, of(each)) for labels, each in models)
        page.histograms(metric, ((labels, histogram) for labels, histogram in found if histogram.count))

    counters(table.REFUSALS, lambda each: _by_word(each.refusals))
    counters(table.BROKEN, lambda each: _by_word(each.broken))
    histograms(table.QUEUE, lambda each: each.queue())
    page.family(table.LOAD_WAIT, ((labels, each.load_wait) for labels, each in models if each.load_wait))
    counters(table.RELAYED, _bytes)
    counters(table.TOKENS, lambda each: _tokens(each.tokens))
    counters(table.LOADS, lambda each: _by_word(each.loads))
    histograms(table.LOAD_TIME, lambda each: each.load_time)
    counters(table.EVICTIONS, lambda each: _by_word(each.stops))
    counters(table.FAILURES, lambda each: each.failures.items())


def _write_keys(page: Page, tally: Tally) -> None:
    # Others may come before this is written.
    keys = [(labels_of(("key",), (key,)), each) for key, each in tally.keys.items()]

    def counters(metric: Metric, of: Callable[[KeyTally], Iterable[tuple[tuple[str, ...], float]]]) -> None:
        more = metric.labels[1:]
        page.family(metric, ((f"{labels},{_rest(more, rest)}", n) for labels, each in keys for rest, n in of(each)))

    counters(table.KEY_REQUESTS, lambda each: (((status,), count) for status, count in by_class(each.statuses)))
    counters(table.KEY_REFUSALS, lambda each: _by_word(each.refusals))
    counters(table.KEY_TOKENS, lambda each: _tokens(each.tokens))


def _bytes(each: ModelTally) -> Iterable[tuple[tuple[str, ...], float]]:
    routes = each.routes.values()
    sizes = ("in", sum(route.bytes_in for route in routes)), ("out", sum(route.bytes_out for route in routes))
    return (((word,), size) for word, size in sizes if size)


def _by_word(counts: dict[str, int]) -> Iterable[tuple[tuple[str, ...], float]]:
    return (((word,), count) for word, count in counts.items())


def _tokens(counts: TokenCounts) -> Iterable[tuple[tuple[str, ...], float]]:
    return (((kind, "true" if guessed else "false"), count) for (kind, guessed), count in counts.items())


@functools.lru_cache(maxsize=1024)
def _rest(names: tuple[str, ...], values: tuple[str, ...]) -> str:
    """The labels beside the model or the key: the same words for all."""
    return labels_of(names, values)
