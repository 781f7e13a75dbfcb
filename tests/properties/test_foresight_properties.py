"""What is foreseen is what then happens, in whatever state the scheduler is."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from hypothesis import given, settings
from hypothesis import strategies as st

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
from llamarouter.core.foresight import Foresight, Verdict, foresee
from llamarouter.core.memory import Placement, Room
from llamarouter.core.scheduler import Limits, Phase, Scheduler

MODELS = ("a", "b", "c", "d")
TOTAL = 100


@dataclass
class Life:
    """A scheduler and one device, where what is started is ready, and what is stopped is gone, when we say so."""

    sizes: Mapping[str, int]
    others: int
    models_max: int
    now: float = 0.0
    tickets: int = 0
    inside: list[int] = field(default_factory=list)
    going: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.scheduler = Scheduler(Limits(models_max=self.models_max, by_memory=True))

    def appraised(self, model: str) -> Appraised:
        held = sum(needs.get("CUDA0", 0) for needs in self.scheduler.held().values())
        room = Room(total=TOTAL, free=max(0, TOTAL - self.others - held), ours=held)
        return Appraised(model, (Placement({"CUDA0": self.sizes[model]}, label=model),), {"CUDA0": room})

    def tell(self, event: Event) -> list[Command]:
        """What it does at once; appraisals are answered."""
        done: list[Command] = []
        ahead = [event]
        while ahead:
            for command in self.scheduler.handle(ahead.pop(0), self.now):
                done.append(command)
                if isinstance(command, Appraise):
                    ahead.append(self.appraised(command.model))
                elif isinstance(command, Stop):
                    self.going.append(command.model)
                elif isinstance(command, Grant):
                    self.inside.append(command.ticket)
        return done

    def ask(self, model: str) -> int:
        self.tickets += 1
        self.tell(Arrived(self.tickets, model))
        return self.tickets

    def step(self, kind: str, model: str) -> None:
        self.now += 2.0 if kind == "ready" else 0.1  # a fresh model keeps its place for as long as its load took
        phase = self.scheduler.phase_of(model)
        if kind == "ask":
            self.ask(model)
        elif kind == "ready" and phase is Phase.STARTING:
            self.tell(Ready(model, 2, load_seconds=3.0))
        elif kind == "crash" and phase in (Phase.STARTING, Phase.READY):
            self.tell(Exited(model, ModelCrashed("crashed")))
        elif kind == "gone" and model in self.going:
            self.going.remove(model)
            self.tell(Exited(model))
        elif kind == "release" and self.inside:
            self.tell(Released(self.inside.pop(0)))
        elif kind == "wait":
            self.now += 5.0
            self.tell(TimePassed())

    def request(self, model: str) -> Foresight:
        """Really ask for a model; what is stopped for it is gone at once."""
        self.tickets += 1
        ticket, stopped = self.tickets, list[str]()
        ahead: list[Event] = [Arrived(ticket, model, slot=False, ends_with_load=True)]
        while ahead:
            for command in self.tell(ahead.pop(0)):
                match command:
                    case Grant(granted, _) if granted == ticket:
                        return Foresight(Verdict.LOADED)
                    case Refuse(refused, error) if refused == ticket:
                        return Foresight(Verdict.REFUSED, error=error)
                    case Start(started, placement) if started == model:
                        verdict = Verdict.EVICTS if stopped else Verdict.STARTS
                        return Foresight(verdict, placement, tuple(stopped))
                    case Stop(victim):
                        stopped.append(victim)
                        self.going.remove(victim)
                        ahead.append(Exited(victim))
        return Foresight(Verdict.WAITS, evict=tuple(stopped))


STEPS = st.lists(
    st.tuples(
        st.sampled_from(["ask", "ask", "ready", "ready", "gone", "release", "release", "crash", "wait"]),
        st.sampled_from(MODELS),
    ),
    max_size=30,
)
SIZES = st.fixed_dictionaries({model: st.sampled_from([10, 30, 40, 60, 90, 150]) for model in MODELS})


@given(SIZES, st.sampled_from([0, 20, 50]), st.sampled_from([0, 1, 2, 3]), STEPS, st.sampled_from(MODELS))
@settings(max_examples=300, deadline=None)
def test_what_is_foreseen_is_what_then_happens(
    sizes: dict[str, int], others: int, models_max: int, steps: list[tuple[str, str]], model: str
) -> None:
    life = Life(sizes, others, models_max)
    for kind, about in steps:
        life.step(kind, about)
    before = life.scheduler.held()
    seen = foresee(life.scheduler, model, life.appraised(model), life.now)
    assert life.scheduler.held() == before
    if seen.verdict is Verdict.LOADING:
        assert life.scheduler.phase_of(model) is Phase.STARTING
        return
    happened = life.request(model)
    now_stopped = seen.evict if seen.after == 0.0 else ()  # else it is said who may go then
    assert (happened.verdict, happened.placement, happened.evict, str(happened.error)) == (
        seen.verdict,
        seen.placement if seen.verdict is not Verdict.WAITS else None,
        now_stopped,
        str(seen.error),
    )
