"""Where a model may go: one GPU, several, in part, or the host; and what the operator fixed."""

from __future__ import annotations

from collections.abc import Mapping

import pytest
from msgspec.structs import replace

from llamarouter.core.footprint import Footprint, Parts, Source
from llamarouter.core.launch import Flag
from llamarouter.core.memory import HOST, Placement, Room
from llamarouter.core.placement import Layout, Question, placements_of
from llamarouter.core.scaling import scaled
from llamarouter.core.tuning import Fixed, fixed_of

GIB = 1 << 30
LAYERS = 33


def model(gib: float, *, kv: float = 0.0, host: float = 0.0) -> Footprint:
    """With all layers on a GPU: weights, KV cache, and what stays in host memory all the same."""
    return Footprint(
        needs={
            "CUDA0": Parts(weights=int(gib * GIB), kv=int(kv * GIB)),
            HOST: Parts(weights=int(host * GIB)),
        },
        source=Source.ENGINE,
    )


def rooms(*free: float, total: float = 24, host: float = 64) -> dict[str, Room]:
    """GPUs with so many GiB free, and the host."""
    gpus = {f"CUDA{at}": Room(int(total * GIB), int(each * GIB), ours=0) for at, each in enumerate(free)}
    return {**gpus, HOST: Room(int(host * GIB), int(host * GIB), ours=0)}


def asked(footprint: Footprint, there: Mapping[str, Room], *flags: str, **more: object) -> tuple[Placement, ...]:
    given = tuple(Flag(*_words(flag), "command line") for flag in flags)
    question = Question(
        needs_of=scaled(footprint, LAYERS),
        fixed=fixed_of(given),
        gpus=tuple(name for name in there if name != HOST),
        rooms=there,
        layers=LAYERS,
        **more,  # type: ignore[arg-type]
    )
    return placements_of(question)


def _words(flag: str) -> tuple[str, tuple[str, ...]]:
    option, *values = flag.split(" ")
    return option, tuple(values)


def labels(placements: tuple[Placement, ...]) -> list[str]:
    return [placement.label for placement in placements]


def test_without_a_gpu_the_host_is_the_device() -> None:
    (only,) = asked(model(4, host=1), rooms())
    assert only == Placement({HOST: 5 * GIB}, (("--fit", "off"),), label=HOST)


def test_the_tightest_fit_is_taken_so_that_the_emptier_gpu_stays_for_a_larger_model() -> None:
    first, *_ = found = asked(model(6), rooms(24, 8, 12))
    assert labels(found) == ["CUDA1", "CUDA2", "CUDA0"]
    assert first.needs == {"CUDA1": 6 * GIB}
    assert first.options == (("--fit", "off"), ("--device", "CUDA1"), ("--n-gpu-layers", "999"))


def test_of_equals_the_first() -> None:
    assert labels(asked(model(6), rooms(24, 24))) == ["CUDA0", "CUDA1"]


def test_where_it_fits_nowhere_now_least_has_to_go_from_the_emptiest() -> None:
    assert labels(asked(model(20), rooms(4, 16, 9))) == ["CUDA1", "CUDA2", "CUDA0", "CUDA1+CUDA2"]


def test_what_fits_on_none_alone_is_split_over_as_few_as_hold_it_by_their_room() -> None:
    found = asked(model(30), rooms(20, 4, 20))
    assert labels(found)[1] == "CUDA0+CUDA2"
    assert found[1].options == (
        ("--fit", "off"),
        ("--device", "CUDA0,CUDA2"),
        ("--split-mode", "layer"),
        ("--tensor-split", "50,50"),
        ("--n-gpu-layers", "999"),
    )
    assert found[1].needs == {"CUDA0": 30 * GIB * 17 // 33, "CUDA2": 30 * GIB * 16 // 33}


def test_a_split_goes_by_what_is_free_and_by_what_there_is_where_that_is_not_enough() -> None:
    assert asked(model(25), rooms(20, 10))[1].options[3] == ("--tensor-split", "67,33")
    busy = asked(model(40), rooms(2, 1))
    assert busy[1].label == "CUDA0+CUDA1"
    assert busy[1].options[3] == ("--tensor-split", "50,50")


def test_what_no_gpus_hold_is_offloaded_in_part() -> None:
    *_, last = asked(model(48, kv=1), rooms(24))
    assert last.partial
    assert last.label == "CUDA0, 16 of 33 layers"
    assert last.options == (("--fit", "off"), ("--device", "CUDA0"), ("--n-gpu-layers", "16"))
    assert last.needs["CUDA0"] <= 24 * GIB
    assert sum(last.needs.values()) == pytest.approx(49 * GIB, abs=4)


def test_in_part_counts_what_ours_would_leave_and_others_would_not() -> None:
    there = {"CUDA0": Room(24 * GIB, 2 * GIB, ours=16 * GIB), HOST: Room(64 * GIB, 64 * GIB, ours=0)}
    *_, last = asked(model(33), there)
    assert last.label == "CUDA0, 18 of 33 layers"
    unsaid = {**there, "CUDA0": Room(24 * GIB, 2 * GIB)}
    *_, last = asked(model(33), unsaid, held={"CUDA0": 8 * GIB})
    assert last.label == "CUDA0, 10 of 33 layers"


def test_without_room_for_a_layer_the_host_takes_all() -> None:
    *_, last = asked(model(33), rooms(0.5))
    assert last == Placement(
        {HOST: 33 * GIB}, (("--fit", "off"), ("--device", "none")), partial=True, label="Host, 0 of 33 layers"
    )


def test_a_budget_and_a_reserve_are_kept() -> None:
    there = {
        "CUDA0": Room(24 * GIB, 24 * GIB, ours=0, budget=8 * GIB),
        "CUDA1": Room(24 * GIB, 24 * GIB, ours=0, reserve=GIB),
        HOST: Room(64 * GIB, 64 * GIB),
    }
    assert labels(asked(model(8), there)) == ["CUDA0", "CUDA1"]
    assert labels(asked(model(23), there)) == ["CUDA1"]
    assert labels(asked(model(23.5), there))[0] == "CUDA1"  # never: the refusal names one, and what is there


def test_what_is_held_already_counts_against_the_budget() -> None:
    there = rooms(24, 24)
    there["CUDA0"] = Room(24 * GIB, 18 * GIB, ours=6 * GIB, budget=8 * GIB)
    assert labels(asked(model(4), there)) == ["CUDA1", "CUDA0"]


@pytest.mark.parametrize(
    "flag",
    [
        "--tensor-split 3,1",
        "--main-gpu 1",
        "--split-mode row",
        "--override-tensor exps=CPU",
        "--cpu-moe",
        "--n-cpu-moe 12",
        "--device CUDA0,CUDA1",
    ],
)
def test_what_the_operator_settled_is_left_as_it_is(flag: str) -> None:
    (only,) = asked(model(6), rooms(24, 24), flag)
    assert only.options == (("--fit", "off"),)
    assert not only.partial


@pytest.mark.parametrize("flags", [("--fit on",), ("--fit-target 2048",), ("--fit-ctx 8192",)])
def test_who_wants_llama_server_to_fit_gets_that_alone(flags: tuple[str, ...]) -> None:
    (only,) = asked(model(48), rooms(24), *flags)
    assert only.options == ()
    assert only.label == "as its options say"


def test_fit_off_leaves_the_choice() -> None:
    assert labels(asked(model(6), rooms(24, 8), "--fit off")) == ["CUDA1", "CUDA0"]


def test_a_device_that_was_named_is_the_only_one() -> None:
    (only,) = asked(model(6), rooms(24, 8), "--device CUDA0")
    assert only.label == "CUDA0"
    (only,) = asked(model(6), rooms(24, 8), "--device none")
    assert only.needs == {HOST: 6 * GIB}
    assert only.options == (("--fit", "off"),)


def test_who_says_how_many_layers_has_none_taken_off_and_the_gpu_chosen() -> None:
    (only,) = asked(model(48), rooms(24), "--n-gpu-layers 99")
    assert only.options == (("--fit", "off"), ("--device", "CUDA0"))
    assert not only.partial
    assert asked(model(48), rooms(24), "--n-gpu-layers auto")[-1].partial
    (only,) = asked(model(6), rooms(24, 8), "--n-gpu-layers 0")
    assert only.label == HOST


def test_an_integrated_gpu_takes_from_the_host() -> None:
    there = {HOST: Room(32 * GIB, 20 * GIB, ours=0)}
    question = Question(
        needs_of=scaled(model(6, host=1), LAYERS),
        gpus=("MTL0",),
        rooms=there,
        memory_of=lambda name: HOST,
        layers=LAYERS,
    )
    (only,) = placements_of(question)
    assert only.needs == {HOST: 7 * GIB}
    assert only.options[1] == ("--device", "MTL0")


def test_of_a_model_of_which_nothing_is_known_nothing_is_said() -> None:
    assert placements_of(Question(needs_of=lambda layout: None, gpus=("CUDA0",), rooms=rooms(24))) == ()


def test_without_the_number_of_layers_nothing_is_offloaded_in_part() -> None:
    question = Question(needs_of=scaled(model(48), None), gpus=("CUDA0",), rooms=rooms(24))
    assert labels(placements_of(question)) == ["CUDA0"]
    assert scaled(model(48), None)(Layout(("CUDA0",), layers=3)) is None


def test_proportions() -> None:
    whole = Footprint(
        needs={
            "CUDA0": Parts(weights=3300, kv=330, compute=100, projector=50, other=7),
            HOST: Parts(weights=11, compute=5),
        },
        source=Source.ENGINE,
    )
    needs_of = scaled(whole, 33)
    assert needs_of(Layout(("CUDA5",))) == {"CUDA5": 3787, HOST: 16}
    assert needs_of(Layout(("CUDA1", "CUDA2"), (75, 25))) == {"CUDA1": 25 * 110 + 157, "CUDA2": 8 * 110 + 100, HOST: 16}
    assert needs_of(Layout(("CUDA1",), layers=10)) == {"CUDA1": 1100 + 157, HOST: 16 + 2530 + 100}
    assert needs_of(Layout(("CUDA1",), layers=99)) == needs_of(Layout(("CUDA1",)))
    assert needs_of(Layout()) == {HOST: 16 + 3630 + 100 + 57}
    on_host = Footprint(needs={HOST: whole.needs["CUDA0"]}, source=Source.HEADER)
    assert scaled(on_host, 33)(Layout(("CUDA0",))) == {"CUDA0": 3787}


def test_nothing_is_fixed_by_nothing() -> None:
    assert fixed_of(()) == Fixed()
    assert fixed_of((Flag("--device", ("",), ""),)) == Fixed()


def test_a_gpu_that_nobody_sees_is_not_looked_at() -> None:
    question = Question(needs_of=scaled(model(6), LAYERS), gpus=("CUDA7",), rooms=rooms(24), layers=LAYERS)
    assert labels(placements_of(question)) == ["CUDA7"]
    question = replace(question, gpus=("CUDA0", "CUDA7"), rooms=rooms(4))
    assert labels(placements_of(question)) == ["CUDA7", "CUDA0"]
