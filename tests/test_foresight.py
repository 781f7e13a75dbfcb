"""What is foreseen is what happens: the scheduler is asked by a copy, and then for real."""

from __future__ import annotations

import pytest

from llamarouter.core.errors import ModelTooLarge
from llamarouter.core.events import Appraise, Appraised, Arrived, Event, Exited, PolicySet, Ready, Released, Start, Stop
from llamarouter.core.foresight import Verdict, foresee
from llamarouter.core.memory import Placement, Room
from llamarouter.core.policy import Policy
from llamarouter.core.scheduler import Limits, Scheduler

ROOMS = {"CUDA0": Room(total=100, free=100)}


def appraised(model: str, size: int = 40, free: int = 100) -> Appraised:
    return Appraised(model, (Placement({"CUDA0": size}, label="CUDA0"),), {"CUDA0": Room(total=100, free=free)})


def scheduler_with(*models: str, models_max: int = 2) -> Scheduler:
    """A scheduler in which these models have been loaded one second after the other, each in a second, and are idle."""
    scheduler = Scheduler(Limits(models_max=models_max, by_memory=True))
    for at, model in enumerate(models):
        held = 40 * at
        for event in (
            Arrived(at, model),
            appraised(model, free=100 - held),
            Ready(model, 1, load_seconds=0.5),
            Released(at),
        ):
            scheduler.handle(event, float(at))
    return scheduler


def test_a_free_place() -> None:
    scheduler = scheduler_with("a")
    seen = foresee(scheduler, "b", appraised("b", free=60), 10.0)
    assert (seen.verdict, seen.evict) == (Verdict.STARTS, ())
    assert seen.placement is not None
    assert seen.placement.label == "CUDA0"
    assert scheduler.phase_of("b").value == "absent"
    assert scheduler.waiting("b") == 0


def test_what_is_there_and_what_is_on_its_way() -> None:
    scheduler = scheduler_with("a")
    assert foresee(scheduler, "a", appraised("a"), 10.0).verdict is Verdict.LOADED
    scheduler.handle(Arrived(9, "b"), 10.0)
    scheduler.handle(appraised("b", free=60), 10.0)
    assert foresee(scheduler, "b", appraised("b"), 10.0).verdict is Verdict.LOADING


def test_who_would_go() -> None:
    scheduler = scheduler_with("a", "b")
    seen = foresee(scheduler, "c", appraised("c", free=20), 10.0)
    assert (seen.verdict, seen.evict) == (Verdict.EVICTS, ("a",))


def test_who_would_have_to_end_first() -> None:
    scheduler = scheduler_with("a", models_max=1)
    scheduler.handle(Arrived(9, "a"), 10.0)
    seen = foresee(scheduler, "b", appraised("b", free=60), 10.0)
    assert (seen.verdict, seen.claim, seen.after) == (Verdict.WAITS, ("a",), 10.0)
    assert not scheduler.is_claimed("a")


def test_who_would_have_to_end_first_is_seen_although_much_may_happen_before() -> None:
    """The time of each of the others is looked at again and again, as their time to live may be over."""
    scheduler = Scheduler(Limits(models_max=3, max_wait=30.0))
    scheduler.handle(PolicySet(dict.fromkeys("abc", Policy(1.0))), 0.0)
    for number, model in enumerate("abc"):
        scheduler.handle(Arrived(number, model), 0.3 * number)
        scheduler.handle(Ready(model, 1), 0.3 * number)
    seen = foresee(scheduler, "d", Appraised("d", (), {}), 10.0)
    assert (seen.verdict, seen.claim, seen.after) == (Verdict.WAITS, ("a",), pytest.approx(30.0))


def test_what_waits_for_a_load_that_nobody_sees_the_end_of() -> None:
    scheduler = scheduler_with(models_max=1)
    scheduler.handle(Arrived(8, "a"), 10.0)
    scheduler.handle(appraised("a"), 10.0)
    seen = foresee(scheduler, "b", appraised("b", free=60), 10.0)
    assert (seen.verdict, seen.error, seen.claim, seen.after) == (Verdict.WAITS, None, (), 0.0)


def test_what_cannot_be_placed_says_why() -> None:
    error = ModelTooLarge("too large")
    seen = foresee(scheduler_with("a"), "b", Appraised("b", (), {}, error), 10.0)
    assert (seen.verdict, seen.error) == (Verdict.REFUSED, error)


@pytest.mark.parametrize("models", [(), ("a",), ("a", "b"), ("b", "a")])
def test_it_is_what_then_happens(models: tuple[str, ...]) -> None:
    scheduler = scheduler_with(*models)
    answer = appraised("c", free=100 - 40 * len(models))
    seen = foresee(scheduler, "c", answer, 10.0)
    commands = scheduler.handle(Arrived(9, "c"), 10.0)
    stopped, started, ahead = [], [], list[Event]()
    while commands or ahead:
        for command in commands:
            if isinstance(command, Appraise) and command.model == "c":
                ahead.append(answer)
            elif isinstance(command, Stop):
                stopped.append(command.model)
                answer = appraised("c", free=100 - 40 * (len(models) - len(stopped)))
                ahead += [Exited(command.model), answer]
            elif isinstance(command, Start):
                started.append(command.placement)
        commands = scheduler.handle(ahead.pop(0), 10.0) if ahead else []
    assert seen.evict == tuple(stopped)
    assert [seen.placement] == started
