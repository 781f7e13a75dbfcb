"""A second scheduler that hears the same, but by the short forms of the warm path wherever those will do."""

from __future__ import annotations

from collections import Counter

from llamarouter.core.admission import Limits, lane_of
from llamarouter.core.events import Arrived, Command, Event, Grant, Refuse, Released
from llamarouter.core.scheduler import Scheduler
from llamarouter.core.waiting import Lane


class Twin:
    def __init__(self, limits: Limits) -> None:
        self._scheduler = Scheduler(limits)
        self.taken: Counter[str] = Counter()  # how often a short form would do

    def check(self, event: Event, commands: list[Command], other: Scheduler, now: float) -> None:
        """It does with `event` what `other` has done, and is left as `other` is."""
        assert [_shown(command) for command in self._handle(event, now)] == [_shown(command) for command in commands]
        assert _state_of(self._scheduler) == _state_of(other)

    def _handle(self, event: Event, now: float) -> list[Command]:
        if isinstance(event, Arrived) and (lane := lane_of(event)) is not Lane.LOAD:
            if self._scheduler.grant_now(event.ticket, event.model, lane, now):
                self.taken["grant"] += 1
                return [Grant(event.ticket, event.model)]
        elif isinstance(event, Released) and self._scheduler.release_now(event.ticket, now):
            self.taken["release"] += 1
            return []
        return self._scheduler.handle(event, now)


def _shown(command: Command) -> object:
    if isinstance(command, Refuse):  # errors are equal only to themselves
        return command.ticket, type(command.error), str(command.error)
    return command


def _state_of(scheduler: Scheduler) -> object:
    return scheduler.deadline(), [
        (
            model,
            scheduler.phase_of(model),
            scheduler.in_flight(model),
            scheduler.waiting(model),
            scheduler.last_used(model),
            scheduler.is_claimed(model),
        )
        for model in scheduler.living()
    ]
