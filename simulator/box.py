"""The simulated box: one device, one disk's worth of load times, and the clients of a trace, on a virtual clock.

    Call --Arrived--> contender --Grant--> inside (queued for a slot there, if it lets in more than there are) --> over
                                --Start--> loading --Ready--> ... --Stop--> --Exited-->

The box trusts nobody: it counts bytes from Start to Exited itself, and a contender that starts what does not fit has
its load fail as it would on a device without memory. Loads do not slow each other, nor do requests in different slots.
"""

from __future__ import annotations

import heapq
from collections import deque
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from llamarouter.core.errors import ModelCrashed
from llamarouter.core.events import (
    Appraise,
    Appraised,
    Arrived,
    Command,
    Event,
    Exited,
    Grant,
    Ready,
    Refuse,
    Released,
    Start,
    Stop,
    TimePassed,
)
from llamarouter.core.memory import Placement, Room
from simulator.contender import Contender
from simulator.fleet import SimulatedModel
from simulator.traces import Call

STOP_SECONDS = 0.4
DEVICE = "CUDA0"


@dataclass(slots=True)
class Life:
    """What became of the calls and the models under one contender."""

    waits: list[float] = field(default_factory=list)  # seconds from the arrival to a slot
    models: list[str] = field(default_factory=list)  # whose wait it is, in the same order
    starts: int = 0
    bytes_loaded: int = 0
    failed_loads: int = 0
    refused: int = 0
    unserved: int = 0  # still waiting when nothing happened any more
    ends_at: float = 0.0


@dataclass(slots=True)
class _Child:
    model: SimulatedModel
    busy: int = 0
    queue: deque[int] = field(default_factory=deque)


class Box:
    """One device of `budget` bytes, and one contender who decides."""

    def __init__(self, fleet: Iterable[SimulatedModel], budget: int, contender: Contender) -> None:
        self._models = {model.name: model for model in fleet}
        self._budget = budget
        self._contender = contender
        self._children: dict[str, _Child] = {}
        self._calls: dict[int, Call] = {}
        self._agenda: list[tuple[float, int, Event]] = []
        self._number = 0
        self._now = 0.0
        self.life = Life()

    def run(self, calls: Iterable[Call]) -> Life:
        """Live through all of `calls`, until nothing happens any more."""
        ticket = 0
        for ticket, call in enumerate(calls, 1):
            self._advance(call.at)
            self._now = call.at
            self._calls[ticket] = call
            self._tell(Arrived(ticket, call.model))
        self._advance(float("inf"))
        self.life.unserved = len(self._calls)
        self.life.ends_at = self._now
        return self.life

    def _advance(self, until: float) -> None:
        while True:
            due = self._contender.deadline()
            happens = self._agenda[0][0] if self._agenda else float("inf")
            first = happens if due is None else min(due, happens)
            if first > until or first == float("inf"):
                return
            if not self._calls and not self._agenda:  # nobody is left for whom what is due could matter
                return
            self._now = max(self._now, first)
            if due is not None and due <= happens:
                self._tell(TimePassed())
            else:
                self._happen(heapq.heappop(self._agenda)[2])

    def _happen(self, event: Event) -> None:
        match event:
            case Released(ticket):
                self._leave(ticket)
            case Exited(model):
                del self._children[model]
            case _:
                pass
        self._tell(event)

    def _tell(self, event: Event) -> None:
        inbox = deque([event])
        while inbox:
            for command in self._contender.handle(inbox.popleft(), self._now):
                answer = self._obey(command)
                if answer is not None:
                    inbox.append(answer)

    def _obey(self, command: Command) -> Event | None:
        match command:
            case Grant(ticket, model):
                self._enter(ticket, self._children[model])
            case Start(model):
                self._start(self._models[model])
            case Stop(model):
                self._schedule(STOP_SECONDS, Exited(model))
            case Appraise(model):
                return self._appraisal(self._models[model])
            case Refuse(ticket):
                self.life.refused += 1
                del self._calls[ticket]
        return None

    def _appraisal(self, model: SimulatedModel) -> Appraised:
        held = sum(child.model.bytes for child in self._children.values())
        rooms: Mapping[str, Room] = {DEVICE: Room(total=self._budget, free=max(0, self._budget - held), ours=held)}
        return Appraised(model.name, (Placement({DEVICE: model.bytes}),), rooms)

    def _start(self, model: SimulatedModel) -> None:
        self._children[model.name] = _Child(model)
        self.life.starts += 1
        self.life.bytes_loaded += model.bytes
        if sum(one.model.bytes for one in self._children.values()) > self._budget:
            self.life.failed_loads += 1
            self._schedule(model.load_seconds, Exited(model.name, ModelCrashed("out of memory"), memory=True))
        else:
            self._schedule(model.load_seconds, Ready(model.name, model.slots))

    def _enter(self, ticket: int, child: _Child) -> None:
        if child.busy < child.model.slots:
            self._begin(ticket, child)
        else:
            child.queue.append(ticket)

    def _begin(self, ticket: int, child: _Child) -> None:
        child.busy += 1
        call = self._calls[ticket]
        self.life.waits.append(self._now - call.at)
        self.life.models.append(call.model)
        self._schedule(call.seconds, Released(ticket))

    def _leave(self, ticket: int) -> None:
        child = self._children[self._calls.pop(ticket).model]
        child.busy -= 1
        if child.queue:
            self._begin(child.queue.popleft(), child)

    def _schedule(self, seconds: float, event: Event) -> None:
        self._number += 1
        heapq.heappush(self._agenda, (self._now + seconds, self._number, event))
