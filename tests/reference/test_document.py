"""The page on differences says what the tables say, and the README leads to it."""

from __future__ import annotations

from tests.reference import document
from tests.reference.differences import INTENDED, OPEN
from tests.reference.elsewhere import ELSEWHERE
from tests.reference.side import ROOT


def test_the_page_is_written_from_the_tables() -> None:
    hint = "run scripts/compare-with-llama-server --write"
    assert document.FILE.read_text(encoding="utf-8") == document.text(), hint


def test_every_difference_says_all_it_has_to() -> None:
    assert len({difference.code for difference in INTENDED}) == len(INTENDED)
    for difference in INTENDED:
        assert all((difference.there, difference.here, difference.why, difference.claims)), difference.code


def test_what_is_shown_elsewhere_says_all_it_has_to() -> None:
    for each in ELSEWHERE:
        assert all((each.there, each.here, each.why, each.tests)), each.here


def test_the_readme_leads_to_it() -> None:
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    section = readme.partition("### Different from llama-server's router on purpose")[2].partition("\n## ")[0]
    assert "(docs/differences.md)" in section


def test_nothing_is_open() -> None:
    assert [difference.code for difference in OPEN] == []
