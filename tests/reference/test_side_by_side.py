"""llama-server's own router and this one, asked the same: what is apart is intended, and what is intended is apart."""

from __future__ import annotations

import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.reference.comparison import Comparison, compare, table
from tests.reference.differences import INTENDED
from tests.reference.intended import Claim, Difference
from tests.reference.row import ORDER
from tests.reference.seen import ABSENT, Apart, Normalizer, apart
from tests.reference.side import ENGINE

# Some 150 requests and some 80 starts; it takes half a minute on two idle cores.
pytestmark = [pytest.mark.compiled, pytest.mark.timeout(300)]


@pytest.fixture(scope="module")
def comparison() -> Iterator[Comparison]:
    folder = Path(tempfile.mkdtemp(prefix="lr-", dir="/tmp"))  # short: sockets lie in it
    yield compare(folder)
    shutil.rmtree(folder)


def test_every_difference_is_intended(comparison: Comparison) -> None:
    said = subprocess.run([ENGINE, "--version"], capture_output=True, text=True, check=True)
    hint = (
        f"the tables were measured on build 11434; bin/llama-server is {(said.stdout + said.stderr).splitlines()[:1]}"
    )
    assert [str(each) for each in comparison.unexplained()] == [], hint


def test_every_intended_difference_occurs(comparison: Comparison) -> None:
    assert comparison.outdated() == []


def test_every_subject_has_rows(comparison: Comparison) -> None:
    subjects = [finding.title.partition(": ")[0] for finding in comparison.findings]
    assert tuple(dict.fromkeys(subjects)) == ORDER
    assert len(subjects) == len({finding.title for finding in comparison.findings})


def test_the_table_names_a_code_for_each_row_that_differs(comparison: Comparison) -> None:
    lines = [line for line in table(comparison) if not line.startswith(("\n##", "    "))]
    assert len(lines) == len(comparison.findings)
    for line, finding in zip(lines, comparison.findings, strict=True):
        assert line.endswith(", ".join(finding.codes) or ("NOT INTENDED" if finding.apart else " same"))


# --- the comparison itself would see it -----------------------------------------------------------------------------


def test_a_difference_that_nobody_intends_is_seen() -> None:
    comparison = Comparison()
    comparison.add("endpoints: x", {"status": 200, "body": {"a": [1]}}, {"status": 200, "body": {"a": [2], "b": 1}})
    assert comparison.unexplained() == [
        Apart("endpoints: x", "body.a", [1], [2]),
        Apart("endpoints: x", "body.b", ABSENT, 1),
    ]
    assert "NOT INTENDED: body.a: [1] -> [2]" in "\n".join(table(comparison))


def test_a_difference_that_no_longer_occurs_is_seen() -> None:
    comparison = Comparison()
    comparison.add("endpoints: x", {"status": 200}, {"status": 200})
    assert len(comparison.outdated()) == sum(len(difference.claims) for difference in INTENDED)


def test_a_claim_covers_its_rows_fields_and_values_only() -> None:
    claim = Claim("presets: [a*", "status", 400, 404)
    assert claim.covers(Apart("presets: [ab]", "status", 400, 404))
    assert not claim.covers(Apart("presets: ab", "status", 400, 404))
    assert not claim.covers(Apart("presets: [ab]", "status", 400, 405))
    assert not claim.covers(Apart("presets: [ab]", "body", 400, 404))
    assert Difference("x", "", "", "", (claim,)).claim_on(Apart("other", "status", 400, 404)) is None


def test_accidents_are_taken_out_and_nothing_else() -> None:
    side = Normalizer("/tmp/x/ours", "/opt/llama-server", 4711)
    body = b'{"created": 5, "id": "chatcmpl-abcdefgh1", "n": 2, "at": "/tmp/x/ours/a:4711", "timings": {"ms": 1.5}}'
    assert side.body(body) == {
        "created": "<int>",
        "id": "chatcmpl-ID",
        "n": 2,
        "at": "ROOT/a:PORT",
        "timings": {"ms": "<number>"},
    }
    assert side.body(b'data: {"b":1,"a":["x"]}\n\ndata: {"a":["y"],"b":2}\n\ndata: [DONE]\n\n') == [
        "data: {a: [text], b: n}",
        "data: [DONE]",
    ]
    assert apart("r", {"a": {"b": 1}}, {"a": {"b": 1}}) == []
