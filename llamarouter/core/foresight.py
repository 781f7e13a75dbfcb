"""What would happen if somebody asked for a model now: the scheduler's own answer, given by a copy of it.

    scheduler, an appraisal --copy, ask--> commands --as if they were carried out--> Foresight

There is no second opinion to keep in step: the copy decides as the scheduler would, it is only told of ends that have
not happened. A child that it stops is gone at once, and its bytes are free.
"""

from __future__ import annotations

import copy
import enum
from collections import deque

from msgspec import Struct, field
from msgspec.structs import replace

from llamarouter.core.errors import RouterError
from llamarouter.core.events import (
    Appraise,
    Appraised,
    Arrived,
    Command,
    Event,
    Exited,
    Grant,
    Refuse,
    Start,
    Stop,
    TimePassed,
)
from llamarouter.core.memory import Placement, Room
from llamarouter.core.residents import Phase
from llamarouter.core.scheduler import Scheduler

_TICKET = -1
_LOOKS = 256  # into the time ahead


class Verdict(enum.Enum):
    """What an asker would meet with."""

    LOADED = "loaded"  # it goes in
    LOADING = "loading"  # it waits for a load that is on its way
    STARTS = "starts"  # it is started at once
    EVICTS = "evicts"  # it is started when others have gone, which are stopped at once
    WAITS = "waits"  # nobody may go yet
    REFUSED = "refused"


class Foresight(Struct, frozen=True):
    """What would happen. `after`: seconds until the first of the others may be stopped, or takes no newcomers."""

    verdict: Verdict
    placement: Placement | None = None
    evict: tuple[str, ...] = ()  # who would be stopped for it, in that order
    claim: tuple[str, ...] = ()  # who would take no newcomers, and be stopped once it is idle
    error: RouterError | None = None
    after: float = 0.0


def foresee(scheduler: Scheduler, model: str, appraised: Appraised, now: float) -> Foresight:
    """What would happen to a request for `model`; the scheduler is left as it is."""
    phase = scheduler.phase_of(model)
    if phase is Phase.STARTING:
        return Foresight(Verdict.LOADING)
    twin = _Twin(copy.deepcopy(scheduler), model, appraised)
    twin.live(Arrived(_TICKET, model, slot=False, ends_with_load=True), now)
    at = now
    for _ in range(_LOOKS):
        due = twin.scheduler.deadline()
        if twin.is_decided or twin.claimed() or due is None:
            break
        at = max(at, due)
        twin.live(TimePassed(), at)
    return twin.seen(at - now)


class _Twin(Struct):
    """The copy, and what it has decided."""

    scheduler: Scheduler
    model: str
    appraised: Appraised
    granted: bool = False
    error: RouterError | None = None
    started: bool = False
    placement: Placement | None = None
    stopped: list[str] = field(default_factory=list)

    @property
    def is_decided(self) -> bool:
        return self.granted or self.started or self.error is not None

    def claimed(self) -> tuple[str, ...]:
        """Who takes no newcomers for it."""
        here = self.scheduler.living()
        return tuple(model for model in here if model not in self.stopped and self.scheduler.is_claimed(model))

    def live(self, event: Event, now: float) -> None:
        """Tell it of an event, and of all that follows at once."""
        ahead: deque[Event] = deque([event])
        while ahead and not self.is_decided:
            for command in self.scheduler.handle(ahead.popleft(), now):
                ahead += self._carry_out(command)

    def _carry_out(self, command: Command) -> list[Event]:
        match command:
            case Grant(ticket, _) if ticket == _TICKET:
                self.granted = True
            case Refuse(ticket, error) if ticket == _TICKET:
                self.error = error
            case Start(model, placement) if model == self.model:
                self.started, self.placement = True, placement
            case Appraise(model) if model == self.model:
                return [self.appraised]
            case Stop(model):
                self.stopped.append(model)
                self._free(model)
                return [Exited(model), *([self.appraised] if self.appraised.rooms else [])]
        return []

    def _free(self, model: str) -> None:
        held = self.scheduler.held().get(model, {})
        rooms = {name: _freed(room, held.get(name, 0)) for name, room in self.appraised.rooms.items()}
        self.appraised = replace(self.appraised, rooms=rooms)

    def seen(self, after: float) -> Foresight:
        claim = self.claimed()
        if self.error is not None and after == 0.0:
            return Foresight(Verdict.REFUSED, error=self.error)
        if self.granted:
            return Foresight(Verdict.LOADED)
        stopped = tuple(self.stopped)
        if self.started and after == 0.0:
            return Foresight(Verdict.EVICTS if stopped else Verdict.STARTS, self.placement, stopped)
        # Where it would wait for something that ends in its own time, nobody can say how long.
        return Foresight(Verdict.WAITS, self.placement, stopped, claim, after=after if stopped or claim else 0.0)


def _freed(room: Room, size: int) -> Room:
    ours = None if room.ours is None else max(0, room.ours - size)
    return replace(room, free=min(room.total, room.free + size), ours=ours)
