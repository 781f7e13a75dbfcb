"""What children hold, by the drivers' word or by the plan, and who is told of it."""

from __future__ import annotations

from collections.abc import Mapping

from llamarouter.core.devices import Device, Survey
from llamarouter.core.footprint import HOST
from llamarouter.core.launch import Launch
from llamarouter.core.memory import Placement
from llamarouter.server.child import Child, Stage
from llamarouter.server.scales import Scales, held_by
from tests.node_kit import ENGINE


def child(pid: int, **needs: int) -> Child:
    one = Child("m", Launch(None, ()), ENGINE, ("x",), 0.0, placement=Placement(needs))
    one.pid, one.stage = pid, Stage.LOADED
    return one


def survey(gpu: Mapping[int, int] | None, host: Mapping[int, int]) -> Survey:
    return Survey(
        devices={
            "CUDA0": Device(name="CUDA0", total=1000, free=0, held=gpu),
            "Vulkan0": Device(name="Vulkan0", total=1000, free=0, held={7: 99}, shares_host=True),
            "CUDA1": Device(name="CUDA1", total=1000, free=0, held={8: 1}),
            HOST: Device(name=HOST, total=1000, free=0, held=host),
        }
    )


def test_the_drivers_word_holds_and_of_the_host_no_less_than_was_planned() -> None:
    place = Placement({"CUDA0": 100, HOST: 50})
    assert held_by(7, place, survey({7: 90}, {7: 20})) == {"CUDA0": 90, HOST: 50}
    assert held_by(7, place, survey({7: 120}, {7: 70})) == {"CUDA0": 120, HOST: 70}
    assert held_by(7, place, survey(None, {})) == {"CUDA0": 100, HOST: 50}
    assert held_by(7, Placement({}), survey({7: 5}, {7: 6})) == {"CUDA0": 5, HOST: 6}


def test_of_the_host_what_a_load_has_shown_is_held_and_falls_by_a_tenth_at_most() -> None:
    place = Placement({"CUDA0": 100, HOST: 50})
    seen = survey({7: 90}, {7: 20})
    assert held_by(7, place, seen, {HOST: 47}) == {"CUDA0": 90, HOST: 47}
    assert held_by(7, place, seen, {HOST: 30}) == {"CUDA0": 90, HOST: 45}
    assert held_by(7, place, seen, {HOST: 60}) == {"CUDA0": 90, HOST: 50}  # more than that it holds when it is seen
    assert held_by(7, place, survey({7: 90}, {7: 49}), {HOST: 47}) == {"CUDA0": 90, HOST: 49}
    assert held_by(7, Placement({"CUDA0": 100}), survey({7: 90}, {}), {HOST: 47}) == {"CUDA0": 90}


def test_who_books_is_told_of_what_differs_and_only_once() -> None:
    told: list[Mapping[str, int]] = []
    children = {"m": child(7, CUDA0=100)}
    scales = Scales(children, lambda model, held: told.append(held))
    scales.weigh(survey({7: 100}, {}))
    scales.weigh(survey({7: 101}, {}))  # a hundredth is none
    assert told == []
    scales.weigh(survey({7: 150}, {}))
    scales.weigh(survey({7: 150}, {}))
    assert told == [{"CUDA0": 150}]
    children["m"] = child(8, CUDA0=100)  # another process, booked as it was planned
    scales.weigh(survey({8: 150}, {}))
    assert told == [{"CUDA0": 150}, {"CUDA0": 150, "CUDA1": 1}]


def test_who_loads_sleeps_or_is_on_its_way_out_is_not_weighed() -> None:
    told: list[Mapping[str, int]] = []
    one = child(7, CUDA0=100)
    scales = Scales({"m": one}, lambda model, held: told.append(held))
    for stage in (Stage.LOADING, Stage.SLEEPING):
        one.stage = stage
        scales.weigh(survey({7: 5}, {}))
    one.stage, one.stopping = Stage.LOADED, True
    scales.weigh(survey({7: 5}, {}))
    assert told == []
