"""Lessons at work: what a load has shown is what the next estimate says."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Mapping
from pathlib import Path

import pytest

from llamarouter.core.devices import Device, Survey, View
from llamarouter.core.footprint import Parts
from llamarouter.core.launch import Flag, Launch
from llamarouter.core.memory import HOST, Placement
from llamarouter.core.own_environment import Variable
from llamarouter.core.placement import Layout
from llamarouter.host.engine import Engine, EngineKind
from llamarouter.host.learnt_footprints import LearntFootprints
from llamarouter.server.learning import Learning, Load
from tests.engine_table import HELP, TABLE

GIB = 1 << 30
ENGINE = Engine(
    command=("/bin/llama-server",),
    kind=EngineKind.COMPILED,
    origin="",
    build="b1",
    unix_socket=True,
    state_lines=True,
    table=TABLE,
    help_text=HELP,
)
PLACEMENT = Placement({"CUDA0": 5 * GIB}, (("--fit", "off"), ("--device", "Vulkan0"), ("--n-gpu-layers", "999")))
SURVEY = Survey(
    devices={
        "CUDA0": Device(name="CUDA0", description="RTX", total=24 * GIB, free=9 * GIB, held={7: 6 * GIB}),
        HOST: Device(name=HOST, total=64 * GIB, free=60 * GIB, held={7: 3 * GIB}, mapped={7: GIB}),
    },
    view=View({"Vulkan0": "CUDA0"}),
)
PARTS = {"Vulkan0": Parts(weights=5 * GIB), HOST: Parts(weights=GIB, mapped=GIB)}
LAYOUT = Layout(("Vulkan0",))


def launch(*flags: str, env: tuple[Variable, ...] = ()) -> Launch:
    given = tuple(Flag(flag.split(" ")[0], tuple(flag.split(" ")[1:]), "") for flag in flags)
    return Launch(None, given, variables=env)


def estimated(layout: Layout) -> Mapping[str, Parts] | None:
    return PARTS if layout == LAYOUT else None


def load(subject: str = "s") -> Load:
    return Load(model="m", subject=subject, placement=PLACEMENT, survey=SURVEY, parts=PARTS)


def test_what_was_seen_is_what_is_said_the_next_time_and_after_a_restart(tmp_path: Path) -> None:
    path = tmp_path / "learnt.toml"
    learning = Learning(LearntFootprints.read(path))
    assert learning.is_known("s", SURVEY, LAYOUT) is None
    assert learning.load_seconds() == {}
    learning.came_up(load(), pid=7, logged={"Vulkan0": 5 * GIB}, seconds=3.0)
    asyncio.run(learning.keep())
    for each in (learning, Learning(LearntFootprints.read(path))):
        assert each.is_known("s", SURVEY, LAYOUT) is True
        assert each.load_seconds() == {"m": 3.0}
        parts = each.parts_of("s", SURVEY, estimated)(LAYOUT)
        assert parts == {
            "Vulkan0": Parts(weights=5 * GIB, other=GIB),
            HOST: Parts(weights=GIB, mapped=GIB, other=2 * GIB),
        }


@pytest.mark.parametrize(("role", "size"), [("0", 24 * GIB + 1), (HOST, 10**30)])
def test_what_cannot_be_is_a_line_and_forgotten_and_the_rest_is_used(
    role: str, size: int, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "learnt.toml"
    learning = Learning(LearntFootprints.read(path))
    learning.came_up(load(), pid=7, logged={}, seconds=3.0)
    learning.came_up(load("other"), pid=7, logged={}, seconds=3.0)
    asyncio.run(learning.keep())
    before, key, after = path.read_text().partition('key = "s"')
    path.write_text(before + key + re.sub(rf"^{role} = .*$", f"{role} = {size}", after, count=1, flags=re.MULTILINE))
    learning = Learning(LearntFootprints.read(path))
    for _ in range(2):
        assert learning.parts_of("s", SURVEY, estimated)(LAYOUT) == PARTS
        assert learning.is_known("s", SURVEY, LAYOUT) is None
    name = {"0": "Vulkan0"}.get(role, role)
    [said] = caplog.messages
    assert said.startswith(f"{path}: m needs {size} bytes of {name}, which has ")
    assert learning.is_known("other", SURVEY, LAYOUT) is True
    assert learning.load_seconds() == {"m": 3.0}
    learning.came_up(load(), pid=7, logged={}, seconds=3.0)
    asyncio.run(learning.keep())
    assert Learning(LearntFootprints.read(path)).parts_of("s", SURVEY, estimated)(LAYOUT) != PARTS
    assert str(size) not in path.read_text()


def test_what_such_a_load_takes_is_known_once_one_was_seen_by_the_memory_that_it_takes() -> None:
    learning = Learning(LearntFootprints(None))
    assert learning.taken(load()) is None
    learning.came_up(load(), pid=7, logged={}, seconds=3.0)
    assert learning.taken(load()) == {"CUDA0": 6 * GIB, HOST: 3 * GIB}


def test_of_another_subject_or_place_the_estimate_holds() -> None:
    learning = Learning(LearntFootprints(None))
    learning.came_up(load(), pid=7, logged={}, seconds=3.0)
    assert learning.parts_of("other", SURVEY, estimated)(LAYOUT) == PARTS
    assert learning.parts_of("s", SURVEY, lambda layout: PARTS)(Layout()) == PARTS
    assert learning.parts_of("s", SURVEY, lambda layout: None)(LAYOUT) is None


def test_a_load_that_died_of_memory_is_thought_to_need_more() -> None:
    learning = Learning(LearntFootprints(None))
    lines = ("load_tensors: unable to allocate Vulkan0 buffer",)
    raised = learning.fell_short(load(), lines, {"CUDA0": 23 * GIB, HOST: 63 * GIB})
    assert raised == {"Vulkan0": int(5.75 * GIB), HOST: GIB}
    assert learning.is_known("s", SURVEY, LAYOUT) is False
    parts = learning.parts_of("s", SURVEY, estimated)(LAYOUT)
    assert parts is not None
    assert parts["Vulkan0"].total == int(5.75 * GIB)
    again = learning.fell_short(load(), lines, {"CUDA0": 6 * GIB})
    assert again["Vulkan0"] == 6 * GIB  # it cannot have more


@pytest.mark.parametrize(
    "other",
    [
        (launch("--ctx-size 4096"), ENGINE, (1, 2)),
        (launch("--ctx-size 8192"), ENGINE, (1, 3)),
        (launch("--ctx-size 8192", env=(Variable("CUDA_VISIBLE_DEVICES", "1", ""),)), ENGINE, (1, 2)),
    ],
)
def test_what_a_lesson_is_about(other: tuple[Launch, Engine, tuple[int, ...]]) -> None:
    learning = Learning(LearntFootprints(None))
    subject = learning.subject(launch("--ctx-size 8192"), ENGINE, (1, 2))
    assert subject == learning.subject(launch("--ctx-size 8192", "--temp 0.5"), ENGINE, (1, 2))
    assert subject != learning.subject(*other)
