"""Stories of the scheduler that looks at memory: who is asked what, and when."""

from __future__ import annotations

from llamarouter.core.appraisals import Appraisals
from llamarouter.core.events import Appraise, Appraised, Start
from llamarouter.core.memory import HOST, Placement, Room
from llamarouter.core.scheduler import Limits, Scheduler
from tests.stories import ask, forget, gone, grant, left, play, ready, refuse, release

HERE = Placement({HOST: 5}, label="host")
ROOMS = {HOST: Room(total=20, free=20)}


def by_memory(**limits: float) -> Scheduler:
    return Scheduler(Limits(by_memory=True, **limits))  # type: ignore[arg-type]


def test_nothing_starts_before_it_is_appraised() -> None:
    play(
        by_memory(),
        (0, ask(1, "a"), Appraise("a")),
        (0, ask(2, "a")),
        (1, Appraised("a", (HERE,), ROOMS), Start("a", HERE)),
        (3, ready("a"), grant(1, "a")),
        (4, release(1), grant(2, "a")),
        (5, release(2)),
    )


def test_what_can_be_nowhere_is_refused() -> None:
    play(
        by_memory(),
        (0, ask(1, "a"), Appraise("a")),
        (1, Appraised("a", (), ROOMS), refuse(1, "insufficient_memory")),
        (2, ask(2, "a"), Appraise("a")),
    )


def test_an_appraisal_that_nobody_waits_for_any_more_does_not_stand_for_long() -> None:
    play(
        by_memory(),
        (0, ask(1, "a"), Appraise("a")),
        (1, left(1)),
        (1, Appraised("a", (HERE,), ROOMS)),
        (9, ask(2, "a"), Appraise("a")),
        (9, Appraised("a", (HERE,), ROOMS), Start("a", HERE)),
        (9, gone("a"), refuse(2, "model_crashed")),
    )


def test_a_model_that_is_another_one_now_is_appraised_anew() -> None:
    play(
        by_memory(),
        (0, ask(1, "a"), Appraise("a")),
        (0, forget("a", 0.0)),
        (1, Appraised("a", (HERE,), ROOMS), Appraise("a")),
        (2, Appraised("a", (HERE,), ROOMS), Start("a", HERE)),
    )


def test_while_a_driver_is_late_it_is_asked_more_often() -> None:
    appraisals = Appraisals()
    assert appraisals.ask("a")
    assert (appraisals.due_at(lagging=True), appraisals.is_due(99.0, lagging=True)) == (None, False)
    appraisals.note(Appraised("a", (HERE,), ROOMS), 5.0)
    assert (appraisals.due_at(), appraisals.due_at(lagging=True)) == (6.0, 5.1)
    assert (appraisals.is_due(5.5), appraisals.is_due(5.5, lagging=True)) == (False, True)
