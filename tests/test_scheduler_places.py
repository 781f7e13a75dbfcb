"""Stories of the scheduler: who gets a place, and who has to go for it."""

from __future__ import annotations

import pytest

from llamarouter.core.events import Pinned, Ready
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
    tick,
    two_places,
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


def test_a_load_that_nobody_waits_for_any_more_goes_on_while_nobody_wants_its_place() -> None:
    play(
        one_place(),
        (0, ask(1, "a"), start("a")),
        (1, left(1)),
        (99, tick),
        (100, ready("a")),
        (101, ask(2, "a"), grant(2, "a")),
    )


def test_a_load_that_nobody_waits_for_any_more_goes_when_its_place_is_wanted() -> None:
    play(
        one_place(),
        (0, ask(1, "a"), start("a")),
        (0, ask(2, "a", slot=False)),
        (1, left(1)),
        (2, ask(3, "b")),
        (3, left(2), evict("a")),
        (3, ready("a")),  # it crossed the stop
        (4, gone("a", CRASH), start("b")),
        (5, left(3)),
        (6, ask(4, "c"), evict("b")),
        (6, ask(5, "b")),
        (7, gone("b"), start("c")),
    )


def test_a_load_that_an_operator_asked_for_is_no_victim() -> None:
    play(
        one_place(),
        (0, load(1, "a"), start("a")),
        (1, ask(2, "b")),
        (99, tick),
        (100, ready("a"), grant(1, "a")),
        (199, tick),
        (200, tick, evict("a")),
    )


def test_a_load_for_nobody_goes_before_an_idle_model_and_after_nothing_else() -> None:
    play(
        two_places(),
        (0, ask(1, "a"), start("a")),
        (1, ready("a"), grant(1, "a")),
        (2, release(1)),
        (50, ask(2, "b"), start("b")),
        (51, left(2)),
        (52, ask(3, "c"), evict("b")),
        (53, ask(4, "c")),
        (54, ask(5, "d"), evict("a")),
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


# --- a fresh model ----------------------------------------------------------------------------------------------------


def test_a_fresh_model_stays_though_idle_for_as_long_as_it_took_to_load() -> None:
    scheduler = play(
        one_place(),
        (0, ask(1, "a"), start("a")),
        (4, ready("a"), grant(1, "a")),
        (4.5, ask(2, "b")),
        (5, release(1)),
    )
    assert scheduler.deadline() == 8
    play(
        scheduler,
        (6.5, ask(3, "a"), grant(3, "a")),
        (7, release(3)),
        (7.9, tick),
        (8, tick, evict("a")),
    )


def test_what_passed_before_the_process_was_started_is_no_load_to_pay_for() -> None:
    play(
        one_place(),
        (0, ask(1, "a"), start("a")),
        (4, Ready("a", 1, load_seconds=1), grant(1, "a")),
        (4.5, ask(2, "b")),
        (4.6, release(1)),
        (5, tick, evict("a")),
    )


def test_a_model_that_has_paid_for_its_load_goes_as_soon_as_it_is_idle() -> None:
    play(
        one_place(),
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


# --- batches ----------------------------------------------------------------------------------------------------------


def test_what_came_in_turns_is_done_in_batches_one_load_for_all_that_wait_for_a_model() -> None:
    """Six requests, by turns for two models: two loads and not six."""
    play(
        one_place(),
        (0, ask(1, "a"), start("a")),
        (0, ask(2, "b")),
        (0, ask(3, "a")),
        (0, ask(4, "b")),
        (0, ask(5, "a")),
        (0, ask(6, "b")),
        (2, ready("a"), grant(1, "a")),
        (3, release(1), grant(3, "a")),  # b was here before, but a is there
        (4, release(3), grant(5, "a")),
        (5, release(5), evict("a")),
        (6, gone("a"), start("b")),
        (8, ready("b", slots=2), grant(2, "b"), grant(4, "b")),
        (9, release(2), grant(6, "b")),
        (9, ask(7, "a")),
        (10, release(4)),
        (11, release(6), evict("b")),
    )


def test_a_batch_ends_where_another_model_has_waited_long_enough_and_its_rest_is_the_next_one_of_its_model() -> None:
    play(
        one_place(),
        (0, ask(1, "a"), start("a")),
        (0, ask(2, "b")),
        (0, ask(3, "a")),
        (0, ask(4, "a")),
        (1, ready("a"), grant(1, "a")),
        (9, release(1), grant(3, "a")),
        (10, tick),  # b has waited its ten seconds
        (11, release(3), evict("a")),
        (12, gone("a"), start("b")),
        (13, ready("b"), grant(2, "b")),
        (13, ask(5, "b")),  # a has wanted its place since 10
        (14, release(2), grant(5, "b")),
        (15, release(5), evict("b")),
        (16, gone("b"), start("a")),
        (17, ready("a"), grant(4, "a")),
    )


def test_a_crowd_before_a_pinned_model_is_told_so_to_the_last() -> None:
    scheduler = play(
        one_place(),
        (0, Pinned("p", True)),
        (0, ask(1, "a"), start("a")),
        (1, ready("a"), grant(1, "a")),
        (2, ask(2, "p")),
        (2, ask(3, "b")),
        (2, ask(4, "c")),
        (2, ask(5, "d")),
        (3, release(1), evict("a")),
        (
            4,
            gone("a"),
            start("p"),
            refuse(3, "no_place"),
            refuse(4, "no_place"),
            refuse(5, "no_place"),
        ),
    )
    assert scheduler.waiting("d") == 0


def test_a_turn_is_over_as_soon_as_those_are_served_who_came_before_the_want() -> None:
    scheduler = play(
        one_place(max_wait=1),
        (0, ask(1, "a"), start("a")),
        (2, ready("a"), grant(1, "a")),
        (2.5, ask(2, "a")),
        (3, ask(3, "b")),
        (3.5, ask(4, "a")),
        (4.5, tick),
    )
    assert not scheduler.is_claimed("a")
    play(scheduler, (5, release(1), grant(2, "a")))
    assert scheduler.is_claimed("a")
