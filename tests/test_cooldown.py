"""How long a model that fails is left alone."""

from __future__ import annotations

import pytest

from llamarouter.core.cooldown import HEALTHY, LONGEST, Cooldowns
from llamarouter.core.errors import ModelCrashed

ERROR = ModelCrashed("signal SEGV")


def delays(count: int, *, spare_first: bool = False, factor: float = 1.0) -> list[float]:
    """The cool-downs of `count` failures, each as soon as it may happen."""
    cooldowns, now, found = Cooldowns(lambda: factor), 0.0, []
    for _ in range(count):
        found.append(cooldowns.failed("a", ERROR, now, spare_first=spare_first))
        now += found[-1]
    return found


def test_failed_loads_double_the_pause_up_to_a_minute() -> None:
    assert delays(8) == [1, 2, 4, 8, 16, 32, 60, 60]


def test_the_first_crash_of_a_model_that_ran_is_spared() -> None:
    assert delays(5, spare_first=True) == [0, 1, 2, 4, 8]


def test_the_pause_stays_finite_for_ever() -> None:
    cooldowns = Cooldowns()
    assert [cooldowns.failed("a", ERROR, float(n)) for n in range(2000)][-1] == LONGEST


def test_the_factor_spreads_the_pauses() -> None:
    assert delays(8, factor=0.5) == [0.5, 1, 2, 4, 8, 16, 30, 30]


def test_what_is_left_runs_down_to_nothing() -> None:
    cooldowns = Cooldowns()
    cooldowns.failed("a", ERROR, 10.0)
    assert [cooldowns.left("a", now) for now in (10.0, 10.75, 11.0, 99.0)] == [1.0, 0.25, 0.0, 0.0]
    assert cooldowns.left("b", 10.0) == 0.0


@pytest.mark.parametrize(("pause", "delay"), [(HEALTHY - 1, 2.0), (HEALTHY, 1.0)])
def test_a_long_time_without_failure_forgives(pause: float, delay: float) -> None:
    cooldowns = Cooldowns()
    cooldowns.failed("a", ERROR, 0.0)
    cooldowns.loaded("a")
    assert cooldowns.failed("a", ERROR, pause) == delay


def test_a_load_ends_the_failure_but_not_its_count() -> None:
    cooldowns = Cooldowns()
    cooldowns.loaded("a")
    assert cooldowns.failure_of("a") is None
    cooldowns.failed("a", ERROR, 5.0)
    failure = cooldowns.failure_of("a")
    assert failure is not None
    assert (failure.error, failure.at, failure.count) == (ERROR, 5.0, 1)
    cooldowns.loaded("a")
    assert cooldowns.failure_of("a") is None
    assert cooldowns.failed("a", ERROR, 50.0) == 2.0


def test_models_do_not_share_failures_and_a_changed_one_has_none() -> None:
    cooldowns = Cooldowns()
    cooldowns.failed("a", ERROR, 0.0)
    cooldowns.failed("b", ERROR, 0.0)
    cooldowns.forget("a")
    cooldowns.forget("c")
    assert cooldowns.failure_of("a") is None
    assert cooldowns.left("a", 0.0) == 0.0
    assert cooldowns.left("b", 0.0) == 1.0
