"""The rules of the bench: what a ratio is, what is kept, and what counts as worse."""

from __future__ import annotations

from pathlib import Path

from bench.bars import BARS, judged
from bench.load import Figure, figure_of
from bench.loads import ROWS, measures_of
from bench.measure import Measure, rotated
from bench.record import last, save, worse
from bench.warm import warm


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


def test_a_run_of_a_part_leaves_the_other_rows_as_they_were(tmp_path: Path) -> None:
    path = tmp_path / "bench.json"
    save([measure("a", [1.0]), measure("b", [2.0])], path)
    save([measure("b", [3.0])], path, last(path))
    assert last(path) == [measure("b", [3.0]), measure("a", [1.0])]


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


def test_a_difference_is_the_median_of_the_rounds_and_needs_three() -> None:
    known = Measure("cold, 1 MB", "ms", values={"lr": [50.0, 90.0, 61.0], "direct": [40.0, 40.0, 60.0]})
    assert known.added() == 10.0
    assert Measure("cold, 1 MB", "ms", values={"lr": [50.0, 90.0], "direct": [40.0, 40.0]}).added() is None


def test_every_row_is_held_against_its_own_bar() -> None:
    speed = measure("small requests, 16 connections: requests", [60.0] * 3, [10.0] * 3, "more")
    slow = measure("small requests, 16 connections: requests", [59.0] * 3, [10.0] * 3, "more")
    lost = measure("3 models, 8 clients, --models-max 1: lost", [0.0, 1.0, 0.0])
    reload = measure("GET /models?reload=1", [250.0])
    look = measure("GET /models after a pause", [25.0])
    unknown = measure("what nobody has a word for", [1.0])
    few = measure("3 models, 8 clients, --models-max 1: 160 requests", [1.0], [1.0])
    verdicts = judged([speed, slow, lost, reload, look, unknown, few])
    assert [(each.measure, each.reached) for each in verdicts] == [
        (speed, True),
        (slow, False),
        (lost, False),
        (reload, True),
        (look, False),
    ]
    assert str(verdicts[0]) == (
        "ok      small requests, 16 connections: requests: 6 x llama-server's router (at least 6)"
    )
    assert str(verdicts[2]) == (
        "missed  3 models, 8 clients, --models-max 1: lost: 1 us at most in a round (at most 0)"
    )


def test_the_bars_of_the_loads_are_those_of_loads() -> None:
    rows = [each.name for load in ROWS for each in measures_of(load).values()]
    bars = [bar.row for bar in BARS if bar.row.startswith(("small", "streamed"))]
    assert bars
    assert all(bar in rows for bar in bars)


def test_what_wrk_says_is_read() -> None:
    said = (
        "  Thread Stats   Avg      Stdev     Max   +/- Stdev\n"
        "    Latency   562.10us    1.10ms  20.41ms   93.00%\n"
        "    Req/Sec    24.00k     1.00k   25.00k    80.00%\n"
        "  Latency Distribution\n     50%  500.00us\n     99%    3.00ms\n"
        "  72000 requests in 3.00s, 10.00MB read\n"
        "  Socket errors: connect 1, read 2, write 3, timeout 4\n  Non-2xx or 3xx responses: 5\n"
        "Requests/sec:  24000.50\n"
    )
    figure = figure_of(said, cpu=1.44, kernel=0.72)
    assert figure == Figure(
        requests=72000, per_second=24000.5, p50=500.0, p99=3000.0, cpu=20.0, kernel=10.0, failed=15, longest=20410.0
    )


def test_the_own_work_is_measured_on_the_parts_as_they_are() -> None:
    """It plays the kernel's part between the real door and the real connection, and breaks where their seams move."""
    rows = warm(1)
    assert len(rows) > 5
    assert all((row.median("lr") or 0.0) > 0.0 for row in rows)
