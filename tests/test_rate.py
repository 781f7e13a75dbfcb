"""What limits a key, on a clock that the tests turn."""

from __future__ import annotations

import copy

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llamarouter.core.errors import QueueFull, RateLimited, RouterError, TokensUsedUp, headers_of
from llamarouter.core.keys import Limits
from llamarouter.core.queue_share import Half, Share
from llamarouter.core.rate import DAY, Meter

NOON = 20_000 * DAY + DAY / 2


def refusal(meter: Meter, now: float, date: float = NOON) -> RouterError:
    with pytest.raises(RateLimited) as caught:
        meter.enter(now, date)
    return caught.value


def test_so_many_in_any_minute_and_then_the_moment_when_there_is_one_more() -> None:
    meter = Meter(Limits(rpm=2))
    meter.enter(100.0, NOON)
    meter.leave(0, NOON)
    meter.enter(130.5, NOON)
    error = refusal(meter, 140.2)
    assert (error.status, error.type, error.reason) == (429, "rate_limit_error", "rate_limited")
    assert (b"retry-after", b"20") in headers_of(error)  # 19.8
    assert refusal(meter, 159.9).retry_after == 1
    meter.enter(160.0, NOON)
    assert refusal(meter, 160.0).retry_after == 31
    meter.limits = Limits(rpm=1)
    assert refusal(meter, 170.0).retry_after == 50  # behind the later one


def _refused(meter: Meter, now: float) -> RouterError | None:
    try:
        meter.enter(now, NOON)
    except RateLimited as error:
        return error
    meter.leave(0, NOON)
    return None


@given(st.integers(1, 5), st.lists(st.floats(0, 30, width=16), max_size=60))
def test_no_minute_ever_has_more_and_who_comes_when_he_was_told_is_let_in(rpm: int, pauses: list[float]) -> None:
    meter, now, let_in = Meter(Limits(rpm=rpm)), 0.0, []
    for pause in pauses:
        now += pause
        error = _refused(meter, now)
        if error is None:
            let_in.append(now)
            assert sum(now - 60 < each for each in let_in) <= rpm
            continue
        assert error.retry_after is not None
        assert 1 <= error.retry_after <= 60
        assert _refused(copy.deepcopy(meter), now + error.retry_after) is None
    assert meter.inside == 0


def test_so_many_at_once() -> None:
    meter = Meter(Limits(concurrent=2))
    for _ in range(2):
        meter.enter(0.0, NOON)
    assert "2 requests at once" in refusal(meter, 0.0).message
    meter.leave(5, NOON)
    meter.check(0.0, NOON)
    meter.enter(0.0, NOON)
    refusal(meter, 0.0)


def test_so_many_tokens_until_midnight() -> None:
    meter = Meter(Limits(tokens_per_day=100))
    meter.enter(0.0, NOON)
    meter.leave(99, NOON)
    meter.enter(0.0, NOON)  # nobody knows beforehand what it takes
    meter.leave(50, NOON)
    error = refusal(meter, 0.0)
    assert isinstance(error, TokensUsedUp)
    assert (error.status, error.reason, error.retry_after) == (429, "tokens_used_up", DAY / 2)
    assert meter.tokens(NOON - DAY) == 149  # a clock that was set back
    meter.enter(0.0, NOON + DAY / 2)
    assert meter.tokens(NOON + DAY / 2) == 0
    meter.leave(3, NOON + DAY)
    assert meter.tokens(NOON + DAY) == 3


def test_a_clock_that_was_a_year_ahead_does_not_stop_the_days() -> None:
    meter = Meter(Limits(tokens_per_day=100))
    meter.enter(0.0, NOON + 365 * DAY)
    meter.leave(99, NOON + 365 * DAY)
    meter.enter(0.0, NOON)
    meter.leave(1, NOON)
    assert isinstance(refusal(meter, 0.0), TokensUsedUp)  # it gives nobody his tokens back
    assert meter.tokens(NOON + DAY) == 0


def test_what_was_written_down_counts_on_the_day_that_it_is_of() -> None:
    meter = Meter(Limits(tokens_per_day=100))
    meter.recall(int(NOON // DAY), 80)
    assert meter.tokens(NOON) == 80
    meter.enter(0.0, NOON)
    meter.leave(5, NOON)
    meter.recall(int(NOON // DAY), 10)
    assert meter.tokens(NOON) == 95
    meter.recall(int(NOON // DAY) - 1, 1000)
    assert meter.tokens(NOON) == 95
    assert meter.tokens(NOON + DAY) == 0


def test_a_key_fills_half_of_a_line_half_of_all_and_half_of_the_bytes() -> None:
    half = Half.of(4, 6, 100)
    assert half == Half(2, 3, 50)
    assert Half.of(1, 1, 1) == Half(1, 1, 1)
    assert half.in_line(None) == half
    assert (half.in_line(10), half.in_line(1)) == (Half(5, 3, 50), Half(1, 3, 50))
    share = Share()
    with share.waiting("a", 1, half), share.waiting("a", 1, half):
        with pytest.raises(QueueFull, match="2 requests of this key wait for model 'a'"), share.waiting("a", 1, half):
            pass
        full = pytest.raises(QueueFull, match="3 requests of this key with 0 MiB")
        with share.waiting("b", 1, half), full, share.waiting("c", 1, half):
            pass
    with share.waiting("a", 80, half):  # one is let in however large it is
        with pytest.raises(QueueFull) as caught, share.waiting("b", 1, half):
            pass
        assert caught.value.retry_after
    with share.waiting("a", 50, half):
        pass
