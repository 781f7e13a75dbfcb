"""Two deciders to compare with: strict least-recently-used by bytes, and llama-server's own router.

Both let every request for a ready model in at once (its child queues what has no slot), both evict idle models only,
and neither keeps newcomers out of a hot one: a model that waits may wait for ever.

    StrictLru         by bytes: the least recently used idle models go until the oldest wanted one fits
    ReferenceRouter   by count (`server_lru_sched` of llama.cpp b11434): only the head of the queue may load, and stays
                      the head until it is ready; as many idle models as queued ones lack places go, but none that is
                      itself wanted
"""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Mapping
from dataclasses import dataclass, field

from llamarouter.core.events import (
    Arrived,
    Command,
    Event,
    Exited,
    Grant,
    Left,
    Ready,
    Refuse,
    Released,
    Start,
    Stop,
    StopReason,
)
from llamarouter.core.residents import Phase


@dataclass(slots=True)
class _Resident:
    model: str
    last_used: float
    phase: Phase = Phase.STARTING
    inside: int = 0


@dataclass(slots=True)
class _Plain:
    """Who lives, who waits, who is inside: what both deciders keep."""

    residents: dict[str, _Resident] = field(default_factory=dict)
    waiting: OrderedDict[str, deque[int]] = field(default_factory=OrderedDict)  # by model, oldest want first
    inside: dict[int, str] = field(default_factory=dict)
    commands: list[Command] = field(default_factory=list)

    def handle(self, event: Event, now: float) -> list[Command]:
        """Note `event`, let in who can go in, make room for who cannot."""
        self._note(event, now)
        self._let_in(now)
        self._make_room(now)
        commands, self.commands = self.commands, []
        return commands

    def deadline(self) -> float | None:
        """Never: nothing here depends on the time."""
        return None

    def _make_room(self, now: float) -> None:
        raise NotImplementedError

    def _note(self, event: Event, now: float) -> None:
        match event:
            case Arrived(ticket, model):
                self.waiting.setdefault(model, deque()).append(ticket)
            case Released(ticket) | Left(ticket):
                resident = self.residents[self.inside.pop(ticket)]
                resident.inside -= 1
                resident.last_used = now
            case Ready(model):
                self.residents[model].phase = Phase.READY
            case Exited(model, error):
                del self.residents[model]
                if error is not None:
                    self.commands += [Refuse(ticket, error) for ticket in self.waiting.pop(model, ())]
            case _:
                raise ValueError(f"no decider without fairness knows {event}")

    def _let_in(self, now: float) -> None:
        for model in [model for model in self.waiting if self._phase(model) is Phase.READY]:
            resident = self.residents[model]
            for ticket in self.waiting.pop(model):
                self.inside[ticket] = model
                resident.inside += 1
                resident.last_used = now
                self.commands.append(Grant(ticket, model))

    def _phase(self, model: str) -> Phase:
        resident = self.residents.get(model)
        return Phase.ABSENT if resident is None else resident.phase

    def _start(self, model: str, now: float) -> None:
        self.residents[model] = _Resident(model, now)
        self.commands.append(Start(model))

    def _stop(self, resident: _Resident) -> None:
        resident.phase = Phase.STOPPING
        self.commands.append(Stop(resident.model, StopReason.EVICTED))

    def _idle(self) -> list[_Resident]:
        idle = (one for one in self.residents.values() if one.phase is Phase.READY and not one.inside)
        return sorted(idle, key=lambda one: one.last_used)


class StrictLru(_Plain):
    """By bytes: the oldest want has the next room; whoever is idle goes, the least recently used first."""

    name = "strict LRU"

    def __init__(self, needs: Mapping[str, int], budget: int) -> None:
        super().__init__()
        self._needs = needs
        self._budget = budget

    def _make_room(self, now: float) -> None:
        for model in [model for model in self.waiting if model not in self.residents]:
            if self._free() >= self._needs[model]:
                self._start(model, now)
                continue
            missing = self._needs[model] - self._free() - self._being_freed()
            for victim in self._idle():
                if missing <= 0:
                    break
                missing -= self._needs[victim.model]
                self._stop(victim)
            return  # the others are younger

    def _free(self) -> int:
        return self._budget - sum(self._needs[model] for model in self.residents)

    def _being_freed(self) -> int:
        return sum(self._needs[one.model] for one in self.residents.values() if one.phase is Phase.STOPPING)


class ReferenceRouter(_Plain):
    """By count: `--models-max` has to be so small that any of the models fit together."""

    def __init__(self, places: int) -> None:
        super().__init__()
        self.name = f"llama-server's router ({places} place{'s' * (places > 1)})"
        self._places = places

    def _make_room(self, now: float) -> None:
        head = next(iter(self.waiting), None)  # until it is ready: two loads at once are none of its
        if head is not None and head not in self.residents and len(self.residents) < self._places:
            self._start(head, now)
        wanted = [model for model in self.waiting if self._phase(model) is not Phase.STARTING]
        stopping = sum(one.phase is Phase.STOPPING for one in self.residents.values())
        lacking = len(wanted) - stopping - max(0, self._places - len(self.residents))
        for victim in [one for one in self._idle() if one.model not in self.waiting][: max(0, lacking)]:
            self._stop(victim)
