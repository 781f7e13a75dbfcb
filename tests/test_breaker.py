"""When a model is given up for a while, and what closes its breaker again."""

from __future__ import annotations

from llamarouter.core.breaker import FIRST, LONGEST, WINDOW, Breaker


def after(*failures: float) -> Breaker:
    breaker = Breaker()
    for at in failures:
        breaker = breaker.failed(at)
    return breaker


def test_it_opens_by_the_third_failure_within_a_minute() -> None:
    assert [after(0.0), after(0.0, 1.0)] == [Breaker((0.0,)), Breaker((0.0, 1.0))]
    assert after(0.0, 1.0, 59.9).pause == FIRST
    assert after(0.0, 1.0, 60.0).pause == 0.0
    assert not after(0.0, 1.0, 60.0).wants_a_probe


def test_each_failure_of_a_probe_doubles_the_pause_up_to_a_minute() -> None:
    breaker = after(0.0, 1.0, 2.0)
    pauses = []
    for number in range(2000):
        pauses.append(breaker.pause)
        assert breaker.wants_a_probe
        breaker = breaker.failed(100.0 * (number + 1))
    assert pauses[:4] == [FIRST, 40.0, LONGEST, LONGEST]
    assert pauses[-1] == LONGEST


def test_ready_is_for_everybody_but_on_trial_for_a_minute() -> None:
    ready = after(0.0, 1.0, 2.0).loaded(30.0)
    assert not ready.wants_a_probe
    assert ready.failed(30.0 + WINDOW - 0.1).pause == 40.0
    assert ready.failed(30.0 + WINDOW).pause == 0.0
    assert Breaker().loaded(5.0).failed(6.0).pause == 0.0
