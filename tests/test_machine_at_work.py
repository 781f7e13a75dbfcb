"""The whole chain: a driver's library, the process that asks it, the survey, the scheduler, and children that come and
go for it.
"""

from __future__ import annotations

import asyncio
import shlex
from pathlib import Path

import pytest

from llamarouter.host.devices.machine import Machine
from llamarouter.server.child import Child
from tests.fake_machine import GIB, FakeMachine, card, listed
from tests.node_kit import FAKE, House, add_model, house
from tests.virtual_machine import Expected
from tests.waiting import until

pytestmark = pytest.mark.anyio

RTX = "NVIDIA GeForce RTX 4090"
MODELS = {"a": 10, "b": 11, "c": 9}  # GiB


# Whatever else it is asked, it is the fake llama-server.
ELSE = f'[ "$1" = --list-devices ] || exec {shlex.join(FAKE)} "$@"'


def preset_of(tmp_path: Path, engine: tuple[str, ...]) -> str:
    sections = [f"[*]\nctx-size = 4096\nn-gpu-layers = 99\nlr-engine = {engine[0]}\n"]
    for name, gib in MODELS.items():
        file = add_model(tmp_path / "models", name)
        sections.append(f"[{name}]\nmodel = {file}\nlr-env = EXPECTED={gib * GIB}\n")
    return "".join(sections)


class Driver:
    """Two cards of 24 GiB, of which the children hold what is expected of them."""

    def __init__(self, fake: FakeMachine) -> None:
        self._fake = fake
        self.others = (12, 1)  # GiB that other programs hold

    def see(self, home: House | None) -> None:
        """Show the children that there are."""
        held: list[dict[int, int]] = [{999_999: others * GIB} for others in self.others]
        for child in home.node.supervisor.children.values() if home is not None else ():
            assert child.pid is not None
            held[int(place_of(child)[-1])][child.pid] = MODELS[child.model] * GIB
        cards = (card(at + 1, 24 * GIB, 24 * GIB - sum(each.values()), held=each) for at, each in enumerate(held))
        self._fake.nvidia(*(line for lines in cards for line in lines))


def place_of(child: Child) -> str:
    return child.command[child.command.index("--device") + 1]


async def ask(home: House, driver: Driver, model: str) -> dict[str, str]:
    """Where the models are once this one has answered."""
    answer = await home.client.post("/v1/completions", json={"model": model, "prompt": "x", "max_tokens": 1})
    assert answer.status_code == 200, answer.text
    driver.see(home)
    children = home.node.supervisor.children
    held = {name: {place_of(child): MODELS[name] * GIB} for name, child in children.items()}
    async with asyncio.timeout(10):  # until the scales have seen it
        while (await home.client.get("/lr/devices")).json()["models"] != held:
            pass
    return {name: place_of(child) for name, child in children.items()}


@pytest.mark.cc
async def test_models_go_to_the_cards_that_the_driver_shows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fake = FakeMachine(tmp_path / "machine", monkeypatch)
    driver = Driver(fake)
    driver.see(None)
    engine = fake.engine("cuda", *(listed(f"CUDA{at}", RTX, 24 * GIB, GIB) for at in (0, 1)), does=ELSE)
    machine = Machine(engine, fake.env, fake.roots, seconds=10)
    budget = ("--memory-budget", "CUDA1=20GiB")
    preset = preset_of(tmp_path, engine)
    async with house(tmp_path, *budget, preset=preset, devices=machine, footprints=Expected()) as home:
        assert await ask(home, driver, "a") == {"a": "CUDA0"}  # the tightest fit: 10 of 11 GiB
        assert await ask(home, driver, "b") == {"a": "CUDA0", "b": "CUDA1"}
        # The budget of 20 GiB holds both, and nobody has to go.
        assert await ask(home, driver, "c") == {"a": "CUDA0", "b": "CUDA1", "c": "CUDA1"}
        # Another program comes, and is seen before the next decision: there is room on the other card alone.
        await home.client.post("/models/unload", json={"model": "a"})
        await home.client.post("/models/unload", json={"model": "b"})
        await until(lambda: set(home.node.supervisor.children) == {"c"})
        driver.others = (22, 1)
        driver.see(home)
        assert await ask(home, driver, "a") == {"a": "CUDA1", "c": "CUDA1"}
        async with asyncio.timeout(10):
            while [each["ours"] for each in await devices_of(home)][:2] != [None, 19 * GIB]:
                pass
        assert [each["name"] for each in await devices_of(home)] == ["CUDA0", "CUDA1", "Host"]


async def devices_of(home: House) -> list[dict[str, object]]:
    found: list[dict[str, object]] = (await home.client.get("/lr/devices")).json()["devices"]
    return found
