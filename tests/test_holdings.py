"""Who holds what of a device, and what may still be taken: one table a rule."""

from __future__ import annotations

import pytest

from llamarouter.core.events import StopReason
from llamarouter.core.holdings import Holdings
from llamarouter.core.memory import Room
from llamarouter.core.policy import Policy
from llamarouter.core.residents import Leaving, Phase, Resident

GPU, OTHER = "CUDA0", "CUDA1"


def child(size: int, phase: Phase = Phase.READY, *, ready_at: float = 1.0, pinned: bool = False) -> Resident:
    slots = 0 if phase is Phase.STARTING else 1
    return Resident(
        f"m{size}", 0.0, phase, slots=slots, ready_at=ready_at, needs={GPU: size}, policy=Policy(pinned=pinned)
    )


def spaces(holdings: Holdings, *residents: Resident, now: float = 5.0) -> tuple[int, int, int]:
    """What may be taken for sure, perhaps, and at most."""
    found = holdings.spaces(residents, now)
    return found.sure[GPU], found.hope[GPU], found.most[GPU]


def seen(room: Room, *residents: Resident, at: float = 5.0) -> Holdings:
    holdings = Holdings(lag=2.0)
    holdings.saw({GPU: room}, residents, at)
    return holdings


def test_a_device_that_nobody_has_seen_has_no_bound() -> None:
    assert Holdings(lag=2.0).spaces([child(5)], 0.0).sure == {}
    assert Holdings(lag=2.0).next_change() is None


@pytest.mark.parametrize(
    ("room", "expected"),
    [
        (Room(24, 24, 0), (24, 24, 24)),
        (Room(24, 20, 0), (20, 20, 20)),  # others hold 4
        (Room(24, 20, 0, reserve=3), (17, 17, 17)),
        (Room(24, 20, 0, budget=12), (12, 12, 12)),
        (Room(24, 20, 0, budget=12, reserve=3), (9, 9, 9)),
        (Room(24, 4, 0, budget=12), (4, 4, 4)),
        (Room(24, 30, 0), (24, 24, 24)),  # a driver that says nonsense
    ],
)
def test_what_an_empty_house_may_take(room: Room, expected: tuple[int, int, int]) -> None:
    assert spaces(seen(room)) == expected


@pytest.mark.parametrize(
    ("one", "ours", "free", "expected"),
    [
        (child(10), 10, 14, (14, 14, 24)),
        (child(10), None, 14, (14, 14, 24)),
        (child(10), 2, 22, (14, 14, 24)),  # it has booked more than it has taken
        (child(10), 13, 11, (11, 11, 21)),  # it has taken more: that is as good as others'
        (child(10, Phase.STARTING), 4, 20, (14, 14, 24)),
        (child(10, Phase.STARTING), None, 20, (10, 14, 24)),  # 4 may be its own, or not
        (child(10, ready_at=6.0), None, 14, (4, 14, 24)),  # ready after the look
        (child(10, Phase.STOPPING), 10, 14, (14, 24, 24)),
        (child(10, pinned=True), 10, 14, (14, 14, 14)),
    ],
)
def test_what_is_left_beside_a_child(
    one: Resident, ours: int | None, free: int, expected: tuple[int, int, int]
) -> None:
    assert spaces(seen(Room(24, free, ours), one), one) == expected


def test_a_pinned_one_that_has_to_leave_all_the_same_counts_as_gone() -> None:
    one = child(10, pinned=True)
    one.leaving = Leaving(StopReason.UNLOADED, 9.0)
    assert spaces(seen(Room(24, 14, 10), one), one) == (14, 14, 24)


@pytest.mark.parametrize(
    ("ours", "weight", "expected"),
    [
        (13, 13, (11, 11, 24)),  # it held 3 beyond the books: they are no others' any more
        (6, 6, (12, 12, 18)),  # 6 are others', and were
        (None, 6, (11, 11, 17)),  # nobody had said whose the 13 are: 7 are others'
    ],
)
def test_a_child_that_is_weighed_after_a_look_holds_its_new_weight_of_what_was_seen(
    ours: int | None, weight: int, expected: tuple[int, int, int]
) -> None:
    one = child(10)
    used = 12 if ours == 6 else 13
    holdings = seen(Room(24, 24 - used, ours), one)
    one.needs = {GPU: weight}
    holdings.weighed([one])
    assert spaces(holdings, one) == expected


def test_an_end_frees_nothing_before_somebody_has_looked() -> None:
    one = child(10)
    holdings = seen(Room(24, 14, 10), one)
    holdings.ended(one, 6.0)
    assert spaces(holdings, now=6.0) == (14, 24, 24)
    assert holdings.lagging
    holdings.saw({GPU: Room(24, 24, 0)}, [], 6.1)
    assert spaces(holdings, now=6.1) == (24, 24, 24)
    assert not holdings.lagging


def test_what_a_driver_still_shows_counts_as_being_freed_until_it_is_late() -> None:
    one = child(10)
    holdings = seen(Room(24, 14, 10), one)
    holdings.ended(one, 6.0)
    holdings.saw({GPU: Room(24, 14, 0)}, [], 6.1)
    assert spaces(holdings, now=6.1) == (14, 24, 24)
    holdings.saw({GPU: Room(24, 18, 0)}, [], 6.4)
    assert spaces(holdings, now=6.4) == (18, 24, 24)
    holdings.saw({GPU: Room(24, 20, 0)}, [], 6.5)  # more than half of it is free: the rest is somebody else's
    assert spaces(holdings, now=6.5) == (20, 20, 20)


def test_what_one_device_still_shows_says_nothing_of_another() -> None:
    one = child(10)
    one.needs = {GPU: 10, OTHER: 8}
    holdings = Holdings(lag=2.0)
    holdings.saw({GPU: Room(24, 14, 10), OTHER: Room(24, 12, 8, budget=16)}, [one], 5.0)
    holdings.ended(one, 6.0)
    holdings.saw({GPU: Room(24, 14, 0), OTHER: Room(24, 20, 0, budget=16)}, [], 6.1)
    found = holdings.spaces([], 6.1)
    assert found.hope == {GPU: 24, OTHER: 16}
    assert found.sure == {GPU: 14, OTHER: 16}  # the budget bears no dead there any more
    assert found.firm == {GPU: 14, OTHER: 16}
    assert holdings.lagging


def test_a_prompt_device_shows_nothing_of_the_dead() -> None:
    one = child(10)
    holdings = seen(Room(24, 14, 10, prompt=True), one)
    holdings.ended(one, 6.0)
    assert holdings.lagging  # but not before somebody has looked: then it may be others' already
    assert spaces(holdings, now=6.0) == (14, 24, 24)
    holdings.saw({GPU: Room(24, 14, 0, prompt=True)}, [], 6.1)
    assert spaces(holdings, now=6.1) == (14, 14, 14)
    assert not holdings.lagging


def test_what_is_ending_is_firm_and_what_may_be_nobodys_is_hoped_for() -> None:
    dead, stopping = child(10), child(4, Phase.STOPPING)
    holdings = seen(Room(24, 10, 14), dead, stopping)
    holdings.ended(dead, 6.0)
    found = holdings.spaces([stopping], 6.0)
    assert (found.sure, found.firm, found.hope) == ({GPU: 10}, {GPU: 24}, {GPU: 24})
    holdings.saw({GPU: Room(24, 10, 4)}, [stopping], 6.1)  # 10 are late, or others'
    found = holdings.spaces([stopping], 6.1)
    assert (found.sure, found.firm, found.hope) == ({GPU: 10}, {GPU: 14}, {GPU: 24})


def test_a_budget_holds_for_the_dead_too() -> None:
    one = child(10)
    holdings = seen(Room(40, 30, 10, budget=16), one)
    holdings.ended(one, 6.0)
    holdings.saw({GPU: Room(40, 30, 0, budget=16)}, [], 6.1)
    assert spaces(holdings, now=6.1) == (6, 16, 16)


def test_who_held_nothing_leaves_nothing_behind() -> None:
    holdings = seen(Room(24, 24, 0))
    holdings.ended(child(0), 6.0)
    assert holdings.next_change() is None


def test_an_older_look_says_nothing() -> None:
    holdings = seen(Room(24, 24, 0))
    holdings.saw({GPU: Room(24, 4, 0)}, [], 4.0)
    assert spaces(holdings) == (24, 24, 24)


def test_a_device_that_is_seen_no_more_keeps_nobody_waiting() -> None:
    one = child(10)
    holdings = seen(Room(24, 14, 10), one)
    holdings.ended(one, 6.0)
    holdings.saw({}, [], 6.1)
    assert not holdings.lagging
    assert holdings.rooms == {}


def test_by_a_look_from_before_its_time_was_over_nothing_is_others() -> None:
    one = child(10)
    holdings = seen(Room(24, 14, 10), one)
    holdings.ended(one, 6.0)
    holdings.saw({GPU: Room(24, 14, 0)}, (), 7.5)
    assert spaces(holdings, now=8.5) == (14, 24, 24)  # the driver may have been late: it is to be looked at again
    holdings.saw({GPU: Room(24, 14, 0)}, (), 8.6)
    assert spaces(holdings, now=8.7) == (14, 14, 14)


def test_where_nobody_looks_again_bytes_are_forgiven_all_the_same() -> None:
    one = child(10)
    holdings = seen(Room(24, 14, 10), one)
    holdings.ended(one, 6.0)
    holdings.saw({GPU: Room(24, 14, 0)}, (), 7.5)
    assert holdings.next_change() == 10.0
    assert spaces(holdings, now=10.0) == (14, 14, 14)


@pytest.mark.parametrize(
    ("ours", "most"),
    [
        (15, 20),  # 4 are others' in any case
        (None, 24),  # whose the 9 are of which the books know nothing, this driver does not say
    ],
)
def test_what_an_ended_child_held_beyond_the_books_may_be_had_until_somebody_has_looked(
    ours: int | None, most: int
) -> None:
    one = child(10)
    holdings = seen(Room(24, 5, ours), one)
    assert spaces(holdings, one) == (5, 5, 15)
    holdings.ended(one, 6.0)
    assert spaces(holdings, now=6.0) == (5, 15, most)
    holdings.saw({GPU: Room(24, 20, 0 if ours else None)}, [], 6.1)
    assert spaces(holdings, now=6.1) == (20, 20, 20)


def test_of_an_ended_child_that_began_after_the_look_nothing_is_in_it() -> None:
    one = child(10)
    one.started_at = 5.5
    holdings = seen(Room(24, 5, None))
    holdings.ended(one, 6.0)
    assert spaces(holdings, now=6.0) == (-5, 5, 5)


@pytest.mark.parametrize("ours", [10, None])
def test_a_look_from_before_an_end_says_nothing_of_it(ours: int | None) -> None:
    one, other = child(10), child(8, Phase.STARTING)
    other.started_at = 6.0
    holdings = seen(Room(24, 14, ours), one)
    holdings.ended(one, 6.0)
    holdings.saw({GPU: Room(24, 14, ours)}, [other], 5.5)  # it is told of later, and the other had not begun then
    assert spaces(holdings, other, now=6.5) == (6, 16, 24)


@pytest.mark.parametrize(
    ("at", "expected"),
    [
        (5.5, (2, 22, 24)),  # it loaded then: 10 of the 12 in use may have been its own, or not; at most all of them
        (4.5, (2, 12, 12)),  # it had not begun: all 12 are others'
    ],
)
def test_a_look_from_before_the_end_of_a_load_does_not_take_all_its_bytes_for_taken(
    at: float, expected: tuple[int, int, int]
) -> None:
    one = child(10, Phase.STARTING)
    one.started_at = 5.0
    holdings = seen(Room(24, 12, None), at=4.0)
    holdings.ended(one, 6.0)
    holdings.saw({GPU: Room(24, 12, None)}, [], at)
    assert spaces(holdings, now=6.1) == expected
