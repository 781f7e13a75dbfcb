"""Allots the room there is to those who want it, and carries out what `eviction` plans.

    wants -- what each needs (`appraisals`), what there is (`holdings`) --> plan --> stop, claim, refuse, start

Where memory is looked at, a want is appraised before anything is decided about it, and for as long as one waits for
bytes the devices are looked at again: every second, and whenever a child has come up or gone.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from llamarouter.core import refusals
from llamarouter.core.admission import Limits
from llamarouter.core.appraisals import LOOK_AHEAD, Appraisals
from llamarouter.core.deeds import Deeds
from llamarouter.core.errors import RouterError
from llamarouter.core.events import Appraise, Appraised, StopReason, Weighed
from llamarouter.core.eviction import Plan, plan_places
from llamarouter.core.holdings import Holdings
from llamarouter.core.residents import Leaving, Resident
from llamarouter.core.wants import Want, abandoned_among, ahead_of, wants_of


class Allotment(Deeds):
    """Who gets room, as a part of settling."""

    def __init__(self, limits: Limits, jitter: Callable[[], float]) -> None:
        super().__init__(jitter)
        self._limits = limits
        self._appraisals = Appraisals()
        self._holdings = Holdings(limits.lag)
        # How many wants there is any use in looking at: each that gets something gets a place, and one more says when
        # to look again.
        self._most_wants = LOOK_AHEAD if limits.by_memory else limits.models_max + 1 if limits.models_max else None
        self._wanted: tuple[float, ...] = ()  # since when those want room who were looked at
        self._crowded = False  # there are so many already: for one more nothing can be done now

    # --- what is said of memory ---------------------------------------------------------------------------------------

    def _appraised(self, event: Appraised, now: float) -> None:
        if not self._appraisals.note(event, now):
            return
        self._holdings.saw(event.rooms, self._residents.values(), now - event.age)
        if not event.placements:
            error = event.error or refusals.nowhere_to_be(event.model)
            self._refuse_wants(event.model, error)

    def _weighed(self, event: Weighed) -> None:
        resident = self._residents.get(event.model)
        if resident is not None:
            resident.needs = event.needs
            self._holdings.weighed(self._residents.values())

    def _refuse_wants(self, model: str, error: RouterError) -> None:
        """There is no room for it: who waits for it is told so, unless it lives."""
        self._appraisals.used(model)
        self._refuse_line(model, lambda _: error)

    # --- sharing ------------------------------------------------------------------------------------------------------

    def _share(self, now: float) -> float | None:
        """Give room to those who want it, as far as it goes; returns when to look again."""
        while True:
            wants = wants_of(self._queue, self._residents, self._cooldowns, self._most_wants)
            self._wanted = tuple(want.since for want in wants)
            firm = sum(not want.modest for want in wants)
            self._crowded = self._most_wants is not None and firm >= self._most_wants
            if not wants and not any(resident.leaving is not None for resident in self._residents.values()):
                return None
            if self._limits.by_memory:
                wants = self._looked_at(wants, now)
            plan = self._planned(wants, now)
            self._carry_out(plan, wants, now)
            done = bool(plan.start) or any(not self._queue.waiting(model) for model in plan.hopeless)
            if not (self._crowded and done):  # else it is the turn of those behind
                return self._look_again(plan, wants, now) if self._limits.by_memory else plan.look_again

    def _planned(self, wants: Sequence[Want], now: float) -> Plan:
        residents = tuple(self._residents.values())
        return plan_places(
            wants,
            residents,
            abandoned=abandoned_among(residents, self._queue),
            ahead=ahead_of(residents, self._queue),
            places=self._limits.models_max or None,
            max_wait=self._limits.max_wait,
            now=now,
            devices=self._holdings.spaces(residents, now) if self._limits.by_memory else None,
        )

    def _looked_at(self, wants: Sequence[Want], now: float) -> list[Want]:
        for want in wants[LOOK_AHEAD:]:
            if want.modest:
                self._refuse_modest(want.model)
        seen = self._appraisals.consider(wants, self._policies, now)
        for want in seen:
            if not want.placements:
                self._ask(want.model)
        return seen

    def _carry_out(self, plan: Plan, wants: Sequence[Want], now: float) -> None:
        for model in plan.evict:
            self._stop(self._residents[model], StopReason.EVICTED, sake=plan.sakes[model])
        for model in plan.claim:
            self._queue.bar(model, self._mark(now))
        for model in (*plan.claim, *plan.keep):
            self._residents[model].leaving = Leaving(StopReason.EVICTED, sake=plan.sakes[model])
        for model in plan.refuse:
            self._refuse_modest(model)
        for model in plan.hopeless:
            self._refuse_hopeless(next(want for want in wants if want.model == model), now)
        for model in plan.stale:
            self._ask(model)
        for model in plan.start:
            second = self._appraisals.is_second(model)
            self._appraisals.used(model)
            placement = plan.placed[model] if self._limits.by_memory else None
            self._start(model, placement, now, attempt=2 if second else 1)
        for model in plan.release:
            self._residents[model].leaving = None
            line = self._queue.line_of(model)
            if line is not None:
                self._let_in(line, now)

    def _refuse_modest(self, model: str) -> None:
        failure = self._cooldowns.failure_of(model)
        if failure is not None:  # it has one, or its want were not modest
            self._refuse_line(model, lambda _: refusals.not_worth_a_place(failure))

    def _refuse_hopeless(self, want: Want, now: float) -> None:
        pinned = [one for one in self._residents.values() if one.policy.pinned and one.leaving is None]
        if self._limits.models_max and len(pinned) >= self._limits.models_max:
            self._refuse_line(want.model, lambda _: refusals.all_pinned([one.model for one in pinned]))
        elif not want.fresh:  # it may have room by now
            self._ask(want.model)
        elif self._appraisals.is_last(want.model):  # else it is the next one for which the devices are looked at
            most = self._holdings.spaces(self._residents.values(), now).most
            rooms = self._holdings.rooms
            self._refuse_wants(want.model, refusals.no_memory(want.model, want.placements, rooms, most, pinned))

    def _ask(self, model: str) -> None:
        if self._appraisals.ask(model):
            self._commands.append(Appraise(model))

    def _look_again(self, plan: Plan, wants: Sequence[Want], now: float) -> float | None:
        """For as long as somebody waits for bytes, the devices are looked at."""
        waiting = [want.model for want in wants if want.placements and self._waits(want.model, plan)]
        if not waiting:
            return plan.look_again
        lagging = self._holdings.lagging
        if self._appraisals.is_due(now, lagging=lagging):
            self._ask(next((model for model in waiting if model in plan.hopeless), waiting[0]))
        times = (plan.look_again, self._appraisals.due_at(lagging=lagging), self._holdings.next_change())
        return min((time for time in times if time is not None), default=None)

    def _waits(self, model: str, plan: Plan) -> bool:
        return model not in plan.start and self._queue.waiting(model) > 0

    # --- a second try -------------------------------------------------------------------------------------------------

    def _gives_way_to(self, failed: Resident, candidates: Sequence[Resident]) -> Resident | None:
        """Which of the idle goes for a load that died of memory: the first that holds some of what it needed."""
        if not self._limits.by_memory:
            return candidates[0] if candidates else None
        scarce = {device for device, size in failed.needs.items() if size}
        return next((one for one in candidates if any(one.needs.get(device) for device in scarce)), None)
