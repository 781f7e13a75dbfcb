"""Durations as people write them."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llamarouter.core.durations import seconds_of


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("90", 90),
        ("90s", 90),
        ("15m", 900),
        ("2h", 7200),
        ("1d", 86400),
        ("0.5h", 1800),
        ("1h30m", 5400),
        (" 1 H 30 M ", 5400),
        ("1d12h", 129600),
        ("0.25", 0.25),
        ("1000000000", 1e9),
    ],
)
def test_what_people_write(text: str, seconds: float) -> None:
    assert seconds_of(text) == seconds


@pytest.mark.parametrize("text", ["0", "0s", "0m", "none", "Never", "off", "-1"])
def test_never(text: str) -> None:
    assert seconds_of(text) == math.inf


@pytest.mark.parametrize(
    "text",
    [
        "",
        " ",
        "soon",
        "5 parsecs",
        "-5",
        "-5m",
        "1h30",
        "5mm",
        "m",
        "1e3",
        "5,5",
        "inf",
        "nan",
        "1000000001",
        "99999d",
        "٣s",
    ],
)
def test_what_is_no_duration(text: str) -> None:
    assert seconds_of(text) is None


@given(st.text(max_size=8))
def test_anything_is_read_or_refused(text: str) -> None:
    seconds = seconds_of(text)
    assert seconds is None or seconds > 0
