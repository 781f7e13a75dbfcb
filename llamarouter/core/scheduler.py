"""Decides which request goes into which child, which child is started, and which has to go.

    handle(event, now) -> commands: the event is noted, then the whole queue is settled once:

    1. who has waited too long is refused           3. who waits for a ready model goes in, as far as it has room
    2. who leaves and is done (or due) is stopped   4. the places are shared out anew (`eviction`)

After every event nobody is left waiting who could be served; `deadline()` says when something may change by itself.
Two events are answered without settling, since they can change nothing for others: a request for a ready model with
room, and the end of one while nobody waits. A grant *is* the count of requests inside: there is no moment between.

The bound on waiting, and why it holds: `docs/fairness.md`. Nothing here reads a clock or draws a number.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import assert_never

from llamarouter.core import refusals
from llamarouter.core.admission import Limits, lane_of, may_load, objection
from llamarouter.core.allotment import Allotment
from llamarouter.core.events import (
    Appraised,
    Arrived,
    Closing,
    Command,
    Event,
    Exited,
    Forgotten,
    Happenings,
    Left,
    Orders,
    Pinned,
    PolicySet,
    Ready,
    Released,
    Sake,
    Scarce,
    Start,
    StopReason,
    TimePassed,
    UnloadAsked,
    Weighed,
)
from llamarouter.core.expiry import expired_among, next_expiry
from llamarouter.core.residents import Leaving, Phase, Resident
from llamarouter.core.victims import idle_victims
from llamarouter.core.waiting import Lane, Waiter

__all__ = ["Limits", "Phase", "Scheduler"]

_NEVER = float("inf")


class Scheduler(Allotment):
    """The one owner of who may be where. Called by one thread, never from within itself."""

    def __init__(self, limits: Limits, jitter: Callable[[], float] = lambda: 1.0) -> None:
        super().__init__(limits, jitter)
        self._closing = False
        self._wake = _NEVER
        self._patience = _NEVER  # nobody's is at its end before

    def handle(self, event: Event, now: float) -> list[Command]:
        """Note `event` and settle; the commands are to be carried out in their order."""
        if now >= self._wake:  # what was due before the event comes before it
            self._settle(now)
        if not self._is_quick(event, now) and self._note(event, now):
            self._settle(now)
        commands, self._commands = self._commands, []
        return commands

    def _is_quick(self, event: Event, now: float) -> bool:
        """Deal with an event that changes nothing for others; False: it may, or it was another one."""
        if isinstance(event, Arrived):
            resident = self._residents.get(event.model)
            lane = lane_of(event)
            if resident is None or not resident.takes(lane):
                return False
            self._enter(resident, event.ticket, lane, now)
            return True
        if isinstance(event, Released):
            return self._released(event.ticket, now)
        return isinstance(event, TimePassed)  # what was due has been done

    def _released(self, ticket: int, now: float) -> bool:
        """A request is over; False: who waits for another model may gain by it."""
        resident = self._leave(ticket, now)
        if resident is None or not self._queue:
            return resident is None or resident.leaving is None
        line = self._queue.line_of(resident.model)
        if line is not None:
            before = line.oldest[0]
            self._let_in(line, now)
            after = line.oldest[0] if line.waiters else math.inf
            if any(before < since <= after for since in self._wanted):  # those are served who went before that want
                return False
        # While it is busy, or fresh, it is nobody's.
        return resident.in_flight > 0 or (resident.leaving is None and (not self._wanted or now < resident.keeps_until))

    # Nearly every request of a busy router is a warm one: for those the two quick events have a form without values.

    def grant_now(self, ticket: int, model: str, lane: Lane, now: float) -> bool:
        """The same as `handle(Arrived)` where that is nothing but a grant; False: nothing was done, `handle` it."""
        resident = self._residents.get(model)
        if resident is None or now >= self._wake or not resident.admits(lane, now):
            return False
        self._inside[ticket] = (resident, lane, now)
        return True

    def release_now(self, ticket: int, now: float) -> bool:
        """The same as `handle(Released)` where nobody gains by it; False: nothing was done, `handle` it."""
        inside = self._inside.get(ticket)
        if inside is None or self._queue.everybody or now >= self._wake:
            return False
        resident, lane, _ = inside
        if resident.leaving is not None:
            return False
        del self._inside[ticket]
        resident.exit(lane, now)
        return True

    def deadline(self) -> float | None:
        """When to call again with `TimePassed`, if nothing happens before; None: not at all."""
        return None if self._wake == _NEVER else self._wake

    # --- events -----------------------------------------------------------------------------------------------------

    def _note(self, event: Event, now: float) -> bool:
        """Note what has happened; False: it changes nothing for anybody else."""
        match event:
            case Arrived():
                return self._arrived(event, now)
            case Left():
                return self._queue.leave(event.ticket) is not None
            case Released() | TimePassed():
                pass  # settling is all that there is to do
            case UnloadAsked() | Forgotten() | PolicySet() | Pinned() | Closing():
                self._note_order(event, now)
            case _:
                self._note_child(event, now)
        return True

    def _note_order(self, event: Orders, now: float) -> None:
        match event:
            case UnloadAsked():
                self._unload(event.model, now + event.drain, now, tell_waiters=True)
            case Forgotten():
                self._cooldowns.forget(event.model)
                self._paces.forget(event.model)
                self._appraisals.forget(event.model)
                self._unload(event.model, now + event.drain, now, tell_waiters=False)
            case PolicySet():
                self._policies.set(event.policies)
                self._patience = now  # the time-outs may be others
                self._apply_policies()
            case Pinned():
                self._policies.pin(event.model, event.pinned)
                self._apply_policies()
            case Closing():
                self._close(now + event.drain, now)
            case _:
                assert_never(event)

    def _note_child(self, event: Happenings, now: float) -> None:
        match event:
            case Ready():
                self._ready(event, now)
            case Exited():
                self._exited(event, now)
            case Appraised():
                self._appraised(event, now)
            case Weighed():
                self._weighed(event)
            case _:
                assert_never(event)

    def _arrived(self, event: Arrived, now: float) -> bool:
        if self._closing:
            self._refuse(event.ticket, refusals.draining())
            return False
        model = event.model
        resident = self._residents.get(model)
        late = resident is not None and resident.is_expiring and not event.glance
        if resident is not None and late:
            resident.leaving = None  # just in time
        policy = self._policies.of(event.model)
        error = objection(event, resident, self._queue, self._limits, self._cooldowns, self._paces, policy, now)
        if error is not None:
            self._refuse(event.ticket, error)
            return late
        first = self._queue.line_of(model) is None
        waiter = Waiter(event.ticket, model, lane_of(event), event.body_bytes, may_load(event), self._mark(now))
        self._queue.join(waiter)
        end = now + self._timeout_of(model)
        self._patience = min(self._patience, end) if len(self._queue) > 1 else end
        self._wake = min(self._wake, self._patience)
        if late:
            return True
        if not first or (resident is not None and resident.phase is not Phase.STOPPING):
            return False  # whoever waits is wanted for already, or waits for what is there
        return not self._crowded or self._cooldowns.is_hopeless(model)

    def _ready(self, event: Ready, now: float) -> None:
        resident = self._residents.get(event.model)
        # A stop and this may have crossed.
        if resident is None or resident.phase is not Phase.STARTING or resident.waits_for is not None:
            return
        resident.phase = Phase.READY
        resident.slots, resident.connections = max(1, event.slots), max(1, event.connections)
        resident.ready_at, resident.load_seconds = now, min(event.load_seconds, now - resident.started_at)
        self._cooldowns.loaded(event.model, now)
        self._paces.loaded(resident)
        self._appraisals.settled(event.model)
        self._appraisals.devices_changed()

    def _exited(self, event: Exited, now: float) -> None:
        resident = self._residents.get(event.model)
        if resident is None or resident.waits_for is not None:
            return
        del self._residents[event.model]
        self._holdings.ended(resident, now)
        self._appraisals.devices_changed()
        self._appraisals.settled(event.model)
        if resident.phase is Phase.STOPPING:  # with any code: we asked
            return
        if resident.phase is Phase.STARTING and event.memory and self._try_again(resident, now):
            return
        error = event.error or refusals.ended_unasked(event.model)
        served = resident.phase is Phase.READY
        took = resident.load_seconds if served else now - resident.started_at
        delay = self._cooldowns.failed(
            event.model, error, now, deterministic=event.deterministic, spare_first=served, took=took
        )
        if not served:
            self._refuse_line(event.model, lambda _: error)
        elif delay > 0.0:
            failure = self._cooldowns.failure_of(event.model)
            self._refuse_line(event.model, lambda _: refusals.cooling(event.model, failure, delay))
        else:
            if resident.leaving is None:  # else it took no newcomers before: its model has wanted a place since then
                self._queue.bar(event.model, self._mark(now))
            self._turn_away(event.model)

    def _try_again(self, failed: Resident, now: float) -> bool:
        """The load died of memory: let the least recently used idle model go and keep the place for a second try."""
        victim = self._gives_way_to(failed, idle_victims(self._residents.values(), now=math.inf))
        if failed.attempt > 1 or victim is None or not self._queue.waiting(failed.model):
            return False
        self._stop(victim, StopReason.EVICTED, sake=Sake(failed.model, Scarce.MEMORY))
        policy = self._policies.of(failed.model)
        self._residents[failed.model] = Resident(failed.model, now, attempt=2, waits_for=victim.model, policy=policy)
        return True

    def _unload(self, model: str, by: float, now: float, *, tell_waiters: bool) -> None:
        resident = self._residents.get(model)
        if resident is None:
            return
        if resident.phase is Phase.STARTING and tell_waiters:
            self._refuse_line(model, lambda _: refusals.unloaded_while_loading(model))
        self._send_away(resident, StopReason.UNLOADED, by, now)

    def _close(self, by: float, now: float) -> None:
        self._closing = True
        for line in self._queue.lines:
            self._refuse_line(line.model, lambda _: refusals.draining())
        for resident in tuple(self._residents.values()):
            self._send_away(resident, StopReason.CLOSING, by, now)

    def _send_away(self, resident: Resident, reason: StopReason, by: float, now: float) -> None:
        """No newcomers from now on; settling stops it when it is idle, or at `by`. Asked twice, the sooner counts."""
        before = resident.leaving
        if before is not None and before.by is not None:
            by = min(by, before.by)
        resident.leaving = Leaving(reason, by)
        if resident.phase is Phase.READY:
            if before is None:
                self._queue.bar(resident.model, self._mark(now))
        elif resident.waits_for is not None:  # there is nothing to stop yet
            del self._residents[resident.model]
            self._turn_away(resident.model)
        elif resident.phase is Phase.STARTING:
            self._stop(resident, reason, cut=True)

    # --- settling ---------------------------------------------------------------------------------------------------

    def _settle(self, now: float) -> None:
        self._refuse_overdue(now)
        self._end_leaving(now)
        self._begin_second_tries(now)
        for resident in tuple(self._residents.values()):
            line = self._queue.line_of(resident.model)
            if line is not None:
                self._let_in(line, now)
        self._end_expired(now)
        look_again = self._share(now)
        self._wake = self._next_change(look_again, now)

    def _refuse_overdue(self, now: float) -> None:
        if now < self._patience:
            return
        for line in self._queue.lines:
            timeout = self._timeout_of(line.model)
            while (oldest := line.head()) is not None and now >= oldest.mark[0] + timeout:
                self._queue.leave(oldest.ticket)
                resident = self._residents.get(line.model)
                again = self._paces.retry_after(
                    line.model, resident, len(line.waiters), max_wait=self._limits.max_wait, now=now
                )
                self._refuse(oldest.ticket, refusals.waited_too_long(line.model, timeout, again))
        ends = (line.oldest[0] + self._timeout_of(line.model) for line in self._queue.lines)
        self._patience = min(ends, default=_NEVER)

    def _timeout_of(self, model: str) -> float:
        return self._policies.of(model).queue_timeout or self._limits.queue_timeout

    def _end_leaving(self, now: float) -> None:
        for resident in tuple(self._residents.values()):
            leaving = resident.leaving
            if leaving is None or resident.cut:
                continue
            if leaving.by is not None and now >= leaving.by:
                self._stop(resident, leaving.reason, cut=True)
            elif resident.phase is Phase.READY and not resident.in_flight:
                self._stop(resident, leaving.reason)

    def _begin_second_tries(self, now: float) -> None:
        for resident in tuple(self._residents.values()):
            if resident.waits_for is None:
                continue
            if not self._queue.waiting(resident.model):  # nobody is left to load it for
                del self._residents[resident.model]
            elif resident.waits_for not in self._residents:
                self._begin_second_try(resident, now)

    def _begin_second_try(self, resident: Resident, now: float) -> None:
        if self._limits.by_memory:  # it wants room once more, and more of it
            del self._residents[resident.model]
            self._appraisals.try_again(resident.model)
        else:
            resident.waits_for, resident.started_at = None, now
            self._commands.append(Start(resident.model))

    def _end_expired(self, now: float) -> None:
        for resident in expired_among(self._residents.values(), now):
            if resident.in_flight:  # somebody looks at it: it is stopped when he has seen it
                resident.leaving = Leaving(StopReason.EXPIRED)
            else:
                self._stop(resident, StopReason.EXPIRED)

    def _next_change(self, look_again: float | None, now: float) -> float:
        times = [time for time in (look_again, next_expiry(self._residents.values(), now)) if time is not None]
        if self._queue:
            times.append(self._patience)
        times.extend(
            resident.leaving.by
            for resident in self._residents.values()
            if resident.leaving is not None and resident.leaving.by is not None and not resident.cut
        )
        return min(times, default=_NEVER)
