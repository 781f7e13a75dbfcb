"""The few things that are done to those who stand in the ledger, each with the command that tells the owner.

    let in -> Grant      start -> Start      stop -> Stop      refuse -> Refuse

What is done when, and to whom, is the scheduler's to say.
"""

from __future__ import annotations

from collections.abc import Callable

from llamarouter.core import refusals
from llamarouter.core.errors import RouterError
from llamarouter.core.events import Command, Grant, Refuse, Sake, Start, Stop, StopReason
from llamarouter.core.ledger import Ledger
from llamarouter.core.memory import Placement
from llamarouter.core.residents import Leaving, Phase, Resident
from llamarouter.core.waiting import Lane, Line, Mark, Waiter

_LANES = tuple(Lane)


class Deeds(Ledger):
    """Writes the ledger and gives the commands."""

    def __init__(self, jitter: Callable[[], float]) -> None:
        super().__init__(jitter)
        self._marks = 0
        self._commands: list[Command] = []

    def _start(self, model: str, placement: Placement | None, now: float, *, attempt: int = 1) -> None:
        policy = self._policies.of(model)
        resident = self._residents[model] = Resident(model, now, attempt=attempt, placement=placement, policy=policy)
        if placement is not None:
            resident.needs = placement.needs
        self._commands.append(Start(model, placement))

    def _let_in(self, line: Line, now: float) -> None:
        resident = self._residents.get(line.model)
        if resident is None or not resident.is_open:
            return
        for lane in _LANES:
            while (waiter := line.first(lane)) is not None and resident.takes(lane):
                self._queue.leave(waiter.ticket)
                self._enter(resident, waiter.ticket, lane, now)

    def _enter(self, resident: Resident, ticket: int, lane: Lane, now: float) -> None:
        resident.enter(lane, now)
        if lane is not Lane.LOAD:
            self._inside[ticket] = (resident, lane, now)
        self._commands.append(Grant(ticket, resident.model))

    def _leave(self, ticket: int, now: float) -> Resident | None:
        inside = self._inside.pop(ticket, None)
        if inside is None:
            return None
        resident, lane, since = inside
        resident.exit(lane, now)
        if lane is Lane.SLOT and self._queue:
            self._paces.answered(resident.model, now - since)
        return resident

    def _stop(self, resident: Resident, reason: StopReason, *, cut: bool = False, sake: Sake | None = None) -> None:
        resident.phase, resident.cut = Phase.STOPPING, cut
        if resident.leaving is None:
            resident.leaving = Leaving(reason, sake=sake)
        self._commands.append(Stop(resident.model, reason, cut, resident.leaving.sake))
        self._turn_away(resident.model)

    def _apply_policies(self) -> None:
        for resident in self._residents.values():
            resident.policy = self._policies.of(resident.model)
            if resident.is_expiring or (resident.is_claimed and resident.policy.pinned):
                resident.leaving = None  # where it has to go all the same, settling says so again

    def _turn_away(self, model: str) -> None:
        """The child is gone or as good as gone: who must not cause a load has nothing to wait for."""
        self._refuse_line(model, lambda waiter: None if waiter.autoload else refusals.not_loaded(model))

    def _refuse_line(self, model: str, why: Callable[[Waiter], RouterError | None]) -> None:
        for waiter in tuple(self._queue.line_of(model) or ()):
            error = why(waiter)
            if error is not None:
                self._queue.leave(waiter.ticket)
                self._refuse(waiter.ticket, error)

    def _refuse(self, ticket: int, error: RouterError) -> None:
        self._commands.append(Refuse(ticket, error))

    def _mark(self, now: float) -> Mark:
        self._marks += 1
        return now, self._marks
