"""The properties of the scheduler where it looks at memory, on virtual devices that other programs use too."""

from __future__ import annotations

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import initialize, rule

from llamarouter.core.memory import Placement
from llamarouter.core.scheduler import Limits
from tests.properties.crowded_house import CrowdedHouse
from tests.properties.machine import Device
from tests.properties.test_scheduler_properties import LIVES, MODELS, SETTINGS, LifeOfAHouse

pytestmark = pytest.mark.timeout(60 * LIVES // 100)

NAMES = ("CUDA0", "CUDA1")
sizes = st.sampled_from([0, 2, 3, 5, 8, 10, 16, 24])
needs = st.fixed_dictionaries(dict.fromkeys(NAMES, sizes))
devices = st.builds(
    Device,
    total=st.sampled_from([16, 24]),
    says_whose=st.booleans(),
    budget=st.sampled_from([None, None, 8, 20, 30]),
    reserve=st.sampled_from([0, 0, 2]),
    lag=st.sampled_from([0.0, 0.0, 1.0, 3.0]),
    prompt=st.sampled_from([False, False, True]),
    others=st.sampled_from([0, 0, 4, 10]),
)


@st.composite
def ways(draw: st.DrawFn) -> tuple[Placement, ...]:
    found = draw(st.lists(st.tuples(needs, st.sampled_from([False, False, True])), min_size=1, max_size=3))
    return tuple(Placement(each, partial=partial, label=str(number)) for number, (each, partial) in enumerate(found))


class LifeOfACrowdedHouse(LifeOfAHouse):
    house: CrowdedHouse

    @initialize(
        models_max=st.sampled_from([1, 2, 3, 0, 0]),
        max_wait=st.sampled_from([0.0, 3.0, 10.0]),
        queue_timeout=st.sampled_from([12.0, 60.0, 1e6]),
        per_model=st.sampled_from([3, 1024]),
        loads=st.lists(st.sampled_from([0.0, 1.0, 4.0]), min_size=len(MODELS), max_size=len(MODELS)),
        data=st.data(),
    )
    def build(
        self,
        models_max: int,
        max_wait: float,
        queue_timeout: float,
        per_model: int,
        loads: list[float],
        data: st.DataObject,
    ) -> None:
        limits = Limits(
            models_max=models_max,
            max_wait=max_wait,
            queue_timeout=queue_timeout,
            queue_per_model=per_model,
            by_memory=True,
        )
        self.house = CrowdedHouse(
            limits,
            dict(zip(MODELS, loads, strict=True)),
            {name: data.draw(devices) for name in NAMES},
            {model: data.draw(ways()) for model in MODELS},
            errors=data.draw(st.dictionaries(st.sampled_from(MODELS), st.sampled_from([50, 150]), max_size=2)),
            delay=data.draw(st.sampled_from([0.0, 0.0, 0.2, 1.0])),
            cached=data.draw(st.sampled_from([0.0, 0.0, 1.0])),
            weighs=data.draw(st.sampled_from([None, None, 0.0, 0.0, 1.0])),
        )

    @rule(device=st.sampled_from(NAMES), size=st.sampled_from([0, 0, 3, 8, 20]))
    def others_want_memory(self, device: str, size: int) -> None:
        self.house.crowd(device, size)


LifeOfACrowdedHouse.TestCase.settings = SETTINGS
test_a_life_of_a_crowded_house = LifeOfACrowdedHouse.TestCase


def test_a_house_that_looks_and_hears_of_an_end_in_one_moment_looks_again() -> None:
    """Its clock stands still between the two: by the look from before, what has gone would be there and not ours."""
    house = CrowdedHouse(
        Limits(by_memory=True),
        dict.fromkeys(MODELS, 4.0),
        {"CUDA0": Device(24, others=8)},
        {model: (Placement({"CUDA0": size}, label="0"),) for model, size in (("a", 8), ("b", 10), ("c", 8))},
        cached=1.0,
    )
    house.ask("a")
    house.advance(10.0)
    house.ask("b")  # takes the room of `a`, which ends at 12
    house.crowd("CUDA0", 4)
    house.ask("c")
    house.advance(2.0)
    assert set(house.children) == {"b", "c"}
    assert house.children["b"].started == 11.0  # there was room by then
    assert house.children["c"].started == 12.0  # at once, by a look of its own


def test_nobody_is_refused_for_bytes_that_a_child_held_beyond_its_estimate_and_that_has_ended_since_the_look() -> None:
    house = CrowdedHouse(
        Limits(by_memory=True),
        dict.fromkeys(MODELS, 1.0),
        {"CUDA0": Device(16, reserve=2)},
        {model: (Placement({"CUDA0": size}, label="0"),) for model, size in (("a", 10), ("b", 4))},
        errors={"a": 150},
        cached=1.0,
    )
    for _ in range(3):
        house.ask("a", seconds=6.0)  # two slots: the third waits
    house.advance(3.0)
    house.ask("b")  # so somebody looks, while `a` holds 15
    house.advance(0.5)
    house.crash("a")
    house.advance(1.0)
    assert set(house.children) == {"a", "b"}  # by a new look there is room for both


def test_who_cannot_be_served_for_what_others_hold_keeps_nobody_waiting_for_long() -> None:
    """They take as much as somebody else was loading: for a while it looks as if his bytes were still to come."""
    house = CrowdedHouse(
        Limits(max_wait=0.0, by_memory=True),
        dict.fromkeys(MODELS, 4.0),
        {"CUDA0": Device(24, says_whose=False)},
        {model: (Placement({"CUDA0": size}, label="0"),) for model, size in (("a", 2), ("b", 10), ("c", 16))},
    )
    house.ask("c")
    house.ask("b")
    house.advance(1.0)
    house.crowd("CUDA0", 20)
    house.ask("a")
    house.crash("c")
    assert not house.children  # `a` may need what `b` needs
    house.advance(2.5)
    assert set(house.children) == {"a"}
    house.rest()
    assert house.ended == {"model_crashed": 1, "insufficient_memory": 1, "served": 1}


def test_who_holds_less_than_was_thought_lets_a_younger_one_begin_before_an_older_one_a_turn_long() -> None:
    """No driver says whose bytes are whose: what `b` does not hold seems to be free as soon as it has gone."""
    house = CrowdedHouse(
        Limits(max_wait=0.0, by_memory=True),
        dict.fromkeys(MODELS, 1.0),
        {"CUDA0": Device(16, says_whose=False, others=11)},
        {model: (Placement({"CUDA0": size}, label="0"),) for model, size in (("a", 5), ("b", 5), ("c", 2))},
        errors={"b": 50},
    )
    house.ask("b")
    house.advance(2.5)
    house.ask("a")  # claims `b`, and would have 3 more beside it by the books
    house.advance(0.5)
    house.ask("c")
    assert set(house.children) == {"b", "c"}
    house.heat("c", clients=4, seconds=3.0)
    house.advance(10.0)
    # `b` has gone at 6. That its bytes are not free might be the driver's lateness for 2 s; from 8 on `c` is claimed.
    assert house.children["a"].started == 12.0
    house.rest()


def test_beside_who_holds_less_than_was_thought_nobody_younger_begins_in_more_than_that() -> None:
    house = CrowdedHouse(
        Limits(max_wait=0.0, by_memory=True),
        dict.fromkeys(MODELS, 1.0),
        {"CUDA0": Device(16, says_whose=False, others=8)},
        {model: (Placement({"CUDA0": size}, label="0"),) for model, size in (("a", 8), ("b", 6), ("c", 4))},
        errors={"b": 50},
    )
    house.ask("b", seconds=6.0)
    house.advance(2.5)
    house.ask("a")  # claims `b`, and would have 3 more beside it by the books
    house.advance(0.5)
    house.ask("c")  # 5 are free
    assert set(house.children) == {"b"}
    house.rest()
    assert house.ended == {"served": 3}


def test_an_end_gives_nobody_younger_what_an_older_one_has_waited_for_until_somebody_has_looked() -> None:
    """What others hold might be what `c` held beyond its books: then `b` could be had as a whole, not in part."""
    house = CrowdedHouse(
        Limits(max_wait=0.0, by_memory=True),
        dict.fromkeys(MODELS, 1.0),
        {"CUDA0": Device(16, says_whose=False, others=6)},
        {
            "a": (Placement({"CUDA0": 5}, label="0"),),
            "b": (Placement({"CUDA0": 16}, label="0"), Placement({"CUDA0": 8}, label="1", partial=True)),
            "c": (Placement({"CUDA0": 4}, label="0"),),
        },
    )
    house.ask("c", seconds=6.0)
    house.advance(2.5)
    house.ask("b")  # claims `c`, for its second placement
    house.advance(5.5)
    house.ask("a")  # 6 are free
    assert set(house.children) == {"c"}
    house.advance(1.0)  # `c` has ended, and the devices have been looked at
    assert set(house.children) == {"b"}
    house.rest()
    assert house.ended == {"served": 3}


def _behind_one_who_waits(*sizes: int) -> CrowdedHouse:
    """`a` is busy, on a device of 16: `b` waits for it, and `c` does not fit beside `b`. `sizes`: of `a` to `d`."""
    house = CrowdedHouse(
        Limits(max_wait=0.0, by_memory=True),
        dict.fromkeys(MODELS, 1.0),
        {"CUDA0": Device(16)},
        {model: (Placement({"CUDA0": size}, label="0"),) for model, size in zip("abcd", sizes, strict=True)},
    )
    house.ask("a", seconds=6.0)
    house.advance(2.0)
    return house


def _come(house: CrowdedHouse, models: str) -> None:
    """Each is asked for, and waits behind `a`."""
    for model in models:
        house.ask(model)
        house.advance(0.5)
    assert set(house.children) == {"a"}


def test_nobody_younger_begins_in_what_one_needs_who_waits_for_the_turn_of_an_older_one_that_has_not_begun() -> None:
    house = _behind_one_who_waits(10, 10, 14, 4)
    _come(house, "bcd")
    house.advance(6.0)
    assert set(house.children) == {"b"}
    house.advance(6.0)
    assert set(house.children) == {"c"}
    house.rest()
    assert house.ended == {"served": 4}


def test_what_is_left_beside_the_second_in_line_is_nobodys_before_the_first_has_begun() -> None:
    """Beside `c` there will be 8, but beside `b` only 2, and `d` needs 6."""
    house = _behind_one_who_waits(4, 14, 8, 6)
    _come(house, "bcd")
    house.advance(6.0)
    assert set(house.children) == {"b"}
    house.rest()
    assert house.ended == {"served": 4}


def test_nobody_is_kept_waiting_for_one_who_will_not_fit_beside_a_pinned_model_that_is_still_to_begin() -> None:
    house = _behind_one_who_waits(10, 10, 14, 4)
    house.pin("b", True)
    for model in "bcd":
        house.ask(model)
        house.advance(0.5)
    assert set(house.children) == {"a", "d"}
    house.rest()
    assert house.ended == {"served": 3, "insufficient_memory": 1}
