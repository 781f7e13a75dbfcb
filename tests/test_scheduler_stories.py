"""Stories of the scheduler: loading, serving, and what may wait."""

from __future__ import annotations

from llamarouter.core.events import PolicySet
from llamarouter.core.policy import Policy
from llamarouter.core.scheduler import Limits, Phase, Scheduler
from llamarouter.core.waiting import Lane
from tests.stories import (
    CRASH,
    ask,
    cut,
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

# --- loading and serving ----------------------------------------------------------------------------------------------


def test_the_first_request_loads_and_later_ones_go_straight_through() -> None:
    scheduler = play(
        one_place(),
        (0, ask(1, "a"), start("a")),
        (2, ready("a"), grant(1, "a")),
        (3, release(1)),
        (4, ask(2, "a"), grant(2, "a")),
        (5, release(2)),
    )
    assert scheduler.deadline() is None


def test_any_number_of_waiters_cause_one_spawn_and_go_in_by_arrival_as_slots_become_free() -> None:
    scheduler = play(
        one_place(),
        (0, ask(1, "a"), start("a")),
        (0, ask(2, "a")),
        (0, ask(3, "a")),
        (0, ask(4, "a")),
        (1, ready("a", slots=2), grant(1, "a"), grant(2, "a")),
    )
    assert (scheduler.in_flight("a"), scheduler.waiting("a")) == (2, 2)
    play(
        scheduler,
        (2, release(2), grant(3, "a")),
        (2, ask(5, "a")),
        (2, release(1), grant(4, "a")),
        (3, release(3), grant(5, "a")),
        (3, release(4)),
        (3, release(5)),
    )
    assert scheduler.in_flight("a") == 0


def test_requests_that_need_no_slot_are_bounded_by_connections_alone() -> None:
    play(
        one_place(),
        (0, ask(1, "a"), start("a")),
        (0, ask(2, "a")),
        (0, ask(3, "a", slot=False)),
        (1, ready("a", slots=1, connections=2), grant(1, "a"), grant(3, "a")),
        (1, ask(4, "a", slot=False), grant(4, "a")),
        (1, ask(5, "a", slot=False)),
        (2, release(3), grant(5, "a")),
        (2, release(1), grant(2, "a")),
    )


def test_a_child_that_tells_nonsense_about_its_slots_has_one() -> None:
    play(
        one_place(),
        (0, ask(1, "a"), start("a")),
        (0, ask(2, "a", slot=False)),
        (1, ready("a", slots=0, connections=0), grant(1, "a"), grant(2, "a")),
    )


def test_without_a_limit_every_model_is_started() -> None:
    scheduler = play(Scheduler(Limits(models_max=0)), *((0, ask(n, f"m{n}"), start(f"m{n}")) for n in range(20)))
    assert len(scheduler.living()) == 20


# --- loads without a client -------------------------------------------------------------------------------------------


def test_a_load_is_over_when_the_model_is_ready_and_needs_no_release() -> None:
    scheduler = play(
        one_place(),
        (0, load(1, "a"), start("a")),
        (0, load(2, "a")),
        (1, ready("a"), grant(1, "a"), grant(2, "a")),
        (1, load(3, "a"), grant(3, "a")),
    )
    assert scheduler.in_flight("a") == 0
    assert scheduler.last_used("a") == 1


def test_a_load_joins_the_queue_when_all_is_busy() -> None:
    play(
        one_place(max_wait=10),
        (0, ask(1, "a"), start("a")),
        (1, ready("a"), grant(1, "a")),
        (2, load(2, "b")),
        (5, release(1), evict("a")),
        (6, gone("a"), start("b")),
        (7, ready("b"), grant(2, "b")),
    )


def test_a_glance_loads_nothing_waits_for_no_load_and_is_no_use_of_the_model() -> None:
    scheduler = play(
        two_places(),
        (0, glance(1, "a"), refuse(1, "model_not_loaded")),
        (0, ask(2, "a"), start("a")),
        (1, glance(3, "a"), refuse(3, "unavailable")),
        (2, ready("a"), grant(2, "a")),
        (3, glance(4, "a"), grant(4, "a")),
        (4, glance(5, "a"), grant(5, "a")),
        (5, glance(6, "a")),  # both connections are taken
        (6, release(4), grant(6, "a")),
        (7, release(2)),
        (8, release(5)),
    )
    assert scheduler.in_flight("a") == 1
    assert scheduler.last_used("a") == 7
    play(scheduler, (9, release(6)))
    assert scheduler.last_used("a") == 7
    play(
        scheduler,
        (10, load(7, "b"), start("b")),
        (11, ready("b"), grant(7, "b")),
        (12, glance(8, "a"), grant(8, "a")),
        (13, release(8)),
        (20, ask(9, "c"), evict("a")),  # looked at last, and yet the least recently used
        (20, glance(10, "a"), refuse(10, "model_not_loaded")),
        (21, gone("a"), start("c")),
    )


def test_without_leave_to_load_only_a_child_that_is_there_or_coming_serves() -> None:
    scheduler = play(
        one_place(),
        (0, ask(1, "a", autoload=False), refuse(1, "model_not_loaded")),
        (0, load(2, "a"), start("a")),
        (0, ask(3, "a", autoload=False)),
        (1, ready("a"), grant(3, "a"), grant(2, "a")),
        (1, ask(4, "a", autoload=False)),
        (2, release(3), grant(4, "a")),
        (2, ask(5, "a", autoload=False)),
        (3, unload("a", 60)),
        (3, ask(6, "a", autoload=False), refuse(6, "model_not_loaded")),
        (4, release(4), stop("a"), refuse(5, "model_not_loaded")),
        (4, ask(7, "a", autoload=False), refuse(7, "model_not_loaded")),
        (5, gone("a")),
    )
    assert scheduler.phase_of("a") is Phase.ABSENT


def test_a_claim_that_is_carried_out_turns_away_who_may_not_load() -> None:
    play(
        one_place(max_wait=10),
        (0, load(1, "a"), start("a")),
        (1, ready("a"), grant(1, "a")),
        (3, ask(2, "a", autoload=False), grant(2, "a")),
        (3, load(3, "b")),
        (13, tick),
        (14, ask(4, "a", autoload=False)),
        (15, release(2), evict("a"), refuse(4, "model_not_loaded")),
        (16, gone("a"), start("b")),
    )


# --- limits -----------------------------------------------------------------------------------------------------------


def test_the_queue_is_bounded_for_each_model_in_all_and_in_bytes() -> None:
    play(
        Scheduler(Limits(queue_per_model=2, queue_in_all=4, queue_bytes=100)),
        (0, ask(1, "a", body=40), start("a")),
        (0, ask(2, "a", body=40)),
        (0, ask(3, "a"), refuse(3, "queue_full")),
        (0, ask(4, "b", body=21), refuse(4, "queue_full")),
        (0, ask(5, "b", body=20), start("b")),
        (0, ask(6, "c", body=1), refuse(6, "queue_full")),
        (0, ask(7, "c"), start("c")),
        (0, ask(8, "d"), refuse(8, "queue_full")),
        (0, left(5)),
        (0, ask(9, "d", body=20), start("d")),
        (1, ready("a", slots=1), grant(1, "a")),
        (1, ask(10, "a", body=40)),
    )


def test_a_model_may_have_a_line_and_a_patience_of_its_own() -> None:
    scheduler = play(
        Scheduler(Limits(queue_per_model=2, queue_timeout=50)),
        (0, PolicySet({"b": Policy(queue=3, queue_timeout=5)})),
        (0, ask(1, "a"), start("a")),
        (0, ask(2, "a")),
        (0, ask(3, "a"), refuse(3, "queue_full")),
        (0, ask(4, "b"), start("b")),
        (1, ask(5, "b")),
        (2, ask(6, "b")),
        (2, ask(7, "b"), refuse(7, "queue_full")),
    )
    assert scheduler.deadline() == 5
    play(scheduler, (5, tick, refuse(4, "queue_timeout")), (6.5, tick, refuse(5, "queue_timeout")))
    assert scheduler.deadline() == 7
    play(scheduler, (6.6, PolicySet({})), (10, tick), (50, tick, *(refuse(n, "queue_timeout") for n in (1, 2))))
    assert scheduler.deadline() == 52


def test_a_patience_of_its_own_holds_for_who_comes_behind_others_that_can_get_nothing_either() -> None:
    play(
        one_place(max_wait=1000, queue_timeout=500),
        (0, PolicySet({"d": Policy(queue_timeout=5)})),
        (0, ask(1, "a"), start("a")),
        (1, ready("a"), grant(1, "a")),
        *((2, ask(ticket, f"m{ticket}")) for ticket in range(10, 20)),
        (50, tick),
        (60, ask(2, "d")),
        (65, tick, refuse(2, "queue_timeout")),
    )


# --- what the scheduler does not know ---------------------------------------------------------------------------------


def test_unknown_tickets_and_models_are_ignored() -> None:
    scheduler = play(
        one_place(),
        (0, left(1)),
        (0, release(2)),
        (0, ready("a")),
        (0, gone("a", CRASH)),
        (0, tick),
        (0, ask(3, "a"), start("a")),
        (1, ready("a"), grant(3, "a")),
        (2, left(3)),
        (2, ready("a", slots=9)),
        (2, ask(4, "a")),
        (3, release(3), grant(4, "a")),
        (3, release(3)),
    )
    assert scheduler.in_flight("a") == 1


def test_views_of_an_absent_model() -> None:
    scheduler = Scheduler(Limits())
    assert scheduler.phase_of("a") is Phase.ABSENT
    assert scheduler.in_flight("a") == scheduler.waiting("a") == 0
    assert scheduler.last_used("a") is None
    assert scheduler.failure_of("a") is None
    assert scheduler.cooldown_left("a", 0.0) == 0.0
    assert not scheduler.is_claimed("a")
    assert scheduler.idle()


def test_last_used_moves_on_grants_and_on_becoming_idle_only() -> None:
    scheduler = play(
        one_place(),
        (0, load(1, "a"), start("a")),
        (0, left(1)),
        (1, ready("a", slots=2)),
    )
    assert scheduler.last_used("a") is None
    play(scheduler, (2, ask(2, "a"), grant(2, "a")), (3, ask(3, "a"), grant(3, "a")))
    assert scheduler.last_used("a") == 3
    play(scheduler, (4, release(2)))
    assert scheduler.last_used("a") == 3
    play(scheduler, (5, release(3)))
    assert scheduler.last_used("a") == 5


def test_the_short_forms_do_nothing_once_something_is_due() -> None:
    scheduler = play(
        two_places(),
        (0, ask(1, "a"), start("a")),
        (0, ask(2, "b"), start("b")),
        (1, ready("a", slots=2), grant(1, "a")),
        (1, ready("b", slots=2), grant(2, "b")),
        (2, unload("b", 3.0)),
    )
    assert scheduler.grant_now(3, "a", Lane.SLOT, 4.0)
    assert scheduler.release_now(3, 4.0)
    assert not scheduler.grant_now(4, "a", Lane.SLOT, 5.0)
    assert not scheduler.release_now(1, 5.0)
    assert scheduler.in_flight("a") == 1
    play(scheduler, (5, release(1), cut("b")))
