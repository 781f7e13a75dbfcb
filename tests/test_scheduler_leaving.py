"""Stories of the scheduler: unloading, reloading, closing."""

from __future__ import annotations

from llamarouter.core.events import StopReason
from llamarouter.core.scheduler import Limits, Phase, Scheduler
from tests.stories import (
    CRASH,
    ask,
    close,
    cut,
    forget,
    gone,
    grant,
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

CLOSING = StopReason.CLOSING

# --- unloading, reloading, closing ------------------------------------------------------------------------------------


def test_an_unload_drains_and_later_requests_wait_for_the_next_instance() -> None:
    scheduler = play(
        one_place(),
        (0, ask(1, "a"), start("a")),
        (1, ready("a", slots=2), grant(1, "a")),
        (2, unload("a", 60)),
        (3, ask(2, "a")),
    )
    assert scheduler.deadline() == 62
    assert scheduler.phase_of("a") is Phase.READY
    play(
        scheduler,
        (4, release(1), stop("a")),
        (5, ask(3, "a")),
        (6, gone("a"), start("a")),
        (7, ready("a", slots=2), grant(2, "a"), grant(3, "a")),
    )


def test_a_drain_that_takes_too_long_is_cut() -> None:
    scheduler = play(
        one_place(),
        (0, ask(1, "a"), start("a")),
        (1, ready("a"), grant(1, "a")),
        (2, unload("a", 60)),
        (61, tick),
        (62, tick, cut("a")),
        (63, tick),
    )
    assert scheduler.deadline() is None
    play(scheduler, (64, gone("a")), (65, release(1)))
    assert scheduler.idle()


def test_of_two_drains_the_shorter_counts() -> None:
    scheduler = play(
        one_place(),
        (0, ask(1, "a"), start("a")),
        (1, ready("a"), grant(1, "a")),
        (2, unload("a", 60)),
        (3, unload("a", 600)),
    )
    assert scheduler.deadline() == 62


def test_a_model_that_is_unloaded_had_its_turn() -> None:
    play(
        one_place(),
        (0, ask(1, "a"), start("a")),
        (1, ready("a"), grant(1, "a")),
        (1, ask(2, "a")),
        (2, ask(3, "b")),
        (3, unload("a", 60)),
        (4, release(1), stop("a")),
        (5, gone("a"), start("b")),
    )


def test_a_forced_unload_cuts_at_once_and_the_sooner_end_counts() -> None:
    play(
        two_places(),
        (0, ask(1, "a"), start("a")),
        (1, ready("a"), grant(1, "a")),
        (2, unload("a", 60)),
        (3, unload("a", 600)),
        (4, unload("a", 0), cut("a")),
        (5, unload("a", 0)),
    )


def test_a_stop_that_drags_on_is_cut_at_the_end_of_its_drain_or_when_asked_again() -> None:
    play(
        two_places(),
        (0, ask(1, "a"), start("a")),
        (1, ready("a"), grant(1, "a")),
        (2, release(1)),
        (3, unload("a", 10), stop("a")),
        (13, tick, cut("a")),
        (14, gone("a")),
        (14, ask(2, "b"), start("b")),
        (14, ready("b"), grant(2, "b")),
        (14, release(2)),
        (15, unload("b", 10), stop("b")),
        (16, unload("b", 0), cut("b")),
    )


def test_an_unload_while_loading_is_immediate_and_told_to_the_waiters() -> None:
    play(
        one_place(),
        (0, ask(1, "a"), start("a")),
        (1, unload("a", 60), refuse(1, "model_unloaded"), cut("a")),
        (1, ask(2, "a")),
        (1, ready("a")),  # it crossed the stop
        (2, gone("a"), start("a")),
    )


def test_an_unload_of_an_absent_model_is_nothing() -> None:
    play(
        one_place(),
        (0, unload("a", 0)),
        (0, ask(1, "b"), start("b")),
        (0, ask(2, "a")),
        (0, unload("a", 0)),
    )


def test_a_changed_model_is_drained_and_its_waiters_get_the_new_version() -> None:
    play(
        one_place(),
        (0, ask(1, "a"), start("a")),
        (0, ask(2, "a")),
        (1, ready("a"), grant(1, "a")),
        (2, forget("a", 60)),
        (3, release(1), stop("a")),
        (4, gone("a"), start("a")),
        (5, forget("a", 60), cut("a")),
        (6, gone("a"), start("a")),
        (7, ready("a"), grant(2, "a")),
    )


def test_a_changed_model_has_no_failures() -> None:
    play(
        one_place(),
        (0, ask(1, "a"), start("a")),
        (1, gone("a", CRASH), refuse(1, "model_crashed")),
        (1, forget("a", 60)),
        (1, ask(2, "a"), start("a")),
    )


def test_closing_refuses_who_waits_stops_who_is_idle_and_cuts_at_the_end() -> None:
    scheduler = play(
        Scheduler(Limits()),
        (0, ask(1, "idle"), start("idle")),
        (0, ask(2, "busy"), start("busy")),
        (0, ask(3, "slow"), start("slow")),
        (0, ask(4, "loading"), start("loading")),
        (1, ready("idle"), grant(1, "idle")),
        (1, ready("busy"), grant(2, "busy")),
        (1, ready("slow"), grant(3, "slow")),
        (2, release(1)),
        (2, ask(5, "busy")),
        (
            3,
            close(120),
            refuse(4, "draining"),
            refuse(5, "draining"),
            cut("loading", CLOSING),
            stop("idle", CLOSING),
        ),
        (4, ask(6, "busy"), refuse(6, "draining")),
        (4, ask(7, "new", autoload=False), refuse(7, "draining")),
        (5, release(2), stop("busy", CLOSING)),
        (6, gone("busy")),
        (6, gone("idle")),
        (6, gone("loading")),
    )
    assert scheduler.deadline() == 123
    play(scheduler, (123, tick, cut("slow", CLOSING)), (124, gone("slow")))
    assert not scheduler.idle()
    play(scheduler, (124, release(3)))
    assert scheduler.idle()
    assert scheduler.deadline() is None


def test_a_second_closing_hurries_and_a_claim_does_not_outlive_it() -> None:
    scheduler = play(
        one_place(max_wait=10),
        (0, ask(1, "a"), start("a")),
        (1, ready("a"), grant(1, "a")),
        (2, ask(2, "b")),
        (12, tick),
        (13, close(120), refuse(2, "draining")),
    )
    assert not scheduler.is_claimed("a")
    play(scheduler, (14, close(0), cut("a", CLOSING)))
