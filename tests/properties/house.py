"""A house of models on a virtual clock: obeys a scheduler's commands, and objects to every one that is wrong.

Children load, fail, die of memory, crash, stop late; clients ask, wait, stay, leave, and ask again. The house keeps
its own books and trusts the scheduler's views in nothing but claims. After every event it checks that nobody waits who
could be served, and that nobody has waited longer than the bound of `docs/fairness.md`.
"""

from __future__ import annotations

import heapq
from collections import Counter, OrderedDict, defaultdict, deque
from collections.abc import Callable

from msgspec.structs import replace

from llamarouter.core.breaker import FIRST, THRESHOLD, WINDOW
from llamarouter.core.cooldown import HEALTHY
from llamarouter.core.errors import ModelCrashed, QueueTimeout
from llamarouter.core.events import (
    Appraise,
    Arrived,
    Closing,
    Command,
    Event,
    Exited,
    Forgotten,
    Grant,
    Left,
    Pinned,
    PolicySet,
    Ready,
    Refuse,
    Released,
    Start,
    Stop,
    StopReason,
    TimePassed,
    UnloadAsked,
)
from llamarouter.core.memory import Placement
from llamarouter.core.policy import Policy
from llamarouter.core.scheduler import Limits, Phase, Scheduler
from tests.properties.inhabitants import EXITS, Child, Fate, Hunger, Kind, Request
from tests.properties.onlooker import check_outlooks
from tests.properties.twin import Twin


class House:
    slots = 2
    connections = 2
    stop_seconds = 2.0
    longest_answer = 6.0

    def __init__(self, limits: Limits, load_seconds: dict[str, float]) -> None:
        self.limits = limits
        self.load_seconds = load_seconds
        self.scheduler = Scheduler(limits)
        self.twin = Twin(limits)
        self.now = 0.0
        self.children: dict[str, Child] = {}
        self.waiting: dict[str, dict[Kind, OrderedDict[int, Request]]] = defaultdict(
            lambda: {kind: OrderedDict() for kind in Kind}
        )
        self.requests: dict[int, Request] = {}  # waiting or inside
        self.fates: dict[str, deque[Fate]] = defaultdict(deque)
        self.hot: Counter[str] = Counter()
        self.hunger: dict[str, Hunger] = {}
        self.ended: Counter[str] = Counter()
        self.doomed: set[str] = set()  # failed for a cause that lies in them, and not loaded nor changed since
        self.failures: dict[str, list[float]] = defaultdict(list)  # of the last minute
        self.broken: dict[str, float] = {}  # failed three times in a minute and not loaded since: when last
        self.policies: dict[str, Policy] = {}
        self.pins: dict[str, bool] = {}  # said since the policies were
        self.closing = False
        self._agenda: list[tuple[float, int, Callable[[], None]]] = []
        self._number = 0
        self._inbox: deque[Event] = deque()
        self._claimed: set[str] = set()  # before the event
        self.memory_ran_out_at: float | None = None  # a load just then: even a fresh model may go for its second try
        self.sound = True

    # --- what happens -------------------------------------------------------------------------------------------------

    def ask(
        self, model: str, kind: Kind = Kind.SLOT, seconds: float = 3.0, *, autoload: bool = True, hot: bool = False
    ) -> None:
        self._number += 1
        request = Request(self._number, model, kind, seconds, self.now, autoload, hot)
        self.requests[request.ticket] = request
        self.waiting[model][kind][request.ticket] = request
        event = Arrived(request.ticket, model, kind is Kind.SLOT, 10, autoload, kind is Kind.LOAD, kind is Kind.GLANCE)
        self.tell(event)

    def heat(self, model: str, clients: int, seconds: float) -> None:
        """`clients` that ask one question after the other."""
        self.hot[model] += clients
        for _ in range(clients):
            self.ask(model, seconds=seconds, hot=True)

    def leave(self, ticket: int) -> None:
        """The client of `ticket` goes away, wherever its request is."""
        request = self.requests[ticket]
        if request.child is None:
            self._forget_waiter(request, "left")
            self.tell(Left(ticket))
        else:
            self._release(request)

    def crash(self, model: str) -> None:
        child = self.children[model]
        self._end(child, ModelCrashed("signal SEGV"))

    def unload(self, model: str, drain: float, *, changed: bool) -> None:
        child = self.children.get(model)
        if child is not None:
            by = self.now + drain
            child.drain_by = by if child.drain_by is None else min(by, child.drain_by)
        if changed:
            self.doomed.discard(model)
            self.failures[model].clear()
            self.broken.pop(model, None)
        for hunger in self.hunger.values():  # somebody throws away a load: the bound does not include that
            hunger.by += self.load_seconds[model] + self.stop_seconds
        self.tell(Forgotten(model, drain) if changed else UnloadAsked(model, drain))

    def set_policies(self, policies: dict[str, Policy]) -> None:
        for model in self.load_seconds:
            before, after = self.policies.get(model, Policy()), policies.get(model, Policy())
            if before.pinned is not after.pinned:
                self.pins.pop(model, None)
        self.pins = {model: pinned for model, pinned in self.pins.items() if model in policies}
        self.policies = policies
        self._tell_of_pins(PolicySet(policies))

    def pin(self, model: str, pinned: bool | None) -> None:
        if pinned is None:
            self.pins.pop(model, None)
        else:
            self.pins[model] = pinned
        self._tell_of_pins(Pinned(model, pinned))

    def _tell_of_pins(self, event: Event) -> None:
        """With every change of pins the bound begins anew: it may take back a claim."""
        for model, hunger in self.hunger.items():
            hunger.by = max(hunger.by, self.now + self._bound(model))
        self.tell(event)

    def policy_of(self, model: str) -> Policy:
        said = self.policies.get(model, Policy())
        return replace(said, pinned=self.pins.get(model, said.pinned))

    def close(self, drain: float) -> None:
        self.closing = True
        self.hot.clear()
        for child in self.children.values():
            by = self.now + drain
            child.drain_by = by if child.drain_by is None else min(by, child.drain_by)
        self.tell(Closing(drain))

    def advance(self, seconds: float) -> None:
        """Let time pass, with all that happens in it."""
        until = self.now + seconds
        while True:
            due = self.scheduler.deadline()
            happens = self._agenda[0][0] if self._agenda else float("inf")
            if min(due if due is not None else float("inf"), happens) > until:
                break
            if due is not None and due <= happens:
                self.now = due
                self.tell(TimePassed())
                again = self.scheduler.deadline()
                assert again is None or again > self.now, "a deadline that is over is no deadline"
            else:
                self.now, _, action = heapq.heappop(self._agenda)
                action()
        self.now = until

    def rest(self) -> None:
        """Let everything end that ends by itself."""
        self.hot.clear()
        for _ in range(1000):
            if not self._agenda and not self._waits():
                return
            self.advance(10.0)
        raise AssertionError(f"no rest: {self._waits()} wait, living {self.scheduler.living()}")

    # --- telling and obeying ------------------------------------------------------------------------------------------

    def tell(self, event: Event) -> None:
        self._inbox.append(event)
        if len(self._inbox) > 1:
            return
        self.sound = False  # until everything has been checked
        while self._inbox:
            self._claimed = {model for model in self.children if self.scheduler.is_claimed(model)}
            self._before(self._inbox[0])
            commands = self.scheduler.handle(self._inbox[0], self.now)
            self.twin.check(self._inbox[0], commands, self.scheduler, self.now)
            for command in commands:
                self._obey(command)
            self._inbox.popleft()
        self.check()
        self.sound = True

    def _before(self, event: Event) -> None:
        """The scheduler is about to hear of `event`."""

    def _obey(self, command: Command) -> None:
        match command:
            case Start(model, placement):
                self._start(model, placement)
            case Appraise(model):
                self._appraise(model)
            case Stop():
                self._stop(command)
            case Grant(ticket, model):
                self._grant(ticket, model)
            case Refuse(ticket, error):
                request = self.requests[ticket]
                assert request.child is None, "a request was granted and refused"
                if isinstance(error, QueueTimeout):
                    assert self.now >= request.arrived + self.limits.queue_timeout
                self._forget_waiter(request, error.reason)

    def _appraise(self, model: str) -> None:
        raise AssertionError(f"{model} was to be appraised in a house without devices")

    def _start(self, model: str, placement: Placement | None) -> None:
        assert placement is None
        self._begin(model)

    def _begin(self, model: str) -> Child:
        assert model not in self.children, "two processes for one model"
        assert any(self.waiting[model][kind] for kind in Kind if kind is not Kind.GLANCE), "a load for nobody"
        assert not self.closing
        child = self.children[model] = Child(model, started=self.now)
        assert not self.limits.models_max or len(self.children) <= self.limits.models_max
        child.probe = self._is_broken(model)
        assert not child.probe or self.now >= self.broken[model] + FIRST, "the breaker is open"
        fate = self.fates[model].popleft() if self.fates[model] else Fate.FINE
        self._later(self.load_seconds[model], lambda: self._loaded(child, fate))
        return child

    def _loaded(self, child: Child, fate: Fate) -> None:
        if self.children.get(child.model) is not child or child.phase is not Phase.STARTING:
            return
        if fate is Fate.FINE:
            child.phase, child.ready, child.used = Phase.READY, self.now, self.now
            child.loaded = self.now - child.started
            self.doomed.discard(child.model)
            self.broken.pop(child.model, None)
            self.tell(Ready(child.model, self.slots, self.connections))
        else:
            error, memory, deterministic = EXITS[fate]
            if memory:
                self.memory_ran_out_at = self.now
            self._gone(child)
            (self.doomed.add if deterministic else self.doomed.discard)(child.model)
            self.tell(Exited(child.model, error, memory, deterministic))
            if self.scheduler.phase_of(child.model) is Phase.ABSENT:  # else it is tried once more
                self._note_failure(child.model)

    def _stop(self, command: Stop) -> None:
        child = self.children[command.model]
        if child.phase is Phase.STOPPING:
            assert command.cut, "stopped twice"
            assert not child.cut, "cut twice"
        if child.inside:
            assert command.cut
            assert command.reason is not StopReason.EVICTED, "a model that serves was evicted"
            assert child.drain_by is not None, "cut though nobody asked"
            assert self.now >= child.drain_by, "cut before its drain was over"
        if child.phase is Phase.STARTING:
            evicted = command.reason is StopReason.EVICTED
            assert not evicted or not self._waits(command.model), "a load that somebody waits for was evicted"
        if command.reason is StopReason.EVICTED:
            assert any(self._waits(model) for model in self.waiting if model not in self.doomed), "evicted for nobody"
            assert command.sake is not None, "evicted for nobody in particular"
            assert self._waits(command.sake.model), "evicted for one that nobody waits for"
            fresh = child.phase is Phase.READY and self.now < child.ready + child.loaded
            assert not fresh or self.memory_ran_out_at == self.now, "a fresh model lost its place"
            assert not self.policy_of(command.model).pinned, "a pinned model was evicted"
            self._check_priority(child)
        if command.reason is StopReason.EXPIRED:
            due = self._due(child)
            assert due is not None, "it was to stay"
            assert self.now >= due, "it was not idle for so long"
            assert not child.inside, "somebody was inside"
        child.phase, child.cut = Phase.STOPPING, command.cut
        self._later(0.5 if command.cut else self.stop_seconds, lambda: self._end(child, None))

    def _end(self, child: Child, error: ModelCrashed | None) -> None:
        """The process is gone, and with it the answers that it was giving."""
        if self.children.get(child.model) is not child:
            return
        self._gone(child)
        if error is not None:
            self.doomed.discard(child.model)
            self._note_failure(child.model)
        self.tell(Exited(child.model, error))
        for request in tuple(child.inside.values()):
            self._later(0.25, lambda request=request: self._release(request))

    def _note_failure(self, model: str) -> None:
        recent = self.failures[model] = [at for at in self.failures[model] if self.now < at + WINDOW] + [self.now]
        if len(recent) >= THRESHOLD or self._is_broken(model):
            self.broken[model] = self.now

    def _is_broken(self, model: str) -> bool:
        return model in self.broken and self.now < self.broken[model] + HEALTHY

    def _gone(self, child: Child) -> None:
        del self.children[child.model]

    def _grant(self, ticket: int, model: str) -> None:
        request = self.requests[ticket]
        assert request.child is None, "granted twice"
        assert request.model == model
        child = self.children[model]
        assert child.phase is Phase.READY
        assert child.drain_by is None, "a newcomer in a child that is drained"
        claimed = model in self._claimed and self.scheduler.is_claimed(model)
        assert not claimed, "a newcomer in a child that is claimed"
        assert next(iter(self.waiting[model][request.kind])) == ticket, "an older one was passed over"
        del self.waiting[model][request.kind][ticket]
        self.hunger.pop(model, None)
        if request.kind is Kind.LOAD:
            child.used = self.now
            self._done(request, "loaded")
            return
        request.child = child
        if request.kind is not Kind.GLANCE:
            child.used = self.now
        child.inside[ticket] = request
        assert child.count(Kind.SLOT) <= self.slots
        assert child.connected <= self.connections
        self._later(request.seconds, lambda: self._release(request))

    def _release(self, request: Request) -> None:
        if request.ticket not in self.requests:
            return
        assert request.child is not None
        del request.child.inside[request.ticket]
        if request.kind is not Kind.GLANCE and len(request.child.inside) == request.child.count(Kind.GLANCE):
            request.child.used = self.now
        self._done(request, "served")
        self.tell(Released(request.ticket))

    def _forget_waiter(self, request: Request, how: str) -> None:
        lanes = self.waiting[request.model].values()
        if request.ticket == min(ticket for lane in lanes for ticket in lane):
            self.hunger.pop(request.model, None)  # he takes the age of his line with him
        del self.waiting[request.model][request.kind][request.ticket]
        self._done(request, how)

    def _done(self, request: Request, how: str) -> None:
        del self.requests[request.ticket]
        self.ended[how] += 1
        if request.hot and self.hot[request.model]:
            self._later(
                0.0 if how == "served" else 1.0,
                lambda: self.hot[request.model] and self.ask(request.model, seconds=request.seconds, hot=True),
            )

    def _later(self, seconds: float, action: Callable[[], object]) -> None:
        self._number += 1
        heapq.heappush(self._agenda, (self.now + seconds, self._number, action))  # type: ignore[arg-type]

    def _waits(self, model: str | None = None) -> int:
        models = tuple(self.waiting) if model is None else (model,)
        return sum(len(lane) for one in models for lane in self.waiting[one].values())

    # --- checks -------------------------------------------------------------------------------------------------------

    def check(self) -> None:
        """All that must hold whenever the scheduler has had its say."""
        held = set(self.scheduler.living())
        assert set(self.children) <= held
        assert not self.limits.models_max or len(held) <= self.limits.models_max
        for model in self.load_seconds:
            child = self.children.get(model)
            assert self.scheduler.waiting(model) == self._waits(model)
            assert self.scheduler.in_flight(model) == (0 if child is None else len(child.inside))
            self._check_lanes(model, child)
            probed = child is not None and child.probe and child.phase is Phase.STARTING
            assert not probed or self._waits(model) <= 1, "somebody waits beside the probe of a broken model"
        check_outlooks(self.scheduler, self.waiting, self.children, self.now)
        for lanes in self.waiting.values():
            for lane in lanes.values():
                if lane:
                    oldest = next(iter(lane.values()))
                    assert self.now < oldest.arrived + self.limits.queue_timeout, "waited longer than the time-out"
        self._check_places(held)
        self._check_lifetimes()
        self._check_hunger()

    def _is_open(self, child: Child | None) -> bool:
        return (
            child is not None
            and child.phase is Phase.READY
            and child.drain_by is None
            and not self.scheduler.is_claimed(child.model)
            and not self._is_expiring(child)
        )

    def _due(self, child: Child) -> float | None:
        """When it ends if nobody uses it; None: it does not, or somebody does."""
        policy = self.policy_of(child.model)
        if child.phase is not Phase.READY or policy.pinned or policy.ttl is None or child.is_used:
            return None
        return child.used + policy.ttl

    def _is_expiring(self, child: Child) -> bool:
        """Only those are left who look at it."""
        due = self._due(child)
        return due is not None and self.now >= due and bool(child.inside)

    def _check_lifetimes(self) -> None:
        for child in self.children.values():
            due = self._due(child)
            if due is None or child.inside or not self._is_open(child):
                continue
            assert self.now < due, "it stayed longer than it may"
            wake = self.scheduler.deadline()
            assert wake is not None, "nobody will look"
            assert wake <= due, "nobody will look in time"
            assert self.scheduler.expires_in(child.model, self.now) == due - self.now

    def _check_priority(self, victim: Child) -> None:
        """Nobody who might have gone instead has a lower priority."""
        priority = self.policy_of(victim.model).priority
        others = [child for child in self.children.values() if child is not victim and self._may_go(child)]
        if victim.phase is Phase.READY and victim.drain_by is None and not self.scheduler.is_claimed(victim.model):
            assert all(priority <= self.policy_of(child.model).priority for child in others)

    def _may_go(self, child: Child) -> bool:
        fresh = self.now < child.ready + child.loaded
        return self._is_open(child) and not child.inside and not fresh and not self.policy_of(child.model).pinned

    def _check_lanes(self, model: str, child: Child | None) -> None:
        """Nobody waits before an open door."""
        if child is None or not self._is_open(child):
            return
        lanes = self.waiting[model]
        assert not lanes[Kind.SLOT] or child.count(Kind.SLOT) == self.slots
        assert not lanes[Kind.OPEN] or child.connected == self.connections
        assert not lanes[Kind.GLANCE] or child.connected == self.connections
        assert not lanes[Kind.LOAD]

    def _check_places(self, held: set[str]) -> None:
        """No place stays free that is wanted, no more are freed than are wanted, and claims come when they must."""
        if not self.limits.models_max:
            assert all(model in held for model in self.load_seconds if self._waits(model))
            return
        stopping = [child for child in self.children.values() if child.phase is Phase.STOPPING]
        wanting = [
            model for model in self.load_seconds if self._waits(model) and (model not in held or self._stops(model))
        ]
        absent = [model for model in wanting if model not in held]
        assert not absent or len(held) >= self.limits.models_max, "a free place was not given"
        modest = [model for model in wanting if model in self.doomed]
        wanting = [model for model in wanting if model not in self.doomed]
        assert len(modest) <= max(0, len(stopping) - len(wanting)), "waits for a place that it will not get"
        absent = [model for model in absent if model not in self.doomed]
        evictable = [child for child in self.children.values() if self._is_abandoned(child) or self._may_go(child)]
        assert not evictable or len(wanting) <= len(stopping), "an idle model, or a load for nobody, was not evicted"
        claimed = [model for model in self.children if self.scheduler.is_claimed(model) and not self._stops(model)]
        assert len(claimed) <= len(absent), "a claim that nobody needs"

    def _stops(self, model: str) -> bool:
        child = self.children.get(model)
        return child is not None and child.phase is Phase.STOPPING

    def _is_abandoned(self, child: Child) -> bool:
        pinned = self.policy_of(child.model).pinned
        return child.phase is Phase.STARTING and not self._waits(child.model) and not pinned

    def _check_hunger(self) -> None:
        begun = []
        for model in self.load_seconds:
            if not self._waits(model) or self._is_open(self.children.get(model)):
                self.hunger.pop(model, None)
            elif model not in self.hunger:
                self.hunger[model] = Hunger(self.now, float("inf"))
                begun.append(model)
        for model in begun:
            self.hunger[model].by = self.now + self._bound(model)
        for model, hunger in self.hunger.items():
            assert self.now <= hunger.by, f"{model} has wanted a place since {hunger.since}, at most until {hunger.by}"

    def _bound(self, model: str) -> float:
        """The bound of `docs/fairness.md` for a model that begins to want a place now."""
        ahead = {*self.hunger, *self.scheduler.living()} - {model}
        own = self.scheduler.phase_of(model) is not Phase.ABSENT  # its old child still has to go
        return (
            self.limits.max_wait
            + sum(self._load(other) + 4 * self.load_seconds[other] + self._end_seconds for other in ahead)
            + (self._end_seconds if own else 0.0)
            + self._load(model)
        )

    @property
    def _end_seconds(self) -> float:
        return self.longest_answer + self.stop_seconds

    def _load(self, model: str) -> float:
        """At worst a load is tried twice, with the end of an idle model in between."""
        return 2 * self.load_seconds[model] + self.stop_seconds
