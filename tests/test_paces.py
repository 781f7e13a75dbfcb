"""When a client that was sent away is told to come back."""

from __future__ import annotations

import pytest

from llamarouter.core.events import Arrived, Command, Event, Exited, Ready, Refuse, Released, TimePassed
from llamarouter.core.scheduler import Limits, Scheduler


def after(commands: list[Command]) -> float | None:
    """What the one refusal among them says."""
    (refusal,) = [command for command in commands if isinstance(command, Refuse)]
    return refusal.error.retry_after


def told(scheduler: Scheduler, *rows: tuple[float, Event]) -> list[Command]:
    """The commands of the last of these events."""
    commands: list[Command] = []
    for now, event in rows:
        commands = scheduler.handle(event, now)
    return commands


def asks(first: int, number: int, model: str, now: float) -> list[tuple[float, Event]]:
    return [(now, Arrived(ticket, model)) for ticket in range(first, first + number)]


def full(waiting: int, **limits: float) -> Scheduler:
    return Scheduler(Limits(queue_per_model=waiting, **limits))  # type: ignore[arg-type]


def test_a_full_line_says_when_half_of_it_will_be_gone() -> None:
    scheduler = full(10)
    told(scheduler, *asks(1, 10, "a", 0), (1, Ready("a", 2)), *asks(11, 2, "a", 1))
    # Of the ten two are inside, for 8 s; then two more.
    told(scheduler, (9, Released(1)), (9, Released(2)))
    assert told(scheduler, *asks(20, 3, "a", 10)) != []
    assert after(told(scheduler, (10, Arrived(30, "a")))) == pytest.approx((10 // 2 + 1) * 8 / 2)


def test_the_newest_answers_weigh_most() -> None:
    scheduler = full(2)
    told(scheduler, (0, Arrived(1, "a")), (1, Ready("a", 1)), *asks(2, 2, "a", 1))
    told(scheduler, (11, Released(1)), (11, Arrived(4, "a")))
    assert after(told(scheduler, (11, Arrived(5, "a")))) == pytest.approx(2 * 10)
    told(scheduler, (12, Released(2)), (12, Arrived(6, "a")))
    assert after(told(scheduler, (12, Arrived(7, "a")))) == pytest.approx(2 * 8.2)


def test_a_load_is_expected_to_take_as_long_as_the_last_one() -> None:
    scheduler = full(1, models_max=1)
    told(scheduler, (0, Arrived(1, "a")), (30, Ready("a", 1)), (31, Released(1)))
    told(scheduler, (100, Arrived(2, "b")))  # evicts a
    told(scheduler, (101, Exited("a")), (102, Ready("b", 1)), (103, Released(2)))
    told(scheduler, (200, Arrived(3, "a")), (201, Exited("b")))
    assert after(told(scheduler, (211, Arrived(4, "a")))) == pytest.approx(20)
    # It takes longer than the last time: nobody knows.
    assert after(told(scheduler, (240, Arrived(5, "a")))) == 10


def test_nobody_is_told_to_come_back_at_once_nor_in_an_hour() -> None:
    scheduler = full(1)
    told(scheduler, (0, Arrived(1, "a")), (1, Ready("a", 1)), (1, Arrived(2, "a")), (1.01, Released(1)))
    told(scheduler, (1.01, Arrived(3, "a")))
    assert after(told(scheduler, (1.01, Arrived(4, "a")))) == 1
    scheduler = full(1, queue_timeout=1e6)
    told(scheduler, (0, Arrived(1, "a")), (1, Ready("a", 1)), (1, Arrived(2, "a")), (3601, Released(1)))
    told(scheduler, (3601, Arrived(3, "a")))
    assert after(told(scheduler, (3601, Arrived(4, "a")))) == 60


def test_who_waited_too_long_is_told_how_long_the_others_will() -> None:
    scheduler = Scheduler(Limits(queue_timeout=100))
    told(scheduler, (0, Arrived(1, "a")), (1, Ready("a", 1)), *asks(2, 1, "a", 1))
    told(scheduler, (16, Released(1)), *asks(3, 1, "a", 16))
    assert told(scheduler, (101, TimePassed())) == []
    assert scheduler.deadline() == 116
    assert after(told(scheduler, (116, TimePassed()))) == pytest.approx(15)


def test_a_model_that_nobody_knows_and_everything_is_busy() -> None:
    scheduler = full(1, models_max=1, max_wait=4)
    told(scheduler, (0, Arrived(1, "a")), (1, Ready("a", 1)), (1, Arrived(2, "b")))
    assert after(told(scheduler, (1, Arrived(3, "b")))) == 8  # its turn, and a load that is as long for all we know
