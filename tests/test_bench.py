"""The rules of the bench: what a ratio is, what is kept, and what counts as worse."""

from __future__ import annotations

from pathlib import Path

from bench.measure import Measure, rotated
from bench.record import last, save, worse


def measure(name: str, ours: list[float], theirs: list[float] | None = None, better: str = "less") -> Measure:
    values = {"lr": ours} if theirs is None else {"lr": ours, "reference": theirs}
    return Measure(name, "us", better, values)


def test_a_ratio_is_the_median_of_the_rounds_and_needs_three() -> None:
    assert measure("a", [1.0, 8.0, 3.0], [2.0, 4.0, 3.0]).ratio() == 1.0
    assert measure("a", [1.0, 8.0], [2.0, 4.0]).ratio() is None
    assert measure("a", [1.0, 8.0, 3.0], [2.0, 4.0]).ratio() is None
    assert measure("a", [1.0, 8.0, 3.0]).ratio() is None
    assert measure("a", [1.0, 8.0, 3.0], [2.0, 0.0, 3.0]).ratio() is None


def test_every_candidate_begins_in_its_turn() -> None:
    assert [rotated(["a", "b", "c"], number) for number in range(4)] == [
        ["a", "b", "c"],
        ["b", "c", "a"],
        ["c", "a", "b"],
        ["a", "b", "c"],
    ]


def test_what_was_kept_is_read_again(tmp_path: Path) -> None:
    measures = [measure("a", [1.0, 2.0], [3.0, 4.0]), measure("b", [5.0], better="more")]
    save(measures, tmp_path / "deep" / "bench.json")
    assert last(tmp_path / "deep" / "bench.json") == measures


def test_a_run_of_another_form_is_no_run(tmp_path: Path) -> None:
    path = tmp_path / "bench.json"
    assert last(path) == []
    for text in ("", "[]", '{"measures": [{"x": 1}]}', '{"small requests": {}}'):
        path.write_text(text, encoding="utf-8")
        assert last(path) == []


def test_worse_is_a_ratio_that_has_moved_by_more_than_a_tenth_whatever_the_figures_did() -> None:
    before = [measure("cpu", [1.0] * 3, [10.0] * 3), measure("speed", [40.0] * 3, [10.0] * 3, "more")]
    slow_machine = [measure("cpu", [2.0] * 3, [20.0] * 3), measure("speed", [20.0] * 3, [5.0] * 3, "more")]
    assert worse(before, slow_machine) == []
    slow_router = [measure("cpu", [1.5] * 3, [10.0] * 3), measure("speed", [30.0] * 3, [10.0] * 3, "more")]
    assert worse(before, slow_router) == [
        "cpu: 0.15 of the reference, last time 0.1",
        "speed: 3 of the reference, last time 4",
    ]
    assert worse(slow_router, before) == []
    assert worse([], before) == []


def test_without_a_reference_the_figures_are_compared() -> None:
    assert worse([measure("lr ls", [100.0])], [measure("lr ls", [120.0])]) == ["lr ls: 120 us, last time 100"]
    assert worse([measure("lr ls", [100.0])], [measure("lr ls", [109.0])]) == []
