"""Properties of the scheduler, looked for by Hypothesis in a house that objects to every wrong command.

`HYPOTHESIS_PROFILE=thorough` looks at twenty times as many lives, `long` at a hundred times as many.
"""

from __future__ import annotations

import os

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule

from llamarouter.core.events import Arrived, Ready, Released
from llamarouter.core.policy import Policy
from llamarouter.core.scheduler import Limits, Phase
from tests.properties.house import House
from tests.properties.inhabitants import Fate, Kind

LIVES = {"default": 200, "thorough": 4_000, "long": 20_000}[os.environ.get("HYPOTHESIS_PROFILE", "default")]
pytestmark = pytest.mark.timeout(60 * LIVES // 200)
SETTINGS = settings(max_examples=LIVES, stateful_step_count=50, deadline=None, suppress_health_check=list(HealthCheck))

MODELS = ("a", "b", "c", "d")
models = st.sampled_from(MODELS)
answers = st.sampled_from([0.5, 1.0, 3.0, House.longest_answer])
drains = st.sampled_from([0.0, 1.0, 4.0, House.longest_answer])
policies = st.builds(
    Policy,
    ttl=st.sampled_from([None, 1.0, 2.5, 20.0]),
    pinned=st.sampled_from([False, False, True]),
    priority=st.integers(-1, 1),
)
pauses = st.sampled_from([0.0, 0.25, 1.0, 2.0, 5.0, 10.0, 30.0])


class LifeOfAHouse(RuleBasedStateMachine):
    house: House

    @initialize(
        models_max=st.sampled_from([1, 1, 2, 3, 0]),
        max_wait=st.sampled_from([0.0, 3.0, 10.0]),
        queue_timeout=st.sampled_from([12.0, 60.0, 1e6]),
        per_model=st.sampled_from([3, 1024]),
        loads=st.lists(st.sampled_from([0.0, 1.0, 4.0]), min_size=len(MODELS), max_size=len(MODELS)),
    )
    def build(
        self,
        models_max: int,
        max_wait: float,
        queue_timeout: float,
        per_model: int,
        loads: list[float],
    ) -> None:
        limits = Limits(
            models_max=models_max,
            max_wait=max_wait,
            queue_timeout=queue_timeout,
            queue_per_model=per_model,
        )
        self.house = House(limits, dict(zip(MODELS, loads, strict=True)))

    @rule(model=models, kind=st.sampled_from(Kind), seconds=answers, autoload=st.booleans())
    def ask(self, model: str, kind: Kind, seconds: float, autoload: bool) -> None:
        self.house.ask(model, kind, seconds, autoload=autoload)

    @rule(model=models, count=st.integers(2, 5), seconds=answers)
    def burst(self, model: str, count: int, seconds: float) -> None:
        for _ in range(count):
            self.house.ask(model, seconds=seconds)

    @rule(model=models, clients=st.integers(1, 4), seconds=st.sampled_from([2.0, House.longest_answer]))
    def heat(self, model: str, clients: int, seconds: float) -> None:
        if self.house.hot[model] < 4:
            self.house.heat(model, clients, seconds)

    @rule(model=models)
    def cool(self, model: str) -> None:
        del self.house.hot[model]

    @rule(seconds=pauses)
    def pass_time(self, seconds: float) -> None:
        self.house.advance(seconds)

    @precondition(lambda self: self.house.requests)
    @rule(data=st.data())
    def somebody_leaves(self, data: st.DataObject) -> None:
        self.house.leave(data.draw(st.sampled_from(sorted(self.house.requests))))

    @rule(model=models, fate=st.sampled_from(Fate))
    def doom(self, model: str, fate: Fate) -> None:
        self.house.fates[model].append(fate)

    @precondition(lambda self: any(child.phase is not Phase.STOPPING for child in self.house.children.values()))
    @rule(data=st.data())
    def crash(self, data: st.DataObject) -> None:
        alive = [child.model for child in self.house.children.values() if child.phase is not Phase.STOPPING]
        self.house.crash(data.draw(st.sampled_from(alive)))

    @rule(model=models, drain=drains, changed=st.booleans())
    def unload(self, model: str, drain: float, changed: bool) -> None:
        self.house.unload(model, drain, changed=changed)

    @rule(policies=st.dictionaries(models, policies))
    def reload_policies(self, policies: dict[str, Policy]) -> None:
        self.house.set_policies(policies)

    @rule(model=models, pinned=st.sampled_from([True, False, None]))
    def pin(self, model: str, pinned: bool | None) -> None:
        self.house.pin(model, pinned)

    def teardown(self) -> None:
        if not hasattr(self, "house") or not self.house.sound:
            return
        house = self.house
        house.rest()
        assert not house.requests, "somebody was left without an answer"
        house.heat("a", 3, 2.0)
        house.heat("b", 3, 2.0)
        house.close(4.0)
        house.rest()
        house.advance(10.0)
        assert house.scheduler.idle(), "the router cannot end"
        assert house.scheduler.deadline() is None
        assert not house.children


LifeOfAHouse.TestCase.settings = SETTINGS
test_a_life_of_a_house = LifeOfAHouse.TestCase


@settings(max_examples=LIVES // 8, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    places=st.integers(1, 3),
    max_wait=st.sampled_from([0.0, 1.0, 10.0]),
    loads=st.lists(st.sampled_from([0.5, 1.0, 4.0, 9.0]), min_size=4, max_size=4),
    priorities=st.lists(st.integers(-1, 1), min_size=4, max_size=4),
    pins=st.integers(0, 2),
    hot=st.lists(
        st.tuples(models, st.integers(1, 5), st.sampled_from([0.5, 2.0, 6.0]), st.sampled_from([0.0, 0.3, 7.0])),
        min_size=2,
        max_size=6,
    ),
)
def test_nobody_starves_however_hot_the_others_are(
    places: int,
    max_wait: float,
    loads: list[float],
    priorities: list[int],
    pins: int,
    hot: list[tuple[str, int, float, float]],
) -> None:
    house = House(
        Limits(models_max=places, max_wait=max_wait, queue_timeout=1e6), dict(zip(MODELS, loads, strict=True))
    )
    pinned = min(pins, places - 1)
    house.set_policies(
        {
            model: Policy(20.0, pinned=number < pinned, priority=priority)
            for number, (model, priority) in enumerate(zip(MODELS, priorities, strict=True))
        }
    )
    for model, clients, seconds, pause in hot:
        house.heat(model, clients, seconds)
        house.advance(pause)
    for model in MODELS * 2:
        house.ask(model)
        house.advance(40.0)
    house.rest()
    assert house.ended == {"served": house.ended.total()}


def test_two_hot_models_on_one_place_both_live_and_do_not_spend_their_time_loading() -> None:
    house = House(Limits(models_max=1, max_wait=10.0), {"a": 4.0, "b": 4.0})
    house.heat("a", 4, 1.0)
    house.heat("b", 4, 1.0)
    turns: list[str] = []
    served = {"a": 0, "b": 0}
    for _ in range(600):
        house.advance(1.0)
        for model, child in house.children.items():
            if child.phase is Phase.READY and turns[-1:] != [model]:
                turns.append(model)
            served[model] += len(child.inside) if child.phase is Phase.READY else 0
    # A turn is the other one's wait of ten seconds: its drain, stop and load (7 s at most), and what is left to serve,
    # at least as long as the load took.
    assert 600 / 15 <= len(turns) <= 600 / 10 + 1
    assert min(served.values()) > 0.4 * sum(served.values())
    assert sum(served.values()) > 0.4 * 600 * House.slots


def test_two_clients_that_ask_in_turns_get_batches() -> None:
    house = House(Limits(models_max=1), {"a": 4.0, "b": 4.0})
    house.heat("a", 1, 0.5)
    house.heat("b", 1, 0.5)
    house.advance(100.0)
    assert house.ended["served"] > 50


def test_a_thousand_requests_for_two_hot_models_are_all_served() -> None:
    house = House(Limits(models_max=1, queue_timeout=1e6), {"a": 1.0, "b": 1.0})
    for number in range(1000):
        house.ask("ab"[number % 2], seconds=0.5)
    house.rest()
    assert house.ended == {"served": 1000}


def test_many_models_at_once_are_loaded_one_after_the_other() -> None:
    names = [f"m{number}" for number in range(30)]
    house = House(Limits(models_max=2, queue_timeout=1e6), dict.fromkeys(names, 1.0))
    for name in names:
        house.ask(name)
    house.rest()
    assert house.ended == {"served": 30}


def test_the_warm_path_decides_as_the_slow_one_does() -> None:
    """A request and its end on a ready model leave the scheduler as it was, but for the time of its use.

    Here that the short forms do where they should; that they do the same, and only then, every life of a house says.
    """
    house = House(Limits(), {"a": 1.0})
    house.ask("a")
    house.advance(10.0)
    scheduler = house.scheduler
    for number in range(1000, 1010):
        granted = scheduler.handle(Arrived(number, "a"), 20.0)
        assert len(granted) == 1
        assert scheduler.in_flight("a") == 1
        assert scheduler.handle(Released(number), 21.0) == []
        assert scheduler.handle(Ready("a", 5), 21.0) == []
    assert scheduler.deadline() is None
    assert scheduler.last_used("a") == 21.0
    for seconds in (1.0, 1.0, 2.0):
        house.ask("a", seconds=seconds)  # two slots: the third waits, so the first end is not only an end
    house.rest()
    assert house.twin.taken == {"grant": 2, "release": 3}
