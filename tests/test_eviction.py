"""Who gets a place and who gives one up: each rule of the plan by itself."""

from __future__ import annotations

import math

import pytest

from llamarouter.core.events import StopReason
from llamarouter.core.eviction import Plan, Want, idle_victims, plan_places
from llamarouter.core.residents import Leaving, Phase, Resident

NOW = 100.0


def child(
    model: str,
    phase: Phase = Phase.READY,
    *,
    used: float | None = None,
    inside: int = 0,
    ready_at: float = 0.0,
    load_seconds: float = 1.0,
    leaving: StopReason | None = None,
) -> Resident:
    return Resident(
        model,
        0.0,
        phase,
        slots=4,
        connections=4,
        in_slots=inside,
        ready_at=ready_at,
        load_seconds=load_seconds,
        last_used=used,
        leaving=None if leaving is None else Leaving(leaving),
    )


def plan(
    wants: dict[str, float], *residents: Resident, places: int | None = None, ahead: dict[str, float] | None = None
) -> Plan:
    """The plan for those who want a place since the given times; `places`: as many as there are residents; `ahead`:
    since when somebody waits for a resident that has no room for him.
    """
    return plan_places(
        [Want(model, since) for model, since in wants.items()],
        residents,
        ahead=ahead,
        places=len(residents) if places is None else places,
        max_wait=10.0,
        now=NOW,
    )


def test_free_places_are_given_in_order() -> None:
    shared = plan({"x": 97, "y": 98, "z": 99}, child("a", inside=1), places=3)
    assert shared.start == ("x", "y")
    assert shared.evict == shared.claim == ()


def test_without_limit_all_start() -> None:
    wants = [Want("x", 1.0), Want("y", 2.0)]
    assert plan_places(wants, [], places=None, max_wait=0, now=NOW) == Plan(start=("x", "y"))


def test_the_idle_go_by_last_use_and_no_more_than_needed() -> None:
    residents = [child("a", used=30), child("b", used=10), child("c", used=20), child("d", used=1, inside=1)]
    assert plan({"x": 99}, *residents).evict == ("b",)
    assert plan({"x": 99, "y": 99}, *residents).evict == ("b", "c")
    assert plan({"x": 99, "y": 99, "z": 99, "w": 99}, *residents).evict == ("b", "c", "a")


def test_one_that_was_never_used_counts_from_when_it_was_ready() -> None:
    assert plan({"x": 99}, child("a", ready_at=50), child("b", used=40)).evict == ("b",)
    assert plan({"x": 99}, child("a", ready_at=30), child("b", used=40)).evict == ("a",)


def test_what_is_being_freed_is_not_freed_twice() -> None:
    residents = [child("a", Phase.STOPPING), child("b", used=10), child("c", used=20, inside=1)]
    assert plan({"x": 99}, *residents) == Plan(look_again=109.0)
    assert plan({"x": 99, "y": 99}, *residents).evict == ("b",)
    # ... unless the one that is being stopped is waited for itself: then its place is spoken for
    assert plan({"a": 98, "x": 99}, *residents).evict == ("b",)


def test_a_model_that_waits_for_its_own_end_needs_no_other_place() -> None:
    assert plan({"a": 50}, child("a", Phase.STOPPING), child("b", used=10)).evict == ()
    assert plan({"a": 50}, child("a", Phase.STOPPING), child("b", used=10, inside=1)).claim == ()


def test_starting_and_leaving_models_are_no_victims() -> None:
    residents = [child("a", Phase.STARTING), child("b", leaving=StopReason.UNLOADED), child("c", Phase.STOPPING)]
    assert plan({"x": 1, "y": 2, "z": 3}, *residents) == Plan()


@pytest.mark.parametrize(("since", "claimed"), [(90.0, ("b",)), (90.1, ())])
def test_a_busy_model_is_claimed_when_max_wait_is_over(since: float, claimed: tuple[str, ...]) -> None:
    residents = [child("a", used=30, inside=1), child("b", used=10, inside=2)]
    shared = plan({"x": since}, *residents)
    assert shared.claim == claimed
    assert shared.look_again == (None if claimed else pytest.approx(100.1))


def test_a_fresh_model_is_not_claimed_and_the_plan_says_until_when() -> None:
    fresh = child("a", used=10, inside=1, ready_at=95, load_seconds=20)
    assert plan({"x": 1}, fresh) == Plan(look_again=115)
    assert plan({"x": 1}, fresh, child("b", used=50, inside=1)).claim == ("b",)
    assert plan({"x": 1}, child("a", inside=1, ready_at=95, load_seconds=5)).claim == ("a",)


@pytest.mark.parametrize(
    ("came", "ready_at", "claimed"),
    [
        (49.0, 61.0, ()),  # before the want: he goes first, until four times the load are over
        (49.0, 60.0, ("a",)),  # they are
        (50.0, 61.0, ("a",)),  # with it
        (51.0, 61.0, ("a",)),  # after it
    ],
)
def test_those_who_came_before_a_want_are_served_before_it(
    came: float, ready_at: float, claimed: tuple[str, ...]
) -> None:
    busy = child("a", used=10, inside=4, ready_at=ready_at, load_seconds=10)
    shared = plan({"x": 50.0}, busy, ahead={"a": came})
    assert shared.claim == claimed
    assert claimed or shared.look_again == ready_at + 40


def test_one_with_nobody_ahead_is_claimed_instead_of_one_in_its_turn() -> None:
    busy = child("a", used=10, inside=4, ready_at=61, load_seconds=10)
    other = child("b", used=90, inside=1, ready_at=61, load_seconds=10)
    assert plan({"x": 50.0}, busy, other, ahead={"a": 49.0}).claim == ("b",)


def test_what_a_model_in_its_turn_will_free_is_kept_for_the_oldest_want() -> None:
    busy = child("a", used=10, inside=4, ready_at=61, load_seconds=10)
    assert plan({"x": 50.0, "y": 55.0}, busy, ahead={"a": 49.0}) == Plan(look_again=101)


def test_a_fresh_model_keeps_its_place_though_it_is_idle() -> None:
    fresh = child("a", used=99, ready_at=95, load_seconds=20)
    assert plan({"x": 1}, fresh) == Plan(look_again=115)
    assert plan({"x": 1}, fresh, child("b", used=99.5)).evict == ("b",)
    assert plan({"x": 1}, child("a", used=99.5, ready_at=95, load_seconds=5)).evict == ("a",)


def test_idle_victims_can_be_asked_for_without_sparing_the_fresh() -> None:
    fresh = child("a", used=99.5, ready_at=95, load_seconds=20)
    assert idle_victims([fresh], now=math.inf) == [fresh]
    assert idle_victims([fresh], now=NOW) == []


def test_one_that_leaves_already_is_no_idle_victim() -> None:
    assert idle_victims([child("a", leaving=StopReason.UNLOADED)], now=NOW) == []


def test_a_claim_stands_and_is_not_made_twice() -> None:
    residents = [child("a", used=99, inside=1, leaving=StopReason.EVICTED), child("b", used=10, inside=1)]
    assert plan({"x": 1}, *residents) == Plan()
    assert plan({"x": 1, "y": 2}, *residents).claim == ("b",)


def test_an_idle_model_takes_the_place_of_a_claim() -> None:
    residents = [child("a", used=1, inside=1, leaving=StopReason.EVICTED), child("b", used=90)]
    shared = plan({"x": 1}, *residents)
    assert (shared.evict, shared.release) == (("b",), ("a",))


def test_claims_that_are_needed_no_more_are_given_back_the_latest_first() -> None:
    residents = [child(model, inside=1, leaving=StopReason.EVICTED) for model in "abc"]
    assert plan({"x": 1}, *residents).release == ("b", "c")
    assert plan({}, *residents).release == ("a", "b", "c")
    assert plan({"x": 95}, *residents).release == ("a", "b", "c")


def test_an_abandoned_load_goes_first_and_only_where_no_place_is_free_or_being_freed() -> None:
    residents = [child("a", used=1), child("b", Phase.STARTING)]

    def evicted(*others: Resident, places: int, wants: tuple[str, ...] = ("x",)) -> tuple[str, ...]:
        wanted = [Want(model, 99.0) for model in wants]
        everybody = [*residents, *others]
        shared = plan_places(wanted, everybody, abandoned={"b"}, places=places, max_wait=10.0, now=NOW)
        return shared.evict

    assert evicted(places=2) == ("b",)
    assert evicted(places=3) == ()
    assert evicted(child("c", Phase.STOPPING), places=3) == ()
    assert evicted(places=2, wants=("x", "y")) == ("b", "a")


def test_a_modest_want_gets_what_is_left_or_is_refused() -> None:
    def share(*residents: Resident, places: int, firm: int = 0) -> Plan:
        wants = [Want(f"x{number}", 1.0) for number in range(firm)] + [Want("m", 0.5, modest=True)]
        return plan_places(wants, residents, places=places, max_wait=10.0, now=NOW)

    idle, busy, going = child("a", used=1), child("b", inside=1), child("c", Phase.STOPPING)
    assert share(idle, places=2) == Plan(start=("m",))
    assert share(idle, places=1) == Plan(refuse=("m",))
    assert share(busy, places=1) == Plan(refuse=("m",))
    assert share(idle, going, places=2) == Plan()
    assert share(idle, places=2, firm=1) == Plan(start=("x0",), refuse=("m",))
    assert share(busy, going, places=2, firm=1) == Plan(refuse=("m",))


def test_a_drain_counts_for_claims_but_not_for_the_idle() -> None:
    draining = child("a", inside=1, leaving=StopReason.UNLOADED)
    assert plan({"x": 1}, draining, child("b", inside=1)).claim == ()
    assert plan({"x": 1}, draining, child("b")).evict == ("b",)
