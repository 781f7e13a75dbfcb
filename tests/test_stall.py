"""When a child is stuck, on a clock of numbers."""

from __future__ import annotations

from llamarouter.core.stall import BusyWatch, LoadWatch


def test_a_load_that_does_nothing_is_stuck_at_the_limit() -> None:
    watch = LoadWatch(120, now=0)
    still = {"output": 10, "progress": 0.5, "read_bytes": 7, "cpu_seconds": 1.0}
    assert watch.stuck(1, **still) is None
    assert watch.stuck(120, **still) is None
    assert watch.stuck(121, **still) == "the load made no progress for 120 s (at 50%)"


def test_any_sign_of_life_starts_the_limit_anew() -> None:
    watch = LoadWatch(120, now=0)
    signs = {"output": 0, "progress": 0.0, "read_bytes": 0, "cpu_seconds": 0.0}
    for n, name in enumerate(["output", "read_bytes", "cpu_seconds"] * 3, 1):
        signs[name] += 1
        assert watch.stuck(100 * n, **signs) is None
    assert watch.stuck(1020, **signs) is not None


def test_talk_and_cpu_alone_last_no_longer_than_the_cap() -> None:
    watch = LoadWatch(120, now=0)
    for n in range(30):
        assert watch.stuck(60 * n, output=n, progress=0.5, read_bytes=5, cpu_seconds=n) is None
    assert watch.stuck(1800, output=99, progress=0.5, read_bytes=5, cpu_seconds=99) == (
        "the load got no further for 1800 s, though it was busy (at 50%)"
    )


def test_what_reads_on_may_load_for_ever() -> None:
    watch = LoadWatch(120, now=0)
    assert all(watch.stuck(60 * n, output=0, progress=0.0, read_bytes=n, cpu_seconds=n) is None for n in range(500))


def test_without_a_proc_file_system_output_counts() -> None:
    watch = LoadWatch(120, now=0)
    assert watch.stuck(100, output=1, progress=0.1, read_bytes=None, cpu_seconds=None) is None
    assert watch.stuck(200, output=2, progress=0.1, read_bytes=None, cpu_seconds=None) is None
    assert watch.stuck(320, output=2, progress=0.1, read_bytes=None, cpu_seconds=None) is not None


def test_two_unanswered_probes_without_cpu_time_are_the_end() -> None:
    watch = BusyWatch(120)
    assert watch.stuck(0, 120, None, 5.0) is None
    assert watch.stuck(4, 124, None, 5.0) is None
    assert watch.stuck(5, 125, None, 5.01) == "it had requests, sent no byte for 125 s and does not answer"


def test_a_slow_prefill_does_not_answer_but_computes() -> None:
    watch = BusyWatch(120)
    assert all(watch.stuck(t, 120 + t, None, 2.0 * t) is None for t in range(0, 1000, 15))


def test_without_a_proc_file_system_two_unanswered_probes_are_enough() -> None:
    watch = BusyWatch(120)
    assert watch.stuck(0, 120, None, None) is None
    assert watch.stuck(15, 135, None, None) is not None


def test_one_answer_between_is_enough() -> None:
    watch = BusyWatch(120)
    assert watch.stuck(0, 120, None, 5.0) is None
    assert watch.stuck(10, 130, b"[]", 5.0) is None
    assert watch.stuck(20, 140, None, 5.0) is None


def test_bytes_between_begin_anew() -> None:
    watch = BusyWatch(120)
    assert watch.stuck(0, 120, None, 5.0) is None
    watch.moved()
    assert watch.stuck(300, 120, None, 5.0) is None


def test_it_answers_but_computes_nothing() -> None:
    watch = BusyWatch(120)
    for t in range(0, 120, 5):
        assert watch.stuck(t, 120 + t, b"[1]", 5.0 + t / 1000) is None
    assert watch.stuck(120, 240, b"[1]", 5.12) == "it had requests, sent no byte for 240 s and computes nothing"


def test_slots_that_move_or_cpu_time_show_that_it_works() -> None:
    slots, cpu = BusyWatch(120), BusyWatch(120)
    for t in range(0, 1000, 5):
        assert slots.stuck(t, 120 + t, b"%d" % t, None) is None
        assert cpu.stuck(t, 120 + t, b"[1]", t * 0.5) is None


def test_ten_times_the_limit_without_a_step_is_the_end_whatever_is_computed() -> None:
    watch = BusyWatch(120)
    assert watch.stuck(0, 1199, b"1", 1.0) is None
    assert watch.stuck(5, 1204, b"1", 9.0) == "it had requests and got no further for 1204 s"
    spinning = BusyWatch(120)
    assert spinning.stuck(0, 1199, None, 1.0) is None
    assert spinning.stuck(5, 1204, None, 9.0) == "it had requests and got no further for 1204 s"


def test_a_long_answer_that_is_not_streamed_is_silent_and_moves_its_slot() -> None:
    watch = BusyWatch(120)
    for t in range(0, 5000, 5):
        assert watch.stuck(t, 120 + t, b"%d" % t, None if t % 2 else 0.9 * t) is None
    assert watch.stuck(5000 + 1194, 120 + 6194, b"4995", 6000.0) is not None


def test_what_moved_once_may_rest_no_longer_than_what_never_moved() -> None:
    watch = BusyWatch(120)
    assert watch.stuck(0, 120, b"1", 0.0) is None
    assert watch.stuck(10, 130, b"2", 10.0) is None
    for t in range(20, 1210, 10):
        assert watch.stuck(t, 120 + t, b"2", float(t)) is None, t
    assert watch.stuck(1210, 1330, b"2", 1210.0) == "it had requests and got no further for 1200 s"
