"""Stories of the scheduler: how long somebody waits while others are busy."""

from __future__ import annotations

from llamarouter.core.errors import QueueTimeout
from llamarouter.core.events import Refuse, TimePassed
from tests.stories import (
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
        # asked late, it is refused all the same, and not granted; then nobody waits for the load, but for its place
        (401, ready("a"), refuse(2, "queue_timeout"), evict("a")),
        (401, left(2)),
    )


def test_a_queue_timeout_says_when_to_come_back() -> None:
    scheduler = play(one_place(queue_timeout=5, max_wait=3), (0, ask(1, "a"), start("a")))
    (refusal,) = scheduler.handle(TimePassed(), 5.0)
    assert isinstance(refusal, Refuse)
    assert isinstance(refusal.error, QueueTimeout)
    assert refusal.error.retry_after == 3


def test_who_came_first_is_overdue_first_whatever_he_needs() -> None:
    play(
        one_place(queue_timeout=50),
        (0, load(1, "a"), start("a")),
        (1, ask(2, "a", slot=False)),
        (2, ask(3, "a")),
        (50, tick, refuse(1, "queue_timeout")),
        (51, tick, refuse(2, "queue_timeout")),
        (52, tick, refuse(3, "queue_timeout")),
    )
