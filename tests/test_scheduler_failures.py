"""Stories of the scheduler: children that fail, crash, or die of memory."""

from __future__ import annotations

import pytest

from llamarouter.core.cooldown import Failure
from llamarouter.core.errors import ModelInvalid
from llamarouter.core.events import Arrived, Refuse
from llamarouter.core.refusals import cooling
from llamarouter.core.scheduler import Limits, Phase, Scheduler
from tests.stories import (
    CRASH,
    INVALID,
    MEMORY,
    ask,
    close,
    cut,
    evict,
    forget,
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

# --- failures ---------------------------------------------------------------------------------------------------------


def test_a_load_that_fails_is_told_to_every_waiter_and_cools_down() -> None:
    scheduler = play(
        one_place(),
        (0, ask(1, "a"), start("a")),
        (0, ask(2, "a", slot=False)),
        (0, load(3, "a")),
        (0, ask(4, "b")),
        (
            2,
            gone("a", INVALID, deterministic=True),
            refuse(1, "model_invalid"),
            refuse(2, "model_invalid"),
            refuse(3, "model_invalid"),
            start("b"),
        ),
    )
    assert scheduler.cooldown_left("a", 2.25) == 0.75
    failure = scheduler.failure_of("a")
    assert failure is not None
    assert failure.error is INVALID
    (refusal,) = scheduler.handle(Arrived(5, "a"), 2.25)
    assert isinstance(refusal, Refuse)
    assert refusal.error.reason == "model_cooldown"
    assert refusal.error.retry_after == 0.75
    assert refusal.error.message == "model 'a' failed and is left alone for 1 s more: wrong magic"
    known = Failure(ModelInvalid("model 'b': wrong magic"), 0.0, 1)
    assert cooling("b", known, 3.0).message == "model 'b' failed and is left alone for 3 s more: wrong magic"


def test_after_the_cool_down_one_probe_is_loaded_and_the_next_takes_twice_as_long() -> None:
    scheduler = play(
        one_place(),
        (0, ask(1, "a"), start("a")),
        (1, gone("a", CRASH), refuse(1, "model_crashed")),
        (1.9, ask(2, "a"), refuse(2, "model_cooldown")),
        (2, ask(3, "a"), start("a")),
        (2, ask(4, "a")),
        (3, gone("a", CRASH), refuse(3, "model_crashed"), refuse(4, "model_crashed")),
        (4.9, ask(5, "a"), refuse(5, "model_cooldown")),
        (5, ask(6, "a"), start("a")),
        (6, ready("a"), grant(6, "a")),
    )
    assert scheduler.failure_of("a") is None


def _broken(*, places: int = 1) -> Scheduler:
    """`a` has failed three times in ten seconds; the breaker is half open from 30 on."""
    return play(
        Scheduler(Limits(models_max=places)),
        (0, ask(1, "a"), start("a")),
        (3, gone("a", CRASH), refuse(1, "model_crashed")),
        (4, ask(2, "a"), start("a")),
        (5, gone("a", CRASH), refuse(2, "model_crashed")),
        (7, ask(3, "a"), start("a")),
        (10, gone("a", CRASH), refuse(3, "model_crashed")),
        (29.9, ask(4, "a"), refuse(4, "model_cooldown")),
    )


def test_a_model_that_failed_three_times_in_a_minute_is_tried_by_one_request_alone() -> None:
    scheduler = play(_broken(), (30, ask(5, "a"), start("a")), (30, ask(6, "a"), refuse(6, "model_cooldown")))
    (refusal,) = scheduler.handle(Arrived(7, "a"), 31.0)
    assert isinstance(refusal, Refuse)
    assert (refusal.error.reason, refusal.error.retry_after) == ("model_cooldown", 2.0)
    assert refusal.error.message == (
        "model 'a' failed 3 times, and one request is trying it again now; ask again in 2 s: signal SEGV"
    )
    play(
        scheduler,
        (31, load(8, "a"), refuse(8, "model_cooldown")),
        (32, gone("a", CRASH), refuse(5, "model_crashed")),
        # and so on, with a longer pause
        (71.9, ask(9, "a"), refuse(9, "model_cooldown")),
        (72, ask(10, "a"), start("a")),
        (72, ask(11, "a"), refuse(11, "model_cooldown")),
        (75, ready("a"), grant(10, "a")),
        # what is ready is for everybody
        (75, ask(12, "a")),
        (76, release(10), grant(12, "a")),
    )
    assert scheduler.failure_of("a") is None


def test_a_refusal_says_how_often_it_failed_and_what_is_left() -> None:
    (refusal,) = _broken().handle(Arrived(5, "a"), 25.0)
    assert isinstance(refusal, Refuse)
    assert refusal.error.message == "model 'a' failed 3 times and is left alone for 5 s more: signal SEGV"
    assert refusal.error.retry_after == 5.0


def test_a_probe_that_waits_for_a_place_is_the_only_one() -> None:
    play(
        _broken(),
        (29, ask(5, "b"), start("b")),
        (30, ask(6, "a")),
        (30, ask(7, "a"), refuse(7, "model_cooldown")),
        (31, ready("b"), grant(5, "b")),
        (35, release(5), evict("b")),
        (36, gone("b"), start("a")),
        (36, ask(8, "a"), refuse(8, "model_cooldown")),
        (39, ready("a"), grant(6, "a")),
    )


def test_the_probe_whose_client_leaves_is_followed_by_the_next_who_comes() -> None:
    play(
        _broken(),
        (30, ask(5, "a"), start("a")),
        (31, left(5)),
        (31, ask(6, "a")),
        (31, ask(7, "a"), refuse(7, "model_cooldown")),
        (32, ready("a"), grant(6, "a")),
    )


def test_a_crash_soon_after_the_probe_opens_the_breaker_again_for_longer() -> None:
    play(
        _broken(),
        (30, ask(5, "a"), start("a")),
        (33, ready("a"), grant(5, "a")),
        (33, ask(6, "a")),
        (50, gone("a", CRASH), refuse(6, "model_cooldown")),
        (89.9, ask(7, "a"), refuse(7, "model_cooldown")),
        (90, ask(8, "a"), start("a")),
        (90, ask(9, "a"), refuse(9, "model_cooldown")),
    )


def test_a_minute_of_service_closes_the_breaker() -> None:
    play(
        _broken(),
        (30, ask(5, "a"), start("a")),
        (33, ready("a"), grant(5, "a")),
        (93, gone("a", CRASH)),  # the fourth failure: 2^(4 - 2) seconds
        (97, ask(6, "a"), start("a")),
        (97, ask(7, "a")),
        (98, ready("a"), grant(6, "a")),
    )


def test_crashes_and_failed_loads_count_alike() -> None:
    play(
        one_place(),
        (0, ask(1, "a"), start("a")),
        (1, ready("a"), grant(1, "a")),
        (2, gone("a", CRASH)),
        (2, ask(2, "a"), start("a")),
        (3, gone("a", CRASH), refuse(2, "model_crashed")),
        (5, ask(3, "a"), start("a")),
        (6, ready("a"), grant(3, "a")),
        (7, gone("a", CRASH)),
        (26.9, ask(4, "a"), refuse(4, "model_cooldown")),
        (27, ask(5, "a"), start("a")),
        (27, ask(6, "a"), refuse(6, "model_cooldown")),
    )


def test_a_reload_closes_the_breaker() -> None:
    play(_broken(), (11, forget("a", 5)), (11, ask(5, "a"), start("a")), (11, ask(6, "a")))


def test_a_crash_of_a_model_that_ran_is_followed_by_one_restart_at_once() -> None:
    scheduler = play(
        one_place(),
        (0, ask(1, "a"), start("a")),
        (1, ready("a"), grant(1, "a")),
        (1, ask(2, "a")),
        (2, gone("a", CRASH), start("a")),
    )
    assert scheduler.in_flight("a") == 0
    play(
        scheduler,
        (3, ready("a"), grant(2, "a")),
        # the request that was inside when the old child died says so late: it counts nowhere
        (3, release(1)),
    )
    assert scheduler.in_flight("a") == 1
    play(
        scheduler,
        (4, ask(3, "a")),
        (5, gone("a", CRASH), refuse(3, "model_cooldown")),
        (5, release(2)),
        (6, ask(4, "a"), start("a")),
    )


def test_a_deterministic_crash_waits_for_the_cool_down_at_once() -> None:
    play(
        one_place(),
        (0, ask(1, "a"), start("a")),
        (1, ready("a"), grant(1, "a")),
        (1, ask(2, "a")),
        (2, gone("a", CRASH, deterministic=True), refuse(2, "model_cooldown")),
    )


def test_a_model_that_crashes_had_its_turn() -> None:
    play(
        one_place(),
        (0, ask(1, "a"), start("a")),
        (0, ask(2, "a")),
        (1, ready("a"), grant(1, "a")),
        (2, ask(3, "b")),
        (3, gone("a", CRASH), start("b")),
    )


@pytest.mark.parametrize("by_order", [False, True])
def test_a_claimed_model_that_crashes_or_is_unloaded_keeps_the_place_in_line_that_it_has_had_since(
    by_order: bool,
) -> None:
    scheduler = play(
        one_place(max_wait=5.0),
        (0, ask(1, "a"), start("a")),
        (0, ask(2, "a")),
        (1, ready("a"), grant(1, "a")),
        (2, ask(3, "b")),
        (7, tick),  # `a` is claimed: its second one wants a place anew from now on
        (8, ask(4, "c")),
    )
    if by_order:
        play(scheduler, (9, unload("a", 0), cut("a")), (9.5, gone("a"), start("b")))
    else:
        play(scheduler, (9, gone("a", CRASH), start("b")))
    play(
        scheduler,
        (10, ready("b"), grant(3, "b")),
        (11, release(3), evict("b")),
        (12, gone("b"), start("a")),
    )


def test_a_crash_turns_away_who_may_not_load() -> None:
    play(
        one_place(),
        (0, load(1, "a"), start("a")),
        (1, ready("a"), grant(1, "a")),
        (1, ask(2, "a", autoload=False), grant(2, "a")),
        (1, ask(3, "a", autoload=False)),
        (2, gone("a", CRASH), refuse(3, "model_not_loaded")),
    )


def _with_an_invalid_model(*, places: int = 1) -> Scheduler:
    """`bad` has failed, its cool-down is over, and `good` is idle."""
    return play(
        Scheduler(Limits(models_max=places)),
        (0, ask(1, "bad"), start("bad")),
        (1, gone("bad", INVALID, deterministic=True), refuse(1, "model_invalid")),
        (1, ask(2, "good"), start("good")),
        (2, ready("good"), grant(2, "good")),
        (3, release(2)),
    )


def test_no_healthy_model_is_stopped_to_see_an_invalid_one_fail_again() -> None:
    scheduler = _with_an_invalid_model()
    (refusal,) = scheduler.handle(Arrived(3, "bad"), 50.0)
    assert isinstance(refusal, Refuse)
    assert isinstance(refusal.error, ModelInvalid)
    assert refusal.error.message == "wrong magic; it is tried again when a place is free, or after a reload"
    play(scheduler, (51, load(4, "bad"), refuse(4, "model_invalid")))
    assert scheduler.phase_of("good") is Phase.READY
    assert scheduler.deadline() is None


def test_an_invalid_model_is_probed_where_a_place_is_free_or_becomes_so() -> None:
    play(_with_an_invalid_model(places=2), (50, ask(3, "bad"), start("bad")))
    play(
        _with_an_invalid_model(),
        (50, unload("good", 5), stop("good")),
        (50, ask(3, "bad")),
        (51, gone("good"), start("bad")),
        (52, ask(4, "good")),
        (53, ready("bad"), grant(3, "bad")),
        (53, release(3)),
        (55, tick, evict("bad")),
        (56, gone("bad"), start("good")),
        (57, ready("good"), grant(4, "good")),
        (57, release(4)),
        (58, ask(5, "bad"), evict("good")),  # it has been loaded since: it is a model like any other
    )


def test_a_place_that_becomes_free_is_not_for_an_invalid_model_if_another_wants_it() -> None:
    play(
        _with_an_invalid_model(),
        (50, unload("good", 5), stop("good")),
        (50, ask(3, "bad")),
        (51, ask(4, "other"), refuse(3, "model_invalid")),
        (52, gone("good"), start("other")),
    )


def test_an_invalid_model_is_refused_at_once_also_behind_a_crowd_for_which_nothing_can_be_done() -> None:
    scheduler = play(
        _with_an_invalid_model(),
        (50, ask(3, "good"), grant(3, "good")),
        (50, ask(4, "second")),
        (50, ask(5, "third")),
        (51, ask(6, "fourth")),  # nobody looks at that one yet
        (51, ask(7, "bad"), refuse(7, "model_invalid")),
    )
    assert scheduler.waiting("bad") == 0
    assert scheduler.waiting("fourth") == 1


def test_a_reload_forgets_that_a_model_was_invalid() -> None:
    play(_with_an_invalid_model(), (50, forget("bad", 5)), (51, ask(3, "bad"), evict("good")))


def test_a_failure_that_may_not_happen_again_is_probed_at_the_cost_of_an_idle_model() -> None:
    play(
        _with_an_invalid_model(places=2),
        (50, ask(3, "bad"), start("bad")),
        (51, gone("bad", CRASH), refuse(3, "model_crashed")),
        (52, ask(4, "third"), start("third")),
        (60, ask(5, "bad"), evict("good")),
    )


def test_an_end_that_nobody_asked_for_is_a_failure_also_without_an_error() -> None:
    scheduler = play(one_place(), (0, ask(1, "a"), start("a")), (1, gone("a"), refuse(1, "model_crashed")))
    assert scheduler.cooldown_left("a", 1) == 1


def test_what_ends_after_we_asked_is_a_stop_with_any_code() -> None:
    scheduler = play(
        one_place(),
        (0, ask(1, "a"), start("a")),
        (1, ready("a"), grant(1, "a")),
        (2, release(1)),
        (3, unload("a", 0), cut("a")),
        (3, ask(2, "a")),
        (4, gone("a", CRASH), start("a")),
    )
    assert scheduler.failure_of("a") is None


# --- memory -----------------------------------------------------------------------------------------------------------


def _out_of_memory(*, others: int = 1) -> Scheduler:
    """`a` (and `b`) idle, `c` loading for ticket 9."""
    scheduler = Scheduler(Limits(models_max=0))
    for number in range(others):
        model = "ab"[number]
        play(
            scheduler,
            (number, ask(number, model), start(model)),
            (number, ready(model), grant(number, model)),
            (number, release(number)),
        )
    return play(scheduler, (10, ask(9, "c"), start("c")))


def test_a_load_that_dies_of_memory_is_tried_once_more_when_an_idle_model_is_gone() -> None:
    scheduler = play(_out_of_memory(others=2), (12, gone("c", MEMORY), evict("a")))
    assert scheduler.phase_of("c") is Phase.STARTING
    assert scheduler.phase_of("c") is not Phase.READY
    play(
        scheduler,
        (12, ready("c")),  # nothing is there that could say so
        (12, gone("c", CRASH)),
        (13, ask(8, "c")),
        (14, gone("a"), start("c")),
        (16, ready("c", slots=2), grant(9, "c"), grant(8, "c")),
    )
    assert scheduler.phase_of("c") is Phase.READY


def test_the_second_time_every_waiter_is_told() -> None:
    play(
        _out_of_memory(others=2),
        (12, gone("c", MEMORY), evict("a")),
        (14, gone("a"), start("c")),
        (16, gone("c", MEMORY), refuse(9, "insufficient_memory")),
        (16, ask(8, "c"), refuse(8, "model_cooldown")),
    )


def test_without_an_idle_model_a_load_that_dies_of_memory_has_failed() -> None:
    play(
        _out_of_memory(),
        (11, ask(8, "a"), grant(8, "a")),
        (12, gone("c", MEMORY), refuse(9, "insufficient_memory")),
    )


def test_nothing_is_evicted_for_a_load_that_nobody_waits_for() -> None:
    play(_out_of_memory(), (11, left(9)), (12, gone("c", MEMORY)))


def test_the_second_try_is_given_up_when_its_waiters_leave() -> None:
    scheduler = play(_out_of_memory(), (12, gone("c", MEMORY), evict("a")), (13, left(9)), (14, gone("a")))
    assert scheduler.idle()


def test_the_second_try_keeps_its_place() -> None:
    play(
        two_places(),
        (0, ask(1, "a"), start("a")),
        (0, ready("a"), grant(1, "a")),
        (0, release(1)),
        (1, ask(2, "b"), start("b")),
        (2, gone("b", MEMORY), evict("a")),
        (2, ask(3, "c")),
        (3, gone("a"), start("b"), start("c")),
    )


@pytest.mark.parametrize("event", [unload("c", 5), close(5)])
def test_the_second_try_ends_with_an_unload(event: object) -> None:
    scheduler = _out_of_memory()
    play(scheduler, (12, gone("c", MEMORY), evict("a")))
    scheduler.handle(event, 13.0)  # type: ignore[arg-type]
    assert scheduler.phase_of("c") is Phase.ABSENT
    assert scheduler.waiting("c") == 0


def test_a_reload_during_the_second_try_begins_anew() -> None:
    play(
        _out_of_memory(),
        (12, ask(8, "c", autoload=False)),
        (12, gone("c", MEMORY), evict("a")),
        (13, forget("c", 5), refuse(8, "model_not_loaded"), start("c")),
    )
