"""The table of weaknesses is whole, and every test that it or the one of `elsewhere` names is there."""

from __future__ import annotations

import subprocess
import sys

from tests.reference.elsewhere import ELSEWHERE
from tests.reference.side import ROOT
from tests.reference.weaknesses import WEAKNESSES

# What a written reason can never stand for.
_NEVER_EXCUSED = {*range(1, 9), *range(15, 19), *range(20, 24)}
_MOST_EXCUSED = 5


def test_every_weakness_has_a_row_with_tests_or_a_reason() -> None:
    assert [weakness.label for weakness in WEAKNESSES] == [f"W{number}" for number in range(1, 32)]
    for weakness in WEAKNESSES:
        assert weakness.there, weakness.label
        assert weakness.here, weakness.label
        assert bool(weakness.tests) is not bool(weakness.why_not), weakness.label


def test_few_are_excused_and_those_that_matter_never() -> None:
    excused = {int(weakness.label[1:]) for weakness in WEAKNESSES if weakness.why_not}
    assert len(excused) <= _MOST_EXCUSED
    assert not excused & _NEVER_EXCUSED


def test_every_test_that_is_named_is_collected() -> None:
    named = sorted({test for each in (*WEAKNESSES, *ELSEWHERE) for test in each.tests})
    # Without the project's plug-ins: where a tier is left out, its tests are there all the same.
    command = [sys.executable, "-m", "pytest", "--collect-only", "-q", "-p", "no:cacheprovider", *named]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=50, check=False)
    assert done.returncode in (0, 5), done.stdout + done.stderr
    assert "not found" not in done.stdout + done.stderr
