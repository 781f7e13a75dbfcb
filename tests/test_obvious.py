"""What fits beside everything without a second look, and how strictly each device is meant."""

from __future__ import annotations

import pytest

from llamarouter.core.footprint import HOST, Parts
from llamarouter.core.memory import Room
from llamarouter.core.obvious import fits_beside_everything, generously, likely
from llamarouter.core.placement import Layout
from llamarouter.core.soft_room import Books, SoftRoom, eased

MIB = 1 << 20


def test_a_rough_estimate_is_taken_generously() -> None:
    of = {"CUDA0": Parts(weights=100 * MIB, kv=100 * MIB)}
    generous = generously(lambda layout: of)(Layout())
    assert generous is not None
    assert generous["CUDA0"].total == 300 * MIB + 512 * MIB
    rather = likely(lambda layout: of)(Layout())
    assert rather is not None
    assert rather["CUDA0"].total == pytest.approx(230 * MIB, abs=2)
    assert generously(lambda layout: None)(Layout()) is None


@pytest.mark.parametrize(
    ("room", "books", "fits"),
    [
        (Room(total=100, free=50), Books(), True),
        (Room(total=100, free=49), Books(), False),
        (Room(total=100, free=60, reserve=11), Books(), False),
        (Room(total=100, free=60), Books({"CUDA0": 40}, {"CUDA0": 50}), True),  # somebody loads, and takes ten more
        (Room(total=100, free=60), Books({"CUDA0": 40}, {"CUDA0": 51}), False),
        (Room(total=100, free=90, budget=60), Books({"CUDA0": 10}, {"CUDA0": 10}), True),
        (Room(total=100, free=90, budget=60), Books({"CUDA0": 11}, {"CUDA0": 11}), False),
    ],
)
def test_it_fits_beside_everything(room: Room, books: Books, fits: bool) -> None:
    assert fits_beside_everything({"CUDA0": 50}, {"CUDA0": room}, books) is fits


def test_a_device_that_nobody_knows_has_no_room() -> None:
    assert not fits_beside_everything({"CUDA1": 1}, {"CUDA0": Room(total=100, free=100)}, Books())


@pytest.mark.parametrize(
    ("soft", "capacity", "limit"),
    [
        (SoftRoom(Room(total=100, free=100, reserve=10)), 90, 100),
        (SoftRoom(Room(total=100, free=100, reserve=10), strict=True), 90, 90),
        (SoftRoom(Room(total=100, free=30, reserve=10), loaded=50), 70, 80),
        (SoftRoom(Room(total=100, free=30, ours=60, reserve=10), booked=50), 70, 80),  # ten are nobody's that we know
        (SoftRoom(Room(total=100, free=30, ours=40, reserve=10), booked=50), 60, 70),
        (SoftRoom(Room(total=100, free=0, ours=0)), 0, 0),
        (SoftRoom(Room(total=100, free=100, budget=40)), 40, 100),
    ],
)
def test_what_a_device_has_for_us(soft: SoftRoom, capacity: int, limit: int) -> None:
    assert (soft.capacity, soft.limit) == (capacity, limit)


def test_what_is_on_no_device_that_is_known_is_as_it_is() -> None:
    assert eased({"CUDA9": Parts(kv=5), HOST: Parts()}, {}) == {"CUDA9": 5}
