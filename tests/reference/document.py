"""`docs/differences.md`, written from the tables: intended differences, those shown elsewhere, weaknesses."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

from tests.reference.differences import CHAPTERS
from tests.reference.elsewhere import ELSEWHERE
from tests.reference.weaknesses import WEAKNESSES, Weakness

FILE = Path(__file__).resolve().parents[2] / "docs" / "differences.md"

_HEAD = """\
# Beside llama-server's own router

`lr serve` takes the options, presets, folders and requests of llama-server's router mode, and answers them in the
same way. Where it does not, that is on purpose and stands here with its reason. `scripts/compare-with-llama-server`
starts both on the same folders, asks both the same, and prints every row that differs with the name of the difference
from this page; a difference without a name fails the tests, and so does a name without a difference. It was
measured on llama.cpp b11434.

This page is written from the tables in `tests/reference/`, by `scripts/compare-with-llama-server --write`.
"""


def text() -> str:
    """The whole page."""
    return "\n".join([_HEAD, *_differences(), *_elsewhere(), *_weaknesses()])


def _differences() -> Iterator[str]:
    yield "## Different on purpose\n"
    for title, chapter in CHAPTERS.items():
        yield f"### {title}\n"
        yield "| name | llama-server's router | here | why |"
        yield "|---|---|---|---|"
        for each in chapter:
            yield _row(f"`{each.code}`", each.there, each.here, each.why)
        yield ""


def _elsewhere() -> Iterator[str]:
    yield "### What no question to both can show\n"
    yield "| llama-server's router | here | why | shown by |"
    yield "|---|---|---|---|"
    for each in ELSEWHERE:
        yield _row(each.there, each.here, each.why, _names_of(each.tests))
    yield ""


def _weaknesses() -> Iterator[str]:
    yield "## Weak there, and not here\n"
    yield "Each label stands for something that was seen to go wrong in llama-server's router, or read in its source.\n"
    yield "| | llama-server's router | here | shown by |"
    yield "|---|---|---|---|"
    for each in WEAKNESSES:
        yield _row(each.label, each.there, each.here, _shown(each))
    yield ""


def _shown(weakness: Weakness) -> str:
    if weakness.why_not:
        return f"*not shown:* {weakness.why_not}"
    return _names_of(weakness.tests)


def _names_of(tests: tuple[str, ...]) -> str:
    parts = [test.removeprefix("tests/").partition("::") for test in tests]
    return "<br>".join(f"`{file}` {name.removeprefix('test_').replace('_', ' ')}" for file, _, name in parts)


def _row(*cells: str) -> str:
    return f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in cells)} |"


def write() -> None:
    """Write the page anew."""
    FILE.write_text(text(), encoding="utf-8")
    sys.stdout.write(f"{FILE.name} is written\n")
