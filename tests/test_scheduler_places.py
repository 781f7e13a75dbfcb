"""Stories of the scheduler: who has to go, and how long who waits for what."""

from __future__ import annotations

import pytest

from llamarouter.core.errors import QueueTimeout
from llamarouter.core.events import Refuse, TimePassed
from llamarouter.core.scheduler import Phase, Scheduler
from tests.stories import (
    CRASH,
    ask,
    evict,
    gone,
    grant,
    left,
    load,
    one_place,
    play,
    ready,
    refuse,
    release,
    start,
    stop,
    tick,
    two_places,
    unload,
)

# --- eviction ---------------------------------------------------------------------------------------------------------


def _two_used(first: str, second: str) -> Scheduler:
    """Two idle models, `first` used before `second`."""
    return play(
        two_places(),
        (0, ask(1, "a"), start("a")),
        (0, ask(2, "b"), start("b")),
        (1, ready("a"), grant(1, "a")),
        (1, ready("b"), grant(2, "b")),
        (5, release({"a": 1, "b": 2}[first])),
        (6, release({"a": 1, "b": 2}[second])),
    )


@pytest.mark.parametrize(("first", "second"), [("a", "b"), ("b", "a")])
def test_the_victim_is_the_least_recently_used_of_the_idle_and_its_place_is_free_when_it_is_gone(
    first: str, second: str
) -> None:
    scheduler = play(
        _two_used(first, second),
        (7, ask(3, "c"), evict(first)),
        (8, ask(4, "c")),
    )
    assert scheduler.phase_of(first) is Phase.STOPPING
    assert scheduler.phase_of(second) is Phase.READY
    play(scheduler, (9, gone(first), start("c")))
    assert set(scheduler.living()) == {second, "c"}


def test_a_busy_model_is_passed_over_even_if_it_was_used_least_recently() -> None:
    play(
        _two_used("a", "b"),
        (7, ask(3, "a"), grant(3, "a")),
        (8, ask(4, "b"), grant(4, "b")),
        (9, release(4)),
        (9, ask(5, "c"), evict("b")),
    )


def test_no_more_is_evicted_than_needed() -> None:
    play(
        _two_used("a", "b"),
        (7, ask(3, "c"), evict("a")),
        (7, ask(4, "c")),
        (8, tick),
        (8, ask(5, "d"), evict("b")),
        (8, ask(6, "e")),
        (9, gone("b"), start("c")),
        (9, gone("a"), start("d")),
    )


def test_a_late_request_for_the_victim_waits_for_its_next_instance() -> None:
    play(
        one_place(),
        (0, ask(1, "a"), start("a")),
        (1, ready("a"), grant(1, "a")),
        (3, release(1)),
        (4, ask(2, "b"), evict("a")),
        (4, ask(3, "a")),
        (5, gone("a"), start("b")),
        (6, ready("b"), grant(2, "b")),
        (8, release(2), evict("b")),
        (9, gone("b"), start("a")),
        (10, ready("a"), grant(3, "a")),
    )


def test_when_all_its_waiters_have_left_a_freed_place_goes_to_who_is_there() -> None:
    play(
        one_place(),
        (0, ask(1, "a"), start("a")),
        (1, ready("a"), grant(1, "a")),
        (3, release(1)),
        (4, ask(2, "b"), evict("a")),
        (4, ask(3, "a")),
        (5, left(2)),
        (6, gone("a"), start("a")),
    )


def test_nothing_is_evicted_for_a_client_that_has_left() -> None:
    play(
        one_place(),
        (0, ask(1, "a"), start("a")),
        (1, ready("a"), grant(1, "a")),
        (3, ask(2, "b")),
        (4, left(2)),
        (5, release(1)),
        (99, tick),
    )


def test_a_load_that_nobody_waits_for_any_more_goes_on() -> None:
    play(
        one_place(),
        (0, ask(1, "a"), start("a")),
        (1, left(1)),
        (1, ask(2, "b")),
        (5, ready("a")),
        (6, tick, evict("a")),
        (7, gone("a"), start("b")),
    )


def test_models_that_want_a_place_get_one_in_the_order_of_arrival() -> None:
    play(
        one_place(),
        (0, ask(1, "a"), start("a")),
        (0, ask(2, "c")),
        (0, ask(3, "b")),
        (0, ask(4, "c")),
        (1, gone("a", CRASH), refuse(1, "model_crashed"), start("c")),
        (1, left(2)),
        (2, ready("c", slots=2), grant(4, "c")),
        (4, release(4), evict("c")),
        (5, gone("c"), start("b")),
    )


def test_who_leaves_takes_the_age_of_his_line_with_him() -> None:
    play(
        one_place(),
        (0, ask(1, "a"), start("a")),
        (0, ask(2, "c")),
        (1, ask(3, "b")),
        (2, ask(4, "c")),
        (3, left(2)),
        (4, gone("a", CRASH), refuse(1, "model_crashed"), start("b")),
    )


def test_the_age_of_a_line_is_that_of_its_oldest_whatever_he_needs() -> None:
    for oldest_needs_slot in (False, True):
        play(
            one_place(),
            (0, ask(1, "a"), start("a")),
            (0, ask(2, "c", slot=oldest_needs_slot)),
            (1, ask(3, "b")),
            (2, ask(4, "c", slot=not oldest_needs_slot)),
            (4, gone("a", CRASH), refuse(1, "model_crashed"), start("c")),
        )


def test_a_model_loaded_for_nobody_is_used_when_it_became_ready() -> None:
    play(
        two_places(),
        (0, ask(1, "a"), start("a")),
        (0, ask(2, "b"), start("b")),
        (1, ready("a"), grant(1, "a")),
        (3, release(1)),
        (4, left(2)),
        (5, ready("b")),
        (20, ask(3, "c"), evict("a")),
    )


# --- a fresh model, and one that is idle for a moment -----------------------------------------------------------------


def test_a_fresh_model_stays_though_idle_for_a_moment_and_goes_when_it_lingers() -> None:
    scheduler = play(
        one_place(linger=1),
        (0, ask(1, "a"), start("a")),
        (4, ready("a"), grant(1, "a")),
        (4.5, ask(2, "b")),
        (5, release(1)),
    )
    assert scheduler.deadline() == 6
    play(
        scheduler,
        (5.5, ask(3, "a"), grant(3, "a")),
        (6, release(3)),
        (6.9, tick),
        (7, tick, evict("a")),
    )


def test_a_model_that_has_paid_for_its_load_goes_as_soon_as_it_is_idle() -> None:
    play(
        one_place(linger=1),
        (0, ask(1, "a"), start("a")),
        (4, ready("a"), grant(1, "a")),
        (5, ask(2, "b")),
        (8, release(1), evict("a")),
    )


def test_a_fresh_busy_model_is_not_claimed_before_it_has_served_for_as_long_as_it_loaded() -> None:
    scheduler = play(
        one_place(max_wait=10),
        (0, ask(1, "a"), start("a")),
        (0, ask(2, "b")),
        (30, ready("a"), grant(1, "a")),
        (40, tick),
        (40, ask(3, "a")),
    )
    assert scheduler.deadline() == 60
    assert not scheduler.is_claimed("a")
    play(scheduler, (50, release(1), grant(3, "a")), (60, tick))
    assert scheduler.is_claimed("a")


# --- the bound on waiting ---------------------------------------------------------------------------------------------


def test_a_hot_model_is_claimed_after_max_wait_and_takes_no_newcomers() -> None:
    scheduler = play(
        one_place(max_wait=10),
        (0, ask(1, "a"), start("a")),
        (1, ready("a", slots=2), grant(1, "a")),
        (2, ask(2, "b")),
        (3, ask(3, "a"), grant(3, "a")),
        (4, release(1)),
        (5, ask(4, "a"), grant(4, "a")),
    )
    assert scheduler.deadline() == 12
    play(scheduler, (11.9, tick), (12, tick))
    assert scheduler.is_claimed("a")
    play(
        scheduler,
        (12, ask(5, "a")),
        (12, ask(6, "a", slot=False)),
        (12, load(7, "a")),
        (13, release(3)),
        (14, release(4), evict("a")),
        (15, gone("a"), start("b")),
        (16, ready("b"), grant(2, "b")),
        # the other way round: what stood in the line of `a` waits since the claim of 12
        (21.9, tick),
        (22, tick),
    )
    assert scheduler.is_claimed("b")
    play(
        scheduler,
        (23, release(2), evict("b")),
        (24, gone("b"), start("a")),
        (25, ready("a"), grant(5, "a"), grant(6, "a"), grant(7, "a")),
    )


def test_a_backlog_older_than_the_claimer_does_not_take_the_place_back() -> None:
    for max_wait in (0, 10):
        play(
            one_place(max_wait=max_wait),
            (0, ask(1, "a"), start("a")),
            *((0, ask(n, "a")) for n in range(10, 20)),
            (1, ready("a"), grant(1, "a")),
            (2, ask(2, "b")),
            (2 + max_wait, tick),
            (20, release(1), evict("a")),
            (21, gone("a"), start("b")),
            (22, ready("b"), grant(2, "b")),
        )


def test_a_request_that_arrives_when_a_claim_is_due_does_not_slip_in_before_it() -> None:
    play(
        one_place(max_wait=10),
        (0, ask(1, "a"), start("a")),
        (1, ready("a", slots=2), grant(1, "a")),
        (2, ask(2, "b")),
        (11.5, ask(3, "a"), grant(3, "a")),
        (11.5, release(3)),
        (12.5, ask(4, "a")),
        (13, release(1), evict("a")),
    )


def test_the_claim_does_not_flip_while_its_victim_drains() -> None:
    scheduler = play(
        two_places(max_wait=10),
        (0, ask(1, "a"), start("a")),
        (0, ask(2, "b"), start("b")),
        (1, ready("a", slots=3), grant(1, "a")),
        (1, ready("b", slots=3), grant(2, "b")),
        (2, ask(3, "a"), grant(3, "a")),
        (3, ask(4, "b"), grant(4, "b")),
        (4, ask(5, "c")),
        (14, tick),
    )
    assert scheduler.is_claimed("a")
    play(scheduler, (15, release(1)), (16, ask(6, "b"), grant(6, "b")), (17, ask(7, "a")))
    assert scheduler.is_claimed("a")
    assert not scheduler.is_claimed("b")
    play(scheduler, (18, release(3), evict("a")), (19, gone("a"), start("c")))


def test_idle_before_busy_also_when_a_claim_stands() -> None:
    scheduler = play(
        two_places(max_wait=10),
        (0, ask(1, "a"), start("a")),
        (0, ask(2, "b"), start("b")),
        (1, ready("a"), grant(1, "a")),
        (1, ready("b"), grant(2, "b")),
        (4, ask(3, "c")),
        (14, tick),
        (15, ask(4, "a")),
    )
    assert scheduler.is_claimed("a")
    play(scheduler, (16, release(2), evict("b")))
    assert not scheduler.is_claimed("a")
    play(scheduler, (17, release(1), grant(4, "a")))


def test_a_claim_ends_with_its_claimer_and_the_newcomers_go_in() -> None:
    scheduler = play(
        one_place(max_wait=10),
        (0, ask(1, "a"), start("a")),
        (1, ready("a", slots=2), grant(1, "a")),
        (2, ask(2, "b")),
        (12, tick),
        (13, ask(3, "a")),
        (14, left(2), grant(3, "a")),
    )
    assert not scheduler.is_claimed("a")


def test_of_two_claims_the_later_is_given_back_and_without_a_line_nothing_follows() -> None:
    scheduler = play(
        two_places(max_wait=10),
        (0, ask(1, "a"), start("a")),
        (0, ask(2, "b"), start("b")),
        (1, ready("a"), grant(1, "a")),
        (1, ready("b"), grant(2, "b")),
        (4, ask(3, "c")),
        (5, ask(4, "d")),
        (14, tick),
        (15, tick),
    )
    assert scheduler.is_claimed("a")
    assert scheduler.is_claimed("b")
    play(scheduler, (16, left(3)))
    assert [scheduler.is_claimed(model) for model in ("a", "b")] == [True, False]


def test_a_drain_for_another_cause_counts_as_a_place_that_is_being_freed() -> None:
    scheduler = play(
        two_places(max_wait=10),
        (0, ask(1, "a"), start("a")),
        (0, ask(2, "b"), start("b")),
        (1, ready("a"), grant(1, "a")),
        (1, ready("b"), grant(2, "b")),
        (2, unload("b", 100)),
        (4, ask(3, "c")),
        (14, tick),
    )
    assert not scheduler.is_claimed("a")
    play(scheduler, (15, release(2), stop("b")), (16, gone("b"), start("c")))


def test_queue_timeout_holds_whatever_happens() -> None:
    scheduler = play(
        one_place(queue_timeout=300),
        (0, ask(1, "a"), start("a")),
        (100, ask(2, "a")),
        (200, ask(3, "b")),
    )
    assert scheduler.deadline() == 210  # the claim of `b` comes first; there is nothing to claim
    play(scheduler, (210, tick))
    assert scheduler.deadline() == 300
    play(
        scheduler,
        (300, tick, refuse(1, "queue_timeout")),
        # asked late, it is refused all the same, and not granted
        (401, ready("a"), refuse(2, "queue_timeout")),
        (401, left(2)),
    )


def test_a_queue_timeout_says_when_to_come_back() -> None:
    scheduler = play(one_place(queue_timeout=5, max_wait=3), (0, ask(1, "a"), start("a")))
    (refusal,) = scheduler.handle(TimePassed(), 5.0)
    assert isinstance(refusal, Refuse)
    assert isinstance(refusal.error, QueueTimeout)
    assert refusal.error.retry_after == 3
