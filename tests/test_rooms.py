"""What the scheduler is told of the devices."""

from __future__ import annotations

from llamarouter.core.budget import Allowance, Amount, Budgets
from llamarouter.core.devices import Device, Survey
from llamarouter.core.memory import HOST, Room
from llamarouter.core.rooms import rooms_of, totals_of

GIB = 1 << 30
SURVEY = Survey(
    devices={
        "CUDA0": Device(name="CUDA0", total=24 * GIB, free=10 * GIB, held={7: 5 * GIB, 8: GIB, 99: GIB}),
        "CUDA1": Device(name="CUDA1", total=24 * GIB, free=20 * GIB),
        "MTL0": Device(name="MTL0", total=48 * GIB, free=1, shares_host=True),
        HOST: Device(name=HOST, total=64 * GIB, free=40 * GIB, held={7: GIB}),
    }
)


def test_what_the_driver_names_of_ours_is_ours() -> None:
    rooms = rooms_of(SURVEY, Budgets(Allowance("", Amount(percent=50))), (7, 8))
    assert rooms == {
        "CUDA0": Room(24 * GIB, 10 * GIB, ours=6 * GIB, budget=12 * GIB),
        "CUDA1": Room(24 * GIB, 20 * GIB, ours=None, budget=12 * GIB),
        HOST: Room(64 * GIB, 40 * GIB, ours=GIB, reserve=GIB),
    }


def test_without_children_nothing_is_ours_whoever_says_what() -> None:
    assert {room.ours for room in rooms_of(SURVEY, Budgets(), ()).values()} == {0}


def test_a_driver_that_names_none_of_ours_does_not_say() -> None:
    assert rooms_of(SURVEY, Budgets(), (1234,))["CUDA0"].ours is None


def test_host_is_prompt_where_no_gpu_shares_it() -> None:
    rooms = rooms_of(Survey(devices={k: v for k, v in SURVEY.devices.items() if k != "MTL0"}), Budgets(), ())
    assert {name: room.prompt for name, room in rooms.items()} == {"CUDA0": False, "CUDA1": False, HOST: True}
    assert not rooms_of(SURVEY, Budgets(), ())[HOST].prompt


def test_an_integrated_gpu_takes_from_the_host() -> None:
    assert SURVEY.gpus == ("CUDA0", "CUDA1", "MTL0")
    assert SURVEY.needs({"MTL0": 3, HOST: 4, "CUDA1": 5}) == {HOST: 7, "CUDA1": 5}
    assert list(totals_of(SURVEY)) == ["CUDA0", "CUDA1", HOST]
