"""The causes of failures, and what people can do about each: the table of `docs/failures.md`."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from llamarouter.cli.commands import COMMANDS
from llamarouter.core import causes
from llamarouter.core.causes import KINDS, Cause, hint_for
from llamarouter.core.failures import error_kind_of
from llamarouter.core.own_options import OWN_TABLE
from tests.engine_table import TABLE

PAGE = (Path(__file__).parents[1] / "docs" / "failures.md").read_text(encoding="utf-8")
HINTS = [kind.hint for kind in KINDS.values()]
HINTS += [hint_for(Cause.SIGNAL, model="MODEL", signal=name) for name in ("SIGILL", "SIGBUS", "SIGFPE", "SIGSEGV")]
HINTS += [
    hint_for(Cause.SIGNAL, model="MODEL", signal="SIGABRT", said=words) for words in ("CUDA error: x", "GGML_ASSERT")
]


def row_of(cause: Cause) -> str:
    kind, error = KINDS[cause], error_kind_of(cause)
    assert error is not None
    return f"| `{cause.value}` | {kind.meaning} | {error.status} `{error.reason}` | {kind.hint} |"


def test_every_cause_but_one_is_a_failure_with_a_hint_and_an_error() -> None:
    assert set(KINDS) == set(Cause) - {Cause.ASKED}
    assert all(error_kind_of(cause) is not None for cause in KINDS)
    assert error_kind_of(Cause.ASKED) is None
    assert hint_for(Cause.ASKED, model="m") == ""


def test_the_page_has_the_table() -> None:
    shown = [line for line in PAGE.splitlines() if re.match(r"\| `\w+` \|", line)]
    assert shown == [row_of(cause) for cause in KINDS]


@pytest.mark.parametrize("hint", HINTS)
def test_a_hint_names_only_what_there_is(hint: str) -> None:
    assert hint.endswith(".")
    for option in re.findall(r"`(--[a-z-]+)", hint):
        assert OWN_TABLE.find(option) is not None or TABLE.find(option) is not None, option
    for command in re.findall(r"`lr ([a-z]+)", hint):
        assert command in COMMANDS


def test_hints_for_crashes_differ_by_what_is_known() -> None:
    assert len(set(HINTS)) == len(HINTS) - 1  # SIGSEGV has that of the table
    assert hint_for(Cause.SIGNAL, model="m", signal="SIGABRT", said="nothing") == hint_for(Cause.SIGNAL, model="m")
    assert causes.hint_for(Cause.EXITED, model="a/b:Q4").count("`lr logs a/b:Q4`") == 1
