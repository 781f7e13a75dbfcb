"""Which device holds which layer, by the engine's rules."""

from __future__ import annotations

import pytest

from llamarouter.core.footprint import HOST
from llamarouter.core.layer_map import LayerMap, layer_map
from tests.launches import asked_in

TWO = {"CUDA0": 30, "CUDA1": 10}


def placed(flags: str, layers: int = 3, **gpus: int) -> LayerMap:
    return layer_map(layers, asked_in(f"-m m {flags}"), gpus)


def test_without_a_device_all_lies_on_the_host() -> None:
    for where in (placed(""), placed("-ngl 0", **TWO), placed("--device none", **TWO)):
        assert where == LayerMap((HOST,) * 3, HOST)
        assert where.devices == ()


@pytest.mark.parametrize(
    ("flags", "layers", "output"),
    [
        ("", "0000", "1"),  # three quarters are free on the first
        ("-ts 1,1", "0001", "1"),
        ("-ts 1", "0000", "0"),
        ("--device CUDA1,CUDA0 -ts 1,3", "1100", "0"),
        ("-sm none", "0000", "0"),
        ("-sm none -mg 1", "1111", "1"),
        ("-sm none -mg 7", "0000", "0"),
        ("-ngl 2 -ts 1,1", "hhh0", "1"),
        ("--device CUDA7", "7777", "7"),
    ],
)
def test_layers_are_spread(flags: str, layers: str, output: str) -> None:
    names = {"h": HOST, **{digit: f"CUDA{digit}" for digit in "017"}}
    # Four layers and the output are five steps.
    assert placed(flags, **TWO, layers=4) == LayerMap(tuple(names[each] for each in layers), names[output])


def test_where_nobody_knows_what_is_free_all_have_the_same_share() -> None:
    where = placed("", ROCm0=5, ROCm1=0)
    assert where == LayerMap(("ROCm0", "ROCm0", "ROCm1"), "ROCm1")
    assert where.devices == ("ROCm0", "ROCm1")
