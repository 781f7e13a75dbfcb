"""Pins that do not fit together: whether all pinned models can be in memory at once."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest

from llamarouter.core.memory import Placement
from llamarouter.core.pins_together import Pin, misfit_of
from tests.node_kit import house
from tests.test_memory import ask, home_of, living, loaded, preset_of, takes
from tests.virtual_machine import GIB, Expected, virtual_machine
from tests.waiting import until

GPUS = {"CUDA0": 10 * GIB, "CUDA1": 10 * GIB}


def on(device: str, size: float, *, partial: bool = False) -> Placement:
    return Placement({device: int(size * GIB)}, partial=partial, label=device)


def either(model: str, size: float) -> Pin:
    return Pin(model, (on("CUDA0", size), on("CUDA1", size)))


def test_what_fits_somewhere_fits() -> None:
    assert misfit_of([], GPUS) is None
    assert misfit_of([either("a", 6), either("b", 9)], GPUS) is None
    # The last one fits only on CUDA0: the first has to go to the other one.
    assert misfit_of([either("a", 6), Pin("b", (on("CUDA0", 5),))], GPUS) is None
    assert misfit_of([Pin("a", (Placement({}),)), Pin("b", (on("elsewhere", 99),))], GPUS) is None


def test_the_first_that_finds_no_room_is_named_with_the_numbers() -> None:
    misfit = misfit_of([either("a", 6), either("b", 6), either("c", 5), either("d", 1)], GPUS)
    assert str(misfit) == (
        "c is pinned and needs 5.0 GiB on CUDA0, and the other pinned ones (a, b) leave 4.0 GiB of 10.0 GiB: "
        "they do not fit together"
    )


def test_one_that_is_too_large_by_itself_says_so() -> None:
    assert str(misfit_of([either("a", 1), Pin("b", (on("CUDA1", 11),))], GPUS)) == (
        "b is pinned and needs 11.0 GiB on CUDA1, and CUDA1 has 10.0 GiB for models: they do not fit together"
    )


def test_layers_that_would_stay_behind_are_no_way_out_unless_there_is_no_other() -> None:
    half = on("CUDA0", 1, partial=True)
    both = [either("a", 9), either("b", 9)]
    assert misfit_of([*both, Pin("c", (on("CUDA0", 2), half))], GPUS) is not None
    assert misfit_of([*both, Pin("c", (half,))], GPUS) is None


def test_where_it_takes_too_long_to_find_out_nothing_is_said() -> None:
    many = [Pin(str(number), tuple(on(f"CUDA{device}", 3) for device in range(5))) for number in range(16)]
    room = {f"CUDA{device}": 10 * GIB for device in range(5)}  # for fifteen of them
    assert misfit_of(many, room) is None
    assert misfit_of(many[:15], room) is None


# --- in a router ------------------------------------------------------------------------------------------------------


def pinned(size: int) -> str:
    return takes(size * GIB) + "\nn-gpu-layers = 99\nlr-pin = on"


@pytest.mark.anyio
async def test_the_start_says_so_and_the_rest_serves(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.WARNING)
    machine = virtual_machine(tmp_path, 10 * GIB)
    async with home_of(machine, tmp_path, a=pinned(6), b=pinned(5), c=takes(2 * GIB)) as home:
        await until(lambda: "do not fit together" in caplog.text)
        line = next(line for line in caplog.messages if "do not fit together" in line)
        assert line.startswith(f"{tmp_path / 'preset.ini'}:13: b is pinned and needs 5.")
        assert "on CUDA0, and the other pinned ones (a) leave 3." in line
        await loaded(home, "a", "c")
        status, body = await ask(home, "b")
        assert (status, body["error"]["reason"]) == (503, "insufficient_memory")
        assert living(home) == {"a", "c"}


@pytest.mark.anyio
async def test_a_reload_and_a_pin_at_run_time_say_so(tmp_path: Path) -> None:
    machine = virtual_machine(tmp_path, 10 * GIB)
    plain = pinned(5).replace("\nlr-pin = on", "")
    async with home_of(machine, tmp_path, a=pinned(6), b=plain) as home:
        answer = (await home.client.post("/models/reload")).json()
        assert not [each for each in answer["warnings"] if "together" in each["reason"]]
        told = (await home.client.post("/lr/pin", json={"model": "b"})).json()
        assert told["warnings"][0].startswith("lr pin: b is pinned and needs 5.")
        assert (await home.client.post("/lr/unpin", json={"model": "b"})).json()["warnings"] == []
        (tmp_path / "preset.ini").write_text(preset_of(tmp_path, a=pinned(6), b=pinned(5)), encoding="utf-8")
        answer = (await home.client.post("/models/reload")).json()
        assert [each["where"] for each in answer["warnings"] if "together" in each["reason"]] == [
            f"{tmp_path / 'preset.ini'}:13"
        ]


@pytest.mark.anyio
async def test_where_nobody_looks_at_the_memory_nothing_is_said_of_it(tmp_path: Path) -> None:
    preset = preset_of(tmp_path, a=pinned(6), b=pinned(5))
    async with house(tmp_path, preset=preset, footprints=Expected()) as home:
        assert await home.node.doubts_of_pins() == ()
