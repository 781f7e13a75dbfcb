"""Stories of the scheduler: models that end by themselves, models that stay, and which of several goes first."""

from __future__ import annotations

import pytest

from llamarouter.core.events import Closing, Pinned, PolicySet, Ready, StopReason
from llamarouter.core.policy import Policy
from llamarouter.core.scheduler import Phase, Scheduler
from llamarouter.core.waiting import Lane
from tests.stories import (
    CRASH,
    MEMORY,
    ask,
    evict,
    glance,
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

KEPT = Policy(pinned=True)


def policies(**models: Policy) -> PolicySet:
    return PolicySet(models)


def expire(model: str) -> object:
    return stop(model, StopReason.EXPIRED)


# --- a time to live ---------------------------------------------------------------------------------------------------


def loaded(**models: Policy) -> Scheduler:
    """Two places; each model is idle since 2."""
    scheduler = two_places()
    play(scheduler, (0, policies(**models)))
    for ticket, model in enumerate(models, start=1):
        play(scheduler, (0, ask(ticket, model), start(model)), (1, ready(model), grant(ticket, model)))
    for ticket in range(1, len(models) + 1):
        play(scheduler, (2, release(ticket)))
    return scheduler


def test_a_model_that_was_idle_for_its_time_ends_and_not_before() -> None:
    scheduler = loaded(a=Policy(10.0), b=Policy())
    assert scheduler.expires_in("a", 5.0) == 7.0
    assert scheduler.expires_in("b", 5.0) is None
    play(scheduler, (11.9, tick), (12, tick, expire("a")), (13, gone("a")))
    assert scheduler.living() == ("b",)
    assert scheduler.deadline() is None
    assert scheduler.expires_in("a", 13.0) is None


def test_a_request_begins_its_time_anew_also_on_the_warm_path() -> None:
    scheduler = loaded(a=Policy(10.0))
    assert scheduler.deadline() is not None
    assert scheduler.grant_now(5, "a", Lane.SLOT, 9.0)
    assert scheduler.release_now(5, 10.0)
    play(scheduler, (12, tick))
    assert scheduler.deadline() == 20.0
    assert scheduler.grant_now(6, "a", Lane.SLOT, 15.0)
    assert scheduler.expires_in("a", 16.0) is None  # it is used
    play(scheduler, (20, tick))
    assert scheduler.deadline() == 30.0
    assert scheduler.release_now(6, 21.0)
    play(scheduler, (30, tick))
    assert scheduler.deadline() == 31.0
    play(scheduler, (31, tick, expire("a")))


def test_a_model_that_is_loaded_for_nobody_has_its_time_from_then_on() -> None:
    play(
        one_place(),
        (0, policies(a=Policy(5.0))),
        (0, load(1, "a"), start("a")),
        (3, ready("a"), grant(1, "a")),
        (8, tick, expire("a")),
    )


def test_who_only_looks_keeps_nothing_and_is_not_cut_off() -> None:
    scheduler = play(
        loaded(a=Policy(10.0)),
        (6, glance(5, "a"), grant(5, "a")),
        (7, release(5)),
        (11, glance(6, "a"), grant(6, "a")),
        (12, tick),
        (13, glance(7, "a"), refuse(7, "model_not_loaded")),
        (14, release(6), expire("a")),
    )
    assert scheduler.phase_of("a") is Phase.STOPPING


@pytest.mark.parametrize("autoload", [True, False])
def test_who_comes_while_the_last_one_looks_comes_just_in_time(autoload: bool) -> None:
    play(
        loaded(a=Policy(10.0)),
        (11, glance(6, "a"), grant(6, "a")),
        (12, tick),
        (13, ask(7, "a", autoload=autoload), grant(7, "a")),
        (14, release(6)),
        (15, release(7)),
        (25, tick, expire("a")),
    )


def test_who_comes_while_it_ends_waits_for_the_new_load() -> None:
    play(
        loaded(a=Policy(10.0)),
        (12, ask(5, "a"), expire("a")),  # what was due before the request comes before it
        (12, ask(6, "a", autoload=False), refuse(6, "model_not_loaded")),
        (13, gone("a"), start("a")),
        (14, ready("a", slots=2), grant(5, "a")),
    )


def test_a_place_that_expires_is_one_that_is_being_freed() -> None:
    play(
        loaded(a=Policy(10.0), b=Policy(10.0)),
        (3, ask(5, "b"), grant(5, "b")),
        (12, ask(6, "c"), expire("a")),
        (13, gone("a"), start("c")),
    )


def test_an_unloaded_one_is_not_stopped_again() -> None:
    play(
        loaded(a=Policy(10.0)),
        (3, ask(5, "a"), grant(5, "a")),
        (4, unload("a", 100.0)),
        (14, tick),
        (15, release(5), stop("a")),
        (40, tick),
    )


def test_a_reload_changes_the_time_of_a_living_model() -> None:
    scheduler = loaded(a=Policy(10.0))
    play(scheduler, (5, policies(a=Policy(60.0))), (12, tick))
    assert scheduler.deadline() == 62.0
    play(scheduler, (20, policies()), (100, tick))
    assert scheduler.deadline() is None
    play(scheduler, (101, policies(a=Policy(30.0)), expire("a")))


def test_a_reload_saves_one_that_somebody_looks_at() -> None:
    play(
        loaded(a=Policy(10.0)),
        (11, glance(6, "a"), grant(6, "a")),
        (12, tick),
        (12, policies(a=Policy(20.0))),
        (13, release(6)),
        (22, tick, expire("a")),
    )


# --- pins -------------------------------------------------------------------------------------------------------------


def test_a_pinned_model_never_goes_for_another_nor_by_itself() -> None:
    scheduler = play(
        loaded(a=Policy(10.0, pinned=True), b=Policy()),
        (3, ask(5, "b"), grant(5, "b")),
        (4, release(5)),
        (50, ask(6, "c"), evict("b")),  # a was used less recently
        (51, gone("b"), start("c")),
        (52, ready("c"), grant(6, "c")),
        (53, ask(7, "d")),
        (63, tick),  # c is claimed, and not a, which is idle
        (64, release(6), evict("c")),
    )
    assert scheduler.policy_of("a").pinned
    assert scheduler.phase_of("a") is Phase.READY


def test_where_pinned_models_hold_every_place_the_others_are_told_at_once() -> None:
    scheduler = loaded(a=KEPT, b=KEPT)
    play(scheduler, (3, ask(5, "c"), refuse(5, "no_place")), (3, load(6, "c"), refuse(6, "no_place")))
    error = scheduler.handle(ask(7, "c"), 4.0)[0].error  # type: ignore[union-attr]
    assert str(error) == "all 2 places are held by pinned models (a, b): `lr unpin` one of them, or raise --models-max"
    assert error.retry_after == 30.0
    play(
        scheduler,
        (5, ask(8, "a"), grant(8, "a")),
        (6, unload("b", 9.0), stop("b")),
        (6, ask(9, "c")),  # for the place that b leaves
        (7, gone("b"), start("c")),
        (7, ask(10, "b")),  # it is behind
        (8, ready("c"), grant(9, "c")),
    )


def test_somebody_pins_the_last_place_while_others_wait_for_it() -> None:
    play(
        one_place(),
        (0, ask(1, "a"), start("a")),
        (1, ready("a"), grant(1, "a")),
        (2, ask(2, "b")),
        (12, tick),  # a is claimed
        (13, ask(3, "a")),
        (14, Pinned("a", True), refuse(2, "no_place")),
        (15, release(1), grant(3, "a")),
        (16, release(3)),
        (17, Pinned("a", None)),
        (18, ask(4, "b"), evict("a")),
    )


def test_a_claim_that_a_pin_takes_back_falls_on_another() -> None:
    scheduler = play(
        two_places(),
        (0, ask(1, "a"), start("a")),
        (0, ask(2, "b"), start("b")),
        (1, ready("a", slots=2), grant(1, "a")),
        (1.5, ready("b"), grant(2, "b")),
        (2, ask(3, "c")),
        (12, tick),
    )
    assert scheduler.is_claimed("a")
    play(scheduler, (13, ask(4, "a")), (14, Pinned("a", True), grant(4, "a")))
    assert (scheduler.is_claimed("a"), scheduler.is_claimed("b")) == (False, True)


def test_an_unpinned_one_goes_as_any_other() -> None:
    play(
        loaded(a=Policy(10.0, pinned=True), b=KEPT),
        (50, Pinned("a", False), expire("a")),
        (51, gone("a")),
        (52, Pinned("b", False)),
        (53, ask(5, "c"), start("c")),
        (54, ask(6, "d"), evict("b")),
    )


def test_a_pinned_model_that_was_unloaded_or_crashed_is_loaded_when_somebody_asks() -> None:
    play(
        loaded(a=KEPT),
        (3, unload("a", 9.0), stop("a")),
        (4, gone("a")),
        (5, ask(5, "a"), start("a")),
        (6, ready("a"), grant(5, "a")),
        (7, gone("a", CRASH)),
        (8, ask(6, "a"), start("a")),
    )


def test_a_pinned_load_that_nobody_waits_for_any_more_goes_on() -> None:
    play(
        one_place(),
        (0, policies(a=KEPT)),
        (0, ask(1, "a"), start("a")),
        (1, left(1)),
        (2, ask(2, "b"), refuse(2, "no_place")),
        (3, ready("a")),
    )


def test_the_second_try_of_a_pinned_model_is_pinned_too() -> None:
    play(
        loaded(b=Policy()),
        (3, policies(a=KEPT)),
        (3, ask(5, "a"), start("a")),
        (4, gone("a", MEMORY), evict("b")),
        (5, gone("b"), start("a")),
        (6, left(5)),
        (7, ask(6, "c"), start("c")),
        (8, ask(7, "d")),  # the load of a, for whom nobody waits any more, goes on
        (9, ready("c"), grant(6, "c")),
    )


def test_no_pinned_model_goes_for_a_load_that_died_of_memory() -> None:
    play(
        loaded(a=KEPT),
        (3, ask(5, "b"), start("b")),
        (4, gone("b", MEMORY), refuse(5, "insufficient_memory")),
    )


def test_the_end_of_the_router_is_the_end_of_pinned_ones_too() -> None:
    play(
        loaded(a=KEPT, b=Policy(5.0)),
        (3, Closing(9.0), stop("a", StopReason.CLOSING), stop("b", StopReason.CLOSING)),
    )


# --- priorities -------------------------------------------------------------------------------------------------------


def test_of_the_idle_the_lowest_goes_first_and_of_equals_the_least_recently_used() -> None:
    high, low = Policy(priority=1), Policy(priority=-1)
    for first, second, victim in ((high, low, "b"), (high, high, "a"), (low, high, "a"), (Policy(), low, "b")):
        scheduler = two_places()
        play(
            scheduler,
            (0, policies(a=first, b=second)),
            (0, ask(1, "a"), start("a")),
            (0, ask(2, "b"), start("b")),
            (1, ready("a"), grant(1, "a")),
            (1, ready("b"), grant(2, "b")),
            (2, release(1)),
            (3, release(2)),
            (9, ask(3, "c"), evict(victim)),
        )


def test_an_idle_one_goes_before_a_busy_one_whatever_their_priorities_and_of_the_busy_the_lowest() -> None:
    def busy(a: Policy, b: Policy) -> Scheduler:
        return play(
            two_places(),
            (0, policies(a=a, b=b)),
            (0, ask(1, "a"), start("a")),
            (0, ask(2, "b"), start("b")),
            (1, ready("a"), grant(1, "a")),
            (1, ready("b"), grant(2, "b")),
            (2, ask(3, "c")),
            (12, tick),
        )

    scheduler = busy(Policy(priority=2), Policy(priority=1))
    assert (scheduler.is_claimed("a"), scheduler.is_claimed("b")) == (False, True)
    play(scheduler, (13, release(1), evict("a")))  # b goes on: nobody has to wait for its end
    assert not scheduler.is_claimed("b")


def test_no_priority_overtakes_in_the_queue() -> None:
    play(
        one_place(),
        (0, policies(c=Policy(priority=1000))),
        (0, ask(1, "a"), start("a")),
        (1, Ready("a", 1), grant(1, "a")),
        (2, ask(2, "b")),
        (3, ask(3, "c")),
        (4, release(1), evict("a")),
        (5, gone("a"), start("b")),
    )
