"""Figures and tables for people."""

from __future__ import annotations

import pytest

from llamarouter.cli.output import count_of, duration_of, is_colourful, number_of, printable, size_of, table
from llamarouter.core.naming import nearest


@pytest.mark.parametrize(
    ("size", "shown"),
    [
        (None, "-"),
        (0, "-"),
        (999, "999 B"),
        (1000, "1.0 kB"),
        (99_950, "100 kB"),
        (999_499, "999 kB"),
        (999_500, "1.0 MB"),
        (98_900_000, "98.9 MB"),
        (4_800_000_000, "4.8 GB"),
        (1_500_000_000_000, "1.5 TB"),
    ],
)
def test_sizes(size: int | None, shown: str) -> None:
    assert size_of(size) == shown


@pytest.mark.parametrize(
    ("count", "shown"),
    [
        (None, "-"),
        (260_000, "260K"),
        (134_515_008, "135M"),
        (999_600_000, "1.0B"),
        (4_300_000_000, "4.3B"),
        (235e9, "235B"),
        (1.04e12, "1.0T"),
    ],
)
def test_parameters(count: float | None, shown: str) -> None:
    assert count_of(count) == shown


@pytest.mark.parametrize(
    ("seconds", "shown"),
    [
        (None, "-"),
        (-0.1, "0.0 s"),
        (0.44, "0.4 s"),
        (9.96, "10 s"),
        (119.4, "119 s"),
        (119.6, "2 min"),
        (3599, "1 h"),
        (12_000, "3 h 20 min"),
        (86_400, "1 d"),
        (187_200, "2 d 4 h"),
    ],
)
def test_durations(seconds: float | None, shown: str) -> None:
    assert duration_of(seconds) == shown


def test_numbers_that_may_be_unknown() -> None:
    assert [number_of(value) for value in (None, 0, 31.25, "x\ny")] == ["-", "0", "31.2", "x y"]


def test_a_cell_cannot_break_the_table_or_steer_the_terminal() -> None:
    assert table(("NAME", ">N"), [("a\x1b[2J\nb", "1"), ("c", "12345")]) == [
        "NAME         N",
        "a?[2J b      1",
        "c        12345",
    ]


def test_what_a_model_writes_keeps_its_letters_and_loses_its_escapes() -> None:
    family = "\U0001f468\u200d\U0001f469"
    assert printable(f"a\tb\n\x1b[31m\x07\x9b{family}") == f"a\tb\n[31m{family}"


class Stream:
    def __init__(self, tty: bool) -> None:
        self.tty = tty

    def isatty(self) -> bool:
        return self.tty


@pytest.mark.parametrize(
    ("tty", "environ", "colourful"),
    [
        (True, {}, True),
        (False, {}, False),
        (True, {"NO_COLOR": "1"}, False),
        (True, {"NO_COLOR": ""}, True),
        (True, {"TERM": "dumb"}, False),
    ],
)
def test_colours_only_on_a_terminal_that_wants_them(
    tty: bool, environ: dict[str, str], colourful: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("NO_COLOR", "TERM"):
        monkeypatch.delenv(name, raising=False)
    for name, value in environ.items():
        monkeypatch.setenv(name, value)
    assert is_colourful(Stream(tty)) is colourful


@pytest.mark.parametrize(
    ("asked", "found"),
    [
        ("LLAMA", "llama"),
        ("gemma", "ggml-org/gemma-3-4b-it-GGUF:Q8_0"),  # the shorter of two
        ("lama", "llama"),
        ("ll", ""),
        ("", ""),
        ("quite another", ""),
    ],
)
def test_the_nearest_name(asked: str, found: str) -> None:
    names = ["llama", "ggml-org/gemma-3-4b-it-GGUF:Q4_K_M", "ggml-org/gemma-3-4b-it-GGUF:Q8_0"]
    assert nearest(asked, names) == (f"; did you mean {found}?" if found else "")
