"""Stories of for whose sake a model goes: which one needs its room, and whether it lacks a place or memory."""

from __future__ import annotations

from llamarouter.core.events import Sake, Scarce, Stop, StopReason
from llamarouter.core.scheduler import Scheduler
from tests.stories import MEMORY, ask, gone, grant, left, one_place, play, ready, release, start, two_places, unload
from tests.test_scheduler_memory import answer, loaded


def stops(scheduler: Scheduler, now: float, event: object) -> list[Stop]:
    return [one for one in scheduler.handle(event, now) if isinstance(one, Stop)]  # type: ignore[arg-type]


def evicted(model: str, for_: str, lacks: Scarce) -> list[Stop]:
    return [Stop(model, StopReason.EVICTED, sake=Sake(for_, lacks))]


def used(*, busy: bool = False) -> Scheduler:
    """One place, and a in it: loaded in a second."""
    scheduler = play(one_place(), (0, ask(1, "a"), start("a")), (1, ready("a"), grant(1, "a")))
    return scheduler if busy else play(scheduler, (2, release(1)))


def test_an_idle_model_goes_for_a_place() -> None:
    assert stops(used(), 5, ask(2, "b")) == evicted("a", "b", Scarce.PLACE)


def test_an_idle_model_goes_for_memory() -> None:
    scheduler = loaded("a", "b")
    scheduler.handle(ask(1, "c"), 10)
    (stop,) = stops(scheduler, 10, answer("c", 4))
    assert stop.sake == Sake("c", Scarce.MEMORY)


def test_a_busy_model_goes_for_the_one_that_has_claimed_it() -> None:
    scheduler = play(used(busy=True), (5, ask(2, "b")), (16, ask(3, "c")))
    assert stops(scheduler, 17, release(1)) == evicted("a", "b", Scarce.PLACE)


def test_a_claim_that_another_takes_over_is_for_the_other_one() -> None:
    scheduler = play(used(busy=True), (5, ask(2, "b")), (16, ask(3, "c")), (27, left(2)))
    assert stops(scheduler, 28, release(1)) == evicted("a", "c", Scarce.PLACE)


def test_a_load_that_died_of_memory_has_another_go_for_it() -> None:
    scheduler = play(
        two_places(),
        (0, ask(1, "a"), start("a")),
        (1, ready("a"), grant(1, "a")),
        (2, release(1)),
        (3, ask(2, "b"), start("b")),
    )
    assert stops(scheduler, 4, gone("b", MEMORY)) == evicted("a", "b", Scarce.MEMORY)


def test_who_is_unloaded_goes_for_nobody() -> None:
    scheduler = play(used(busy=True), (5, ask(2, "b")), (16, ask(3, "c")), (17, unload("a", 60)))
    assert stops(scheduler, 18, release(1)) == [Stop("a", StopReason.UNLOADED)]
