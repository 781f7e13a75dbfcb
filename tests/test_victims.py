"""Which idle models go: the cheapest set that suffices, compared with all sets that there are."""

from __future__ import annotations

from itertools import combinations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llamarouter.core.policy import Policy
from llamarouter.core.residents import Phase, Resident
from llamarouter.core.space import PLACES, held_by, without
from llamarouter.core.victims import cheapest, cost_of, loss_of

NOW = 100.0


def idle(
    model: str, *sizes: int, load: float = 1.0, since: float = 50.0, priority: int = 0, learnt: float | None = None
) -> Resident:
    return Resident(
        model,
        0.0,
        Phase.READY,
        slots=1,
        load_seconds=load,
        last_used=since,
        needs=dict(zip(("CUDA0", "CUDA1"), sizes, strict=False)),
        policy=Policy(priority=priority, load_seconds=learnt),
    )


def names(chosen: list[Resident] | None) -> list[str] | None:
    return None if chosen is None else sorted(one.model for one in chosen)


def test_cost_is_the_load_over_the_idle_time() -> None:
    assert cost_of(idle("a", load=9.0, since=60.0), NOW) == pytest.approx(10 / 41)
    assert cost_of(idle("a", load=9.0, since=60.0, learnt=19.0), NOW) == pytest.approx(20 / 41)
    assert cost_of(idle("a", load=9.0, since=101.0), NOW) == 10


def test_where_only_a_place_is_short_the_order_of_use_decides() -> None:
    one, two = idle("a", 1, load=500.0), idle("b", 9)
    assert names(cheapest([one, two], {PLACES: 1}, (), NOW)) == ["a"]
    assert cheapest([one, two], {PLACES: 3}, (), NOW) is None


def test_a_load_that_nobody_waits_for_costs_nothing_and_ranks_below_all() -> None:
    load = Resident("load", 0.0, needs={"CUDA0": 8}, policy=Policy(priority=5))
    assert names(cheapest([load, idle("a", 8)], {"CUDA0": 8}, {"load"}, NOW)) == ["load"]
    assert loss_of([load], {"load"}, NOW) == (float("-inf"), 0.0)


def test_nobody_of_a_higher_priority_goes_where_lower_ones_suffice() -> None:
    dear = [idle(name, 4, load=100.0, priority=-1) for name in "ab"]
    cheap = idle("c", 8, load=0.0, priority=0)
    assert names(cheapest([*dear, cheap], {"CUDA0": 8}, (), NOW)) == ["a", "b"]
    assert names(cheapest([dear[0], cheap], {"CUDA0": 8}, (), NOW)) == ["c"]
    assert loss_of([*dear, cheap], (), NOW)[0] == 0


candidates = st.lists(
    st.tuples(st.integers(0, 8), st.integers(0, 8), st.integers(0, 60), st.integers(0, 99), st.integers(0, 1)),
    max_size=14,
)
lacks = st.dictionaries(st.sampled_from(["CUDA0", "CUDA1", PLACES]), st.integers(1, 14), min_size=1)


@settings(max_examples=300, deadline=None)
@given(candidates, lacks)
def test_they_suffice_nobody_goes_in_vain_and_no_set_costs_less(
    drawn: list[tuple[int, int, int, int, int]], lacking: dict[str, int]
) -> None:
    everybody = [
        idle(f"m{number}", first, second, load=float(load), since=float(since), priority=priority)
        for number, (first, second, load, since, priority) in enumerate(drawn)
    ]
    chosen = cheapest(everybody, lacking, (), NOW)
    if chosen is None:
        assert without(lacking, map(held_by, everybody))
        return
    assert not without(lacking, map(held_by, chosen))
    for one in chosen:
        assert without(lacking, (held_by(other) for other in chosen if other is not one)), f"{one.model} goes in vain"
    rank = max(one.policy.priority for one in chosen)
    allowed = [one for one in everybody if one.policy.priority <= rank]
    assert not rank or without(lacking, (held_by(one) for one in allowed if one.policy.priority < rank))
    if len(allowed) <= 8 and lacking.keys() != {PLACES}:
        cost = sum(cost_of(one, NOW) for one in chosen)
        for size in range(len(allowed) + 1):
            for others in combinations(allowed, size):
                if not without(lacking, map(held_by, others)):
                    assert cost <= sum(cost_of(one, NOW) for one in others) + 1e-9
