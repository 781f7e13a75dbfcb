"""What the scheduler is told of a model: placements by what there is, and what is left to llama-server."""

from __future__ import annotations

from collections.abc import Mapping

import pytest
from msgspec.structs import replace

from llamarouter.core.appraisal import FITTED, Case, appraise
from llamarouter.core.budget import Allowance, Amount, Budgets
from llamarouter.core.devices import Device, Survey
from llamarouter.core.footprint import HOST, Footprint, Parts, Source
from llamarouter.core.launch import Flag, Launch
from llamarouter.core.placement import Layout
from llamarouter.core.scaling import PartsOf

LAYERS = 10
PLAIN = Launch(None, ())
WITH_CONTEXT = Launch(None, (Flag("--ctx-size", ("4096",), "x"),))
NO_RESERVE = Budgets(reserve=Allowance("r", everywhere=Amount(bytes=0), names=((HOST, Amount(bytes=0)),)))


def surveyed(**devices: tuple[int, int]) -> Survey:
    """Devices by name: total and free."""
    there = {"Host": (1000, 1000), **devices}
    return Survey(devices={name: Device(name=name, total=of[0], free=of[1]) for name, of in there.items()})


def spread(weights: int, rest: int) -> PartsOf:
    """A model of so many bytes, spread over its layers."""

    def of(layout: Layout) -> Mapping[str, Parts]:
        offloaded = LAYERS if layout.layers is None else layout.layers
        devices = layout.devices
        needs: dict[str, Parts] = {}
        for device in devices:
            share = offloaded / LAYERS / len(devices)
            needs[device] = Parts(weights=int(weights * share), kv=int(rest * share))
        left = 1 - offloaded / LAYERS if devices else 1
        here = int(weights * left)
        needs[HOST] = Parts(weights=here, mapped=here, kv=int(rest * left))
        return needs

    return of


def case(
    weights: int,
    rest: int,
    *,
    survey: Survey,
    launch: Launch = WITH_CONTEXT,
    budgets: Budgets = NO_RESERVE,
    full: bool = False,
) -> Case:
    parts_of = spread(weights, rest)
    return Case(
        model="m",
        launch=launch,
        footprint=Footprint(needs=parts_of(Layout(survey.gpus)) or {}, source=Source.HEADER),
        parts_of=parts_of,
        survey=survey,
        gpus=survey.gpus,
        layers=LAYERS,
        full_offload=full,
        budgets=budgets,
    )


def shown(asked: Case) -> list[tuple[str, dict[str, int], bool]]:
    return [(each.label, dict(each.needs), each.partial) for each in appraise(asked).placements]


def test_one_gpu_that_holds_it() -> None:
    asked = case(60, 20, survey=surveyed(CUDA0=(100, 100)))
    assert shown(asked) == [("CUDA0", {"CUDA0": 80}, False)]
    assert appraise(asked).placements[0].options == (("--fit", "off"), ("--device", "CUDA0"), ("--n-gpu-layers", "999"))
    assert appraise(asked, age=0.5).age == 0.5


def test_what_the_gpu_never_holds_goes_there_in_part_unless_all_of_it_was_wanted() -> None:
    survey = surveyed(CUDA0=(100, 100))
    assert shown(case(100, 40, survey=survey)) == [
        ("CUDA0", {"CUDA0": 140}, False),
        ("CUDA0, 7 of 10 layers", {"CUDA0": 98, HOST: 42}, True),
    ]
    assert shown(case(100, 40, survey=survey, full=True)) == [("CUDA0", {"CUDA0": 140}, False)]


def test_where_nobody_has_said_how_long_the_context_is_llama_server_fits_it() -> None:
    survey = surveyed(CUDA0=(100, 90))
    soft = Budgets()
    (whole, fitted) = appraise(case(100, 40, survey=survey, launch=PLAIN, budgets=soft)).placements
    assert (whole.needs, whole.partial) == ({"CUDA0": 140}, False)
    assert (fitted.label, fitted.options, fitted.partial) == (FITTED, (), True)
    full = appraise(case(100, 40, survey=survey, launch=PLAIN, budgets=soft, full=True)).placements[-1]
    assert full.options == (("--n-gpu-layers", "999"),)
    small = appraise(case(50, 40, survey=survey, launch=PLAIN)).placements
    assert [each.label for each in small] == ["CUDA0"]


def test_an_operator_who_wants_it_fitted_has_it_fitted() -> None:
    launch = Launch(None, (Flag("--fit", ("on",), "x"), Flag("--ctx-size", ("4096",), "x")))
    (placement,) = appraise(case(900, 400, survey=surveyed(), launch=launch)).placements
    assert placement.needs == {HOST: 1000}
    assert placement.options == ()


@pytest.mark.parametrize(
    ("weights", "rest", "free", "needs"),
    [
        (600, 100, 1000, 700),  # it fits
        (600, 100, 500, 500),  # others hold a part: the kernel drops pages of the file
        (2000, 100, 1000, 1000),  # larger than the machine: it is read again and again, as by hand
        (100, 700, 500, 500),  # it does not fit beside others, who can be swapped
        (100, 1200, 1000, 1200),  # that is more than the machine has
    ],
)
def test_without_a_gpu_only_what_no_kernel_can_give_is_refused(weights: int, rest: int, free: int, needs: int) -> None:
    asked = case(weights, rest, survey=surveyed(Host=(1000, free)), budgets=Budgets())
    room = appraise(asked).rooms[HOST]
    (placement,) = appraise(asked).placements
    assert placement.needs[HOST] == min(needs, max(free - room.reserve, 0)) if needs <= 1000 else needs


def test_a_budget_of_the_operator_is_meant_as_it_is_written() -> None:
    budgets = Budgets(budget=Allowance("b", everywhere=Amount(bytes=500)))
    assert shown(case(100, 700, survey=surveyed(), budgets=budgets)) == [(HOST, {HOST: 700}, False)]
    assert shown(case(700, 100, survey=surveyed(), budgets=budgets)) == [(HOST, {HOST: 500}, False)]


def test_the_reserve_that_nobody_asked_for_may_be_taken_by_one_that_is_alone() -> None:
    survey = surveyed(CUDA0=(100, 100))
    plain = case(85, 10, survey=survey, budgets=Budgets())
    assert appraise(plain).rooms["CUDA0"].reserve == 10
    assert shown(plain) == [("CUDA0", {"CUDA0": 90}, False)]
    asked_for = Budgets(reserve=Allowance("r", everywhere=Amount(bytes=10)))
    assert shown(case(85, 10, survey=survey, budgets=asked_for))[0] == ("CUDA0", {"CUDA0": 95}, False)


def test_an_integrated_gpu_takes_from_the_machine() -> None:
    devices = {
        "Vulkan0": Device(name="Vulkan0", total=1000, free=1000, shares_host=True),
        HOST: Device(name=HOST, total=1000, free=1000),
    }
    (placement,) = appraise(case(60, 20, survey=Survey(devices=devices))).placements
    assert (placement.label, placement.needs) == ("Vulkan0", {HOST: 80})


def test_what_nobody_can_tell_is_not_looked_at() -> None:
    asked = Case(model="m", launch=PLAIN, footprint=None, parts_of=lambda _: None, survey=surveyed())
    (placement,) = appraise(asked).placements
    assert (placement.needs, placement.options) == ({}, ())


def test_a_context_that_llama_server_would_find_by_itself_is_told() -> None:
    told = replace(case(60, 20, survey=surveyed(), launch=PLAIN), context=1024)
    assert appraise(told).placements[0].options == (("--fit", "off"), ("--ctx-size", "1024"))
    small = surveyed(CUDA0=(100, 100))
    fitted = appraise(replace(case(200, 40, survey=small, launch=PLAIN, budgets=Budgets()), context=1024))
    assert fitted.placements[-1].options == ()


@pytest.mark.parametrize(
    ("weights", "kv", "budgets", "shown"),
    [
        (50, 40, NO_RESERVE, ("CUDA0", {"CUDA0": 90}, ())),  # it fits as it is
        (50, 100, NO_RESERVE, ("CUDA0, 10240 of 20480 tokens", {"CUDA0": 100}, ("--ctx-size", "10240"))),
        (50, 100, Budgets(), ("CUDA0, 8192 of 20480 tokens", {"CUDA0": 90}, ("--ctx-size", "8192"))),
        (79, 100, NO_RESERVE, ("CUDA0, 4096 of 20480 tokens", {"CUDA0": 99}, ("--ctx-size", "4096"))),
    ],
)
def test_a_context_that_nobody_asked_for_is_made_shorter_before_anything_else(
    weights: int, kv: int, budgets: Budgets, shown: tuple[str, dict[str, int], tuple[str, ...]]
) -> None:
    asked = case(weights, kv, survey=surveyed(CUDA0=(100, 100)), launch=PLAIN, budgets=budgets)
    placements = appraise(replace(asked, trained=20480)).placements
    assert [(each.label, each.needs, each.partial) for each in placements] == [(*shown[:2], False)]
    assert placements[0].options[3:] == ((shown[2],) if shown[2] else ())
    said = appraise(replace(asked, trained=20480, launch=WITH_CONTEXT)).placements[0]
    assert (said.label, said.options[3:]) == ("CUDA0", ())


def test_a_context_is_never_made_too_short_to_be_of_use() -> None:
    asked = replace(case(90, 100, survey=surveyed(CUDA0=(100, 100)), launch=PLAIN), trained=20480)
    assert all("tokens" not in each.label for each in appraise(asked).placements)
    small = replace(case(90, 100, survey=surveyed(CUDA0=(100, 100)), launch=PLAIN), trained=2048)
    assert all("tokens" not in each.label for each in appraise(small).placements)


def test_on_the_host_a_file_that_is_too_large_leaves_the_least_context() -> None:
    asked = replace(case(2000, 4000, survey=surveyed(), launch=PLAIN, budgets=Budgets()), trained=20480)
    (placement,) = appraise(asked).placements
    assert placement.options == (("--fit", "off"), ("--ctx-size", "4096"))
    assert placement.needs == {HOST: 900}


def test_a_budget_is_never_left_to_llama_server_which_knows_none() -> None:
    budgets = Budgets(budget=Allowance("b", everywhere=Amount(bytes=100)))
    asked = case(50, 100, survey=surveyed(), launch=PLAIN, budgets=budgets)
    assert [each.label for each in appraise(asked).placements] == [HOST]
    free = case(50, 2000, survey=surveyed(), launch=PLAIN, budgets=Budgets())
    assert [each.label for each in appraise(free).placements] == [HOST, FITTED]
