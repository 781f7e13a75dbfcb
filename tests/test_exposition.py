"""The page that Prometheus reads: what was written is what its own parser finds, whatever the names are."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llamarouter.core.exposition import Histogram, Kind, Metric, Page, labels_of, wants_open_metrics
from tests.prometheus import read, read_open, series

COUNTER = Metric("x_things_total", Kind.COUNTER, ("model",), 'Things, \\ and "more"\nof them.')
GAUGE = Metric("x_level", Kind.GAUGE, (), "A level.")
HISTOGRAM = Metric("x_seconds", Kind.HISTOGRAM, ("model",), "Seconds.")
HOSTILE = ('a"b', "a\\", "a\\n", "a\nb", 'x"} 1\nevil_total{a="', "é漢\u2028", "{}", "", " ", "a,b=c", "#", "\x00")


@pytest.mark.parametrize("open_metrics", [False, True])
def test_hostile_names_come_back_as_they_were(open_metrics: bool) -> None:
    page = Page(open_metrics=open_metrics)
    page.family(COUNTER, [(labels_of(("model",), (name,)), number) for number, name in enumerate(HOSTILE)])
    families = (read_open if open_metrics else read)(b"".join(page.pieces()))
    assert list(families) == ["x_things"]
    assert [sample.labels["model"] for sample in families["x_things"].samples] == list(HOSTILE)
    assert [sample.value for sample in families["x_things"].samples] == list(range(len(HOSTILE)))
    assert families["x_things"].documentation == COUNTER.help


@given(st.text(), st.floats(allow_nan=False) | st.integers(0, 2**60))
def test_any_text_is_a_label_and_any_number_a_value(text: str, number: float) -> None:
    for open_metrics in (False, True):
        page = Page(open_metrics=open_metrics)
        page.family(Metric("x", Kind.GAUGE, ("model",), ""), [(labels_of(("model",), (text,)), number)])
        (sample,) = (read_open if open_metrics else read)(b"".join(page.pieces()))["x"].samples
        assert (sample.labels["model"], sample.value) == (text, number)


def test_half_a_sign_out_of_the_name_of_a_file_breaks_no_page() -> None:
    page = Page()
    page.family(GAUGE, [(labels_of(("model",), ("a\udce9b",)), 1)])
    assert read(b"".join(page.pieces()))["x_level"].samples[0].labels == {"model": "a?b"}


def test_a_bucket_holds_what_is_as_large_as_its_end() -> None:
    histogram = Histogram((0.1, 1.0, 10.0))
    for seconds in (0.0, 0.1, 0.11, 1.0, 5.0, 11.0):
        histogram.observe((seconds,))
    page = Page()
    page.histograms(HISTOGRAM, [('model="m"', histogram)])
    assert series(read(b"".join(page.pieces()))) == {
        ("x_seconds_bucket", frozenset({("model", "m"), ("le", "0.1")})): 2,
        ("x_seconds_bucket", frozenset({("model", "m"), ("le", "1.0")})): 4,
        ("x_seconds_bucket", frozenset({("model", "m"), ("le", "10.0")})): 5,
        ("x_seconds_bucket", frozenset({("model", "m"), ("le", "+Inf")})): 6,
        ("x_seconds_sum", frozenset({("model", "m")})): pytest.approx(17.21),
        ("x_seconds_count", frozenset({("model", "m")})): 6,
    }
    assert histogram.count == 6


def test_a_histogram_without_labels_can_be_read() -> None:
    histogram = Histogram((1.0,))
    histogram.observe((0.5,))
    for open_metrics in (False, True):
        page = Page(open_metrics=open_metrics)
        page.histograms(HISTOGRAM, [("", histogram)])
        read_any = read_open if open_metrics else read
        assert series(read_any(b"".join(page.pieces())))["x_seconds_count", frozenset()] == 1


def test_a_family_without_a_sample_is_not_there() -> None:
    page = Page()
    page.family(GAUGE, [])
    page.histograms(HISTOGRAM, [])
    assert b"".join(page.pieces()) == b""


def test_each_family_says_what_it_is() -> None:
    page = Page()
    page.family(COUNTER, [('model="m"', 1)])
    page.family(GAUGE, [("", 0.5), ('a="b"', math.inf), ('a="c"', -math.inf), ('a="d"', math.nan)])
    assert page.content_type == "text/plain; version=0.0.4; charset=utf-8"
    assert b"".join(page.pieces()).decode() == (
        '# HELP x_things_total Things, \\\\ and "more"\\nof them.\n# TYPE x_things_total counter\n'
        'x_things_total{model="m"} 1\n'
        "# HELP x_level A level.\n# TYPE x_level gauge\n"
        'x_level 0.5\nx_level{a="b"} +Inf\nx_level{a="c"} -Inf\nx_level{a="d"} NaN\n'
    )


def test_open_metrics_names_a_counter_without_its_end() -> None:
    page = Page(open_metrics=True)
    page.family(COUNTER, [('model="m"', 1)])
    page.family(Metric("llamacpp:n_tokens_max", Kind.COUNTER, (), "A counter by name alone."), [('model="m"', 7)])
    page.family(Metric("llamacpp:odd", Kind.UNKNOWN, (), ""), [('model="m"', 7)])
    assert page.content_type == "application/openmetrics-text; version=1.0.0; charset=utf-8"
    text = b"".join(page.pieces())
    assert text.endswith(b"# EOF\n")
    assert b"# TYPE x_things counter\n" in text
    assert {name: family.type for name, family in read_open(text).items()} == {
        "x_things": "counter",
        "llamacpp:n_tokens_max": "unknown",
        "llamacpp:odd": "unknown",
    }


@pytest.mark.parametrize(
    ("accept", "wanted"),
    [
        ("application/openmetrics-text;version=1.0.0;q=0.8,text/plain;version=0.0.4;q=0.5,*/*;q=0.1", True),
        ("Application/OpenMetrics-Text; version=0.0.1", True),
        ("application/openmetrics-text", True),
        ("application/openmetrics-text;q=0, text/plain", False),
        ("application/openmetrics-text;q=x", True),
        ("application/openmetrics-text;version=2.0.0", False),
        ("text/plain;version=0.0.4", False),
        ("*/*", False),
        ("", False),
    ],
)
def test_open_metrics_is_for_who_asks_for_it(accept: str, wanted: bool) -> None:
    assert wants_open_metrics(accept) is wanted
