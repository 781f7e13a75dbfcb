"""How long a model that fails is left alone."""

from __future__ import annotations

from collections.abc import Iterable

import pytest
from hypothesis import given
from hypothesis import strategies as st

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


def spaced(count: int, seconds: float) -> list[float]:
    """The cool-downs of `count` failures, too far apart for the breaker."""
    cooldowns = Cooldowns()
    return [cooldowns.failed("a", ERROR, number * seconds) for number in range(count)]


def test_failed_loads_double_the_pause_up_to_a_minute() -> None:
    assert spaced(8, 61.0) == [1, 2, 4, 8, 16, 32, 60, 60]


def test_three_failures_within_a_minute_open_the_breaker() -> None:
    assert delays(6) == [1, 2, 20, 40, 60, 60]
    assert spaced(3, 30.0) == [1, 2, 4]
    assert spaced(3, 29.0) == [1, 2, 20]


def test_the_first_crash_of_a_model_that_ran_is_spared() -> None:
    assert delays(5, spare_first=True) == [0, 1, 20, 40, 60]


def test_the_pause_stays_finite_for_ever() -> None:
    cooldowns = Cooldowns()
    assert [cooldowns.failed("a", ERROR, float(n)) for n in range(2000)][-1] == LONGEST
    assert spaced(2000, 599.0)[-1] == LONGEST


def test_the_factor_spreads_the_pauses() -> None:
    assert delays(6, factor=1.1) == pytest.approx([1.1, 2.2, 22, 44, 66, 66])


def test_what_is_left_runs_down_to_nothing() -> None:
    cooldowns = Cooldowns()
    cooldowns.failed("a", ERROR, 10.0)
    assert [cooldowns.left("a", now) for now in (10.0, 10.75, 11.0, 99.0)] == [1.0, 0.25, 0.0, 0.0]
    assert cooldowns.left("b", 10.0) == 0.0


@pytest.mark.parametrize(("pause", "delay"), [(HEALTHY - 1, 2.0), (HEALTHY, 1.0)])
def test_a_long_time_without_failure_forgives(pause: float, delay: float) -> None:
    cooldowns = Cooldowns()
    cooldowns.failed("a", ERROR, 0.0)
    cooldowns.loaded("a", 1.0)
    assert cooldowns.failed("a", ERROR, pause) == delay


def test_a_load_ends_the_failure_but_not_its_count() -> None:
    cooldowns = Cooldowns()
    cooldowns.loaded("a", 0.0)
    assert cooldowns.failure_of("a") is None
    cooldowns.failed("a", ERROR, 5.0)
    failure = cooldowns.failure_of("a")
    assert failure is not None
    assert (failure.error, failure.at, failure.count) == (ERROR, 5.0, 1)
    cooldowns.loaded("a", 6.0)
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


def test_a_broken_model_is_probed_until_it_is_ready() -> None:
    cooldowns, now = Cooldowns(), 0.0
    for delay in delays(3):
        assert cooldowns.probed("a", now) is None
        cooldowns.failed("a", ERROR, now, took=7.0)
        now += delay
    failure = cooldowns.probed("a", now)
    assert failure is not None
    assert (failure.count, failure.took, failure.is_broken) == (3, 7.0, True)
    assert cooldowns.probed("b", now) is None
    assert cooldowns.probed("a", failure.at + HEALTHY) is None
    cooldowns.loaded("a", now + 1)
    assert cooldowns.probed("a", now + 1) is None
    assert cooldowns.failed("a", ERROR, now + 2, spare_first=True) == 40.0
    assert cooldowns.probed("a", now + 42) is not None
    cooldowns.forget("a")
    assert cooldowns.probed("a", now + 42) is None


def test_a_model_that_served_for_a_minute_has_a_closed_breaker() -> None:
    cooldowns = Cooldowns()
    for now in (0.0, 1.0, 3.0):
        cooldowns.failed("a", ERROR, now)
    cooldowns.loaded("a", 30.0)
    assert cooldowns.failed("a", ERROR, 90.0, spare_first=True) == 4.0
    assert cooldowns.probed("a", 94.0) is None


def starts_of(lives: Iterable[tuple[bool, float, float, bool]]) -> list[float]:
    """When a model is started that is asked for all the time; its lives: whether it loads, in how many seconds, for how
    long, and whether it fails for a cause that lies in itself.
    """
    cooldowns, now, starts = Cooldowns(), 0.0, []
    for loads, seconds, life, deterministic in lives:
        starts.append(now)
        now += seconds
        if loads:
            cooldowns.loaded("a", now)
            now += life
        now += cooldowns.failed("a", ERROR, now, deterministic=deterministic, spare_first=loads)
    return starts


@pytest.mark.parametrize("life", [(True, 0.0, 2.0, False), (True, 0.0, 0.0, False), (False, 0.0, 0.0, False)])
def test_a_model_that_fails_at_once_is_started_eight_times_in_five_minutes(
    life: tuple[bool, float, float, bool],
) -> None:
    assert sum(at < 300.0 for at in starts_of([life] * 20)) == 8


@given(
    st.lists(
        st.tuples(st.booleans(), st.floats(0.0, 30.0), st.floats(0.0, 59.0), st.booleans()), min_size=12, max_size=40
    )
)
def test_a_model_that_always_fails_within_a_minute_is_started_ten_times_in_five_at_most(
    lives: list[tuple[bool, float, float, bool]],
) -> None:
    starts = starts_of(lives)
    assert all(later >= sooner + 300.0 for sooner, later in zip(starts, starts[10:], strict=False))
