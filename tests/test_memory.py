"""A router over fake children that share a virtual GPU: who is let in, who goes, what is refused, what is foreseen."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from llamarouter.host.learnt_footprints import LearntFootprints
from llamarouter.server.child import Stage
from tests.node_kit import House, add_model, engine_with, house
from tests.virtual_machine import Expected, VirtualMachine, virtual_machine
from tests.waiting import until

pytestmark = pytest.mark.anyio


def preset_of(tmp_path: Path, **models: str) -> str:
    """A section for each model, with what stands in it besides."""
    sections = [f"[*]\nlr-env = FAKE_VRAM_FILE={tmp_path}/gpus.json\nctx-size = 4096\n"]
    for name, words in models.items():
        file = tmp_path / "models" / f"{name}.gguf"
        if not file.exists():  # a restart finds what there was
            assert add_model(tmp_path / "models", name) == file
        sections.append(f"[{name}]\nmodel = {file}\n{words}\n")
    return "".join(sections)


def takes(size: int, expected: int | None = None) -> str:
    return f"lr-env = FAKE_VRAM_BYTES={size}" + (f" EXPECTED={expected}" if expected is not None else "")


@asynccontextmanager
async def home_of(machine: VirtualMachine, tmp_path: Path, *argv: str, **models: str) -> AsyncIterator[House]:
    preset = preset_of(tmp_path, **models)
    async with house(
        tmp_path, "--memory-reserve", "0", *argv, preset=preset, devices=machine, footprints=Expected()
    ) as home:
        yield home


async def ask(home: House, model: str) -> tuple[int, Any]:
    answer = await home.client.post("/v1/completions", json={"model": model, "prompt": "x", "max_tokens": 1})
    return answer.status_code, answer.json()


async def loaded(home: House, *models: str) -> None:
    for model in models:
        status, body = await ask(home, model)
        assert status == 200, body


def living(home: House) -> set[str]:
    return set(home.node.supervisor.children)


@pytest.mark.parametrize("tells", [True, False])
async def test_two_that_fit_and_a_third_that_evicts(tmp_path: Path, tells: bool) -> None:
    machine = virtual_machine(tmp_path, 1000, tells=tells)
    async with home_of(machine, tmp_path, a=takes(400), b=takes(500), c=takes(300)) as home:
        await loaded(home, "a", "b")
        assert living(home) == {"a", "b"}
        await asyncio.wait_for(loaded(home, "c"), 20)
        assert living(home) == {"b", "c"} or living(home) == {"a", "c"}
        state = (await home.client.get("/lr/devices")).json()
        gpu = next(each for each in state["devices"] if each["name"] == "CUDA0")
        assert gpu["free"] == 1000 - gpu["booked"]
        assert state["models"]["c"] == {"CUDA0": 300}


async def test_a_place_is_given_to_the_child_and_shown(tmp_path: Path) -> None:
    machine = virtual_machine(tmp_path, 1000)
    async with home_of(machine, tmp_path, a=takes(400)) as home:
        await loaded(home, "a")
        command = home.node.supervisor.children["a"].command
        assert command[command.index("--fit") + 1] == "off"
        assert command[command.index("--device") + 1] == "CUDA0"


async def test_what_can_never_fit_is_refused_at_once_with_the_numbers(tmp_path: Path) -> None:
    machine = virtual_machine(tmp_path, 1000)
    async with home_of(machine, tmp_path, a=takes(400), big=takes(2000) + "\nn-gpu-layers = 99") as home:
        await loaded(home, "a")
        status, body = await asyncio.wait_for(ask(home, "big"), 5)
        assert (status, body["error"]["reason"]) == (507, "insufficient_memory")
        assert (await asyncio.wait_for(ask(home, "big"), 5))[0] == 507
        [refusal] = (await home.client.get("/lr/why", params={"model": "big"})).json()["failures"]
        assert (refusal["stage"], refusal["cause"]) == ("refused", "insufficient_memory")
        assert refusal["message"] == body["error"]["message"].removeprefix("model 'big' ")
        assert "`lr plan big`" in refusal["hint"]
        assert "CUDA0" in body["error"]["message"]
        assert living(home) == {"a"}


async def test_a_load_that_dies_of_memory_evicts_one_more_and_is_tried_again(tmp_path: Path) -> None:
    machine = virtual_machine(tmp_path, 1000)
    async with home_of(machine, tmp_path, a=takes(400), b=takes(300), c=takes(650, expected=300)) as home:
        await loaded(home, "a", "b")
        await asyncio.wait_for(loaded(home, "c"), 20)
        assert "c" in living(home)
        assert len(living(home)) < 3


@pytest.mark.parametrize("tells", [True, False])
@pytest.mark.parametrize("lag", [0.3, 1.5])
async def test_a_driver_that_lags_is_waited_for(tmp_path: Path, lag: float, tells: bool) -> None:
    machine = virtual_machine(tmp_path, 1000, lag=lag, tells=tells)
    async with home_of(machine, tmp_path, a=takes(700), b=takes(700)) as home:
        await loaded(home, "a")
        await asyncio.wait_for(loaded(home, "b"), 20)
        assert not home.node.supervisor.lives.failures  # it was not tried before the bytes were there
        placement = home.node.supervisor.children["b"].placement
        assert placement is not None
        assert not placement.partial  # nor with less, for the moment's sake


async def test_other_programs_take_memory_and_give_it_back(tmp_path: Path) -> None:
    machine = virtual_machine(tmp_path, 1000)
    async with home_of(machine, tmp_path, a=takes(400) + "\nn-gpu-layers = 99") as home:
        machine.gpus.add("CUDA0", 1000, others=700)
        status, body = await asyncio.wait_for(ask(home, "a"), 10)
        assert (status, body["error"]["reason"]) == (503, "insufficient_memory")
        assert "CUDA0" in body["error"]["message"]
        machine.gpus.add("CUDA0", 1000, others=500)
        await loaded(home, "a")
        assert living(home) == {"a"}


async def test_layers_that_stay_behind_are_said_or_refused(tmp_path: Path) -> None:
    machine = virtual_machine(tmp_path, 1000)
    strict = takes(1500) + "\nlr-require-full-offload = true"
    async with home_of(machine, tmp_path, part=takes(1500), strict=strict) as home:
        await loaded(home, "part")
        child = home.node.supervisor.children["part"]
        assert child.placement is not None
        assert child.placement.partial
        assert child.shortfalls[0].startswith("a part of it is in host memory: CUDA0, ")
        row = (await home.client.get("/v1/models/part")).json()["lr"]
        assert row["shortfalls"] == list(child.shortfalls)
        assert row["held"]["CUDA0"] > 0
        assert row["place"] == child.placement.label
        status, body = await ask(home, "strict")
        assert (status, body["error"]["reason"]) == (507, "insufficient_memory")
        assert living(home) == {"part"}


async def test_a_survey_that_hangs_delays_only_who_waits_for_it(tmp_path: Path) -> None:
    machine = virtual_machine(tmp_path, 1000)
    async with home_of(machine, tmp_path, a=takes(400), b=takes(400)) as home, asyncio.TaskGroup() as group:
        await loaded(home, "a")
        machine.quick = False
        machine.gate.clear()
        waiting = group.create_task(ask(home, "b"))
        await until(lambda: home.node.supervisor.scheduler.waiting("b") == 1)
        await loaded(home, "a")
        machine.gate.set()
        assert (await waiting)[0] == 200


@pytest.mark.parametrize("loaded_before", [(), ("a",), ("a", "b"), ("b", "a")])
async def test_a_plan_is_what_then_happens(tmp_path: Path, loaded_before: tuple[str, ...]) -> None:
    machine = virtual_machine(tmp_path, 1000)
    async with home_of(machine, tmp_path, a=takes(400), b=takes(500), c=takes(450)) as home:
        await loaded(home, *loaded_before)
        plan = (await home.client.post("/lr/plan", json={"model": "c"})).json()
        assert living(home) == set(loaded_before)
        before = living(home)
        await asyncio.wait_for(loaded(home, "c"), 20)
        assert before - living(home) == {each["model"] for each in plan["evict"]}
        child = home.node.supervisor.children["c"]
        assert child.placement is not None
        assert plan["place"] == child.placement.label
        assert plan["command"] == list(child.command)
        assert plan["needs"] == child.placement.needs
        assert "PATH" not in plan["env"]  # what is inherited is nobody's business
        assert (await home.client.post("/lr/plan", json={"model": "c"})).json()["verdict"] == "loaded"


# --- what loads teach -------------------------------------------------------------------------------------------------


async def known_of(home: House, model: str) -> dict[str, Any]:
    """What the list says of a model's memory."""
    rows = (await home.client.get("/models")).json()["data"]
    found: dict[str, Any] = next(row for row in rows if row["id"] == model)["lr"]["memory"]
    return found


async def until_known(home: House, model: str, source: str) -> dict[str, Any]:
    async with asyncio.timeout(10):
        while (known := await known_of(home, model))["source"] != source:
            pass
    return known


async def test_what_a_load_took_is_what_the_next_one_is_thought_to_need(tmp_path: Path) -> None:
    machine = virtual_machine(tmp_path, 1000)
    models = {"a": takes(400, expected=300), "b": takes(300)}
    async with home_of(machine, tmp_path, **models) as home:
        await loaded(home, "a")
        assert (await until_known(home, "a", "measured"))["needs"] == {"CUDA0": 400}
        plan = (await home.client.post("/lr/plan", json={"model": "b"})).json()
        assert plan["source"] == "engine"
        await until(lambda: (tmp_path / "learnt.toml").exists())
    async with home_of(machine, tmp_path, **models) as home:
        await until(lambda: home.node.supervisor.needs_of("a") is not None)
        assert (await known_of(home, "a"))["source"] == "measured"
        plan = (await home.client.post("/lr/plan", json={"model": "a"})).json()
        assert (plan["needs"], plan["source"]) == ({"CUDA0": 400}, "measured")
        assert plan["load_seconds"] > 0
        assert home.node.supervisor.scheduler.policy_of("a").load_seconds == plan["load_seconds"]
        assert home.node.supervisor.scheduler.policy_of("b").load_seconds is None


async def test_what_a_load_took_says_nothing_of_another_engine_at_the_same_path(tmp_path: Path) -> None:
    machine = virtual_machine(tmp_path, 1000)
    engine = engine_with(tmp_path)
    async with home_of(machine, tmp_path, a=f"{takes(700, expected=400)}\nlr-engine = {engine}") as home:

        async def planned() -> tuple[str, dict[str, int]]:
            plan = (await home.client.post("/lr/plan", json={"model": "a"})).json()
            return plan["source"], plan["needs"]

        assert await planned() == ("engine", {"CUDA0": 400})
        await loaded(home, "a")
        await until_known(home, "a", "measured")
        await home.client.post("/models/unload", json={"model": "a"})
        await until(lambda: not living(home))
        assert await planned() == ("measured", {"CUDA0": 700})
        other = "if [ $1 = --version ]; then echo version: 7; exit; fi; exec "
        engine.write_text(engine.read_text().replace("exec ", other))
        await home.node.shelf.look(force=True)
        assert await planned() == ("engine", {"CUDA0": 400})
        assert machine.forgotten == [(str(engine),)]  # it may have other devices


async def test_what_was_learnt_is_recalled_without_asking_the_engine(tmp_path: Path) -> None:
    machine, models = virtual_machine(tmp_path, 1000), {"a": takes(400, expected=300)}
    async with home_of(machine, tmp_path, **models) as home:
        await loaded(home, "a")
        await until_known(home, "a", "measured")
        await until(lambda: (tmp_path / "learnt.toml").exists())
    asked = Expected()
    preset = preset_of(tmp_path, **models)
    async with house(tmp_path, preset=preset, devices=machine, footprints=asked) as home:
        await until(lambda: home.node.supervisor.needs_of("a") is not None)
        assert (await until_known(home, "a", "measured"))["needs"] == {"CUDA0": 400}
        assert asked.asked == 0  # a router that starts leaves the machine to those who load


async def test_what_is_no_news_is_written_at_the_end(tmp_path: Path) -> None:
    machine, path = virtual_machine(tmp_path, 1000), tmp_path / "learnt.toml"

    def written() -> int:
        return sum(subject.loads for _, subject in LearntFootprints.read(path).lessons.all())

    async with home_of(machine, tmp_path, a=takes(400), b=takes(700)) as home:
        assert home.node.memory is not None
        learnt = home.node.memory._learning._lessons
        for count, model in enumerate("abab", 1):  # each makes the other one go
            await loaded(home, model)
            await until(lambda count=count: sum(subject.loads for _, subject in learnt.all()) == count)
            await until(lambda count=count: written() == min(2, count))
    assert written() == 4


async def test_with_a_driver_that_names_no_process_nothing_is_called_measured(tmp_path: Path) -> None:
    machine = virtual_machine(tmp_path, 1000, tells=False)
    async with home_of(machine, tmp_path, a=takes(400, expected=300)) as home:
        await loaded(home, "a")
        await until(lambda: (tmp_path / "learnt.toml").exists())
        assert (await known_of(home, "a"))["source"] == "engine"


async def test_a_load_that_died_of_memory_is_thought_to_need_more(tmp_path: Path) -> None:
    machine = virtual_machine(tmp_path, 1000)
    async with home_of(machine, tmp_path, a=takes(400), c=takes(1200, expected=300)) as home:
        status, body = await ask(home, "c")
        assert (status, body["error"]["reason"]) == (503, "insufficient_memory")
        plan = (await home.client.post("/lr/plan", json={"model": "c"})).json()
        assert plan["needs"] == {"CUDA0": 1000}  # not more than there is: a lesson refuses nothing
        assert plan["doubts"] == ["a load ran out of memory with less"]
        await loaded(home, "a")


async def test_a_crash_says_nothing_of_memory(tmp_path: Path) -> None:
    machine = virtual_machine(tmp_path, 1000)
    async with home_of(machine, tmp_path, a=takes(400)) as home:
        await loaded(home, "a")
        await until_known(home, "a", "measured")
        pid = home.node.supervisor.children["a"].pid
        assert pid is not None
        os.kill(pid, signal.SIGSEGV)
        await until(lambda: not home.node.supervisor.children)
        plan = (await home.client.post("/lr/plan", json={"model": "a"})).json()
        assert (plan["needs"], plan["doubts"]) == ({"CUDA0": 400}, [])


async def test_nothing_is_learnt_of_a_shorter_context(tmp_path: Path) -> None:
    machine = virtual_machine(tmp_path, 1000)
    async with home_of(machine, tmp_path, a=takes(400)) as home:
        await loaded(home, "a")
        placement = home.node.supervisor.children["a"].placement
        assert placement is not None
        assert home.node.memory is not None
        load_of = home.node.memory.appraiser.load_of
        assert load_of("a", placement) is not None
        assert load_of("a", replace(placement, options=(*placement.options, ("--ctx-size", "2048")))) is None
        assert load_of("b", placement) is None


async def test_nothing_is_learnt_of_a_load_that_was_left_to_llama_server(tmp_path: Path) -> None:
    machine = virtual_machine(tmp_path, 1000)
    async with home_of(machine, tmp_path, a=takes(400, expected=300) + "\nfit = on", b=takes(100)) as home:
        await loaded(home, "a", "b")
        await until_known(home, "b", "measured")
        assert (await known_of(home, "a"))["source"] == "engine"


async def test_a_budget_for_what_is_not_there_is_said_at_the_start(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    machine = virtual_machine(tmp_path, 1 << 30)
    async with home_of(machine, tmp_path, "--memory-budget", "CUDA7=1GiB,CUDA0=50%", a=takes(400)) as home:
        await until(lambda: bool(caplog.records))
        assert [record.getMessage() for record in caplog.records] == [
            "--memory-budget CUDA7=1 GiB: no such device; there is CUDA0, Host"
        ]
        await loaded(home, "a")
        state = (await home.client.get("/lr/devices")).json()
        assert state["problems"] == [record.getMessage() for record in caplog.records]
        assert [each["budget"] for each in state["devices"]] == [1 << 29, None]


async def test_an_obvious_fit_does_not_wait_for_the_engines_word(tmp_path: Path) -> None:
    machine, expected = virtual_machine(tmp_path, 4 << 30), Expected()
    expected.gate.clear()
    preset = preset_of(tmp_path, a=takes(1 << 30), tight=takes(2 << 30))
    async with (
        house(tmp_path, preset=preset, devices=machine, footprints=expected) as home,
        asyncio.TaskGroup() as group,
    ):
        await loaded(home, "a")
        await until(lambda: expected.asked == 1)  # for the next time
        tight = group.create_task(ask(home, "tight"))
        await until(lambda: expected.asked == 2)
        assert living(home) == {"a"}
        # `a` computes its first answer while its question is put; `tight` waits for its own.
        assert expected.leisurely == [True, False]
        expected.gate.set()
        assert (await tight)[0] == 200
        assert living(home) == {"a", "tight"}
        await until_known(home, "a", "measured")


async def test_the_list_says_what_a_model_needs_as_soon_as_it_is_known(tmp_path: Path) -> None:
    machine = virtual_machine(tmp_path, 1000)
    async with home_of(machine, tmp_path, a=takes(400), b=takes(500)) as home:

        async def listed() -> dict[str, Any]:
            rows = (await home.client.get("/models")).json()["data"]
            return {row["id"]: row["lr"]["memory"] for row in rows}

        assert await listed() == {"a": None, "b": None}
        await home.client.post("/lr/plan", json={"model": "a"})
        assert await listed() == {"a": {"source": "engine", "needs": {"CUDA0": 400}}, "b": None}


async def test_what_is_not_here_yet_is_fetched_and_nothing_more_is_known(tmp_path: Path) -> None:
    machine = virtual_machine(tmp_path, 1000)
    preset = "[far]\nhf-repo = user/repo:Q8_0\n"
    async with house(tmp_path, preset=preset, devices=machine, footprints=Expected()) as home:
        plan = (await home.client.post("/lr/plan", json={"model": "far"})).json()
        assert plan["verdict"] == "fetches"
        assert "is fetched at the first request" in plan["why"]
        assert (await home.client.post("/lr/plan", json={"model": "none"})).status_code == 404
        assert (await home.client.post("/lr/plan", json={})).status_code == 400


async def test_nobody_looks_where_nobody_is_to(tmp_path: Path) -> None:
    machine = virtual_machine(tmp_path, 1000)
    async with home_of(machine, tmp_path, "--no-memory-check", a=takes(400)) as home:
        await loaded(home, "a")
        assert "--fit" not in home.node.supervisor.children["a"].command
        assert machine.surveys == 0
        for answer in (await home.client.get("/lr/devices"), await home.client.post("/lr/plan", json={"model": "a"})):
            assert (answer.status_code, answer.json()["error"]["reason"]) == (403, "feature_disabled")


async def test_of_two_gpus_the_fuller_one_is_taken_and_a_large_model_is_split(tmp_path: Path) -> None:
    machine = virtual_machine(tmp_path, 1000)
    machine.gpus.add("CUDA1", 600)
    async with home_of(machine, tmp_path, small=takes(500), large=takes(1200)) as home:
        await loaded(home, "small")
        assert home.node.supervisor.scheduler.held()["small"] == {"CUDA1": 500}
        plan = (await home.client.post("/lr/plan", json={"model": "large"})).json()
        assert [each["model"] for each in plan["evict"]] == ["small"]
        await asyncio.wait_for(loaded(home, "large"), 20)
        held = home.node.supervisor.scheduler.held()["large"]
        assert set(held) == {"CUDA0", "CUDA1"}
        assert living(home) == {"large"}


async def test_a_model_that_sleeps_keeps_its_room(tmp_path: Path) -> None:
    machine = virtual_machine(tmp_path, 1000)
    async with home_of(machine, tmp_path, a=takes(400, expected=300)) as home:
        await loaded(home, "a")
        supervisor = home.node.supervisor
        await until(lambda: supervisor.scheduler.held() == {"a": {"CUDA0": 400}})
        child = supervisor.children["a"]
        child.stage = Stage.SLEEPING
        with machine.gpus._open() as ledger:  # as llama-server does, which unloads its model then
            ledger["CUDA0"]["held"][str(child.pid)] = 10
        await home.client.get("/lr/devices")
        assert supervisor.scheduler.held() == {"a": {"CUDA0": 400}}
        child.stage = Stage.LOADED
        await home.client.get("/lr/devices")
        assert supervisor.scheduler.held() == {"a": {"CUDA0": 10}}


async def test_how_a_living_model_was_started_is_explained_with_its_place(tmp_path: Path) -> None:
    machine = virtual_machine(tmp_path, 1000)
    async with home_of(machine, tmp_path, a=takes(400)) as home:
        before = (await home.client.get("/lr/explain", params={"model": "a"})).json()
        assert "--fit" not in before["command"]
        await loaded(home, "a")
        after = (await home.client.get("/lr/explain", params={"model": "a"})).json()
        assert after["command"] == list(home.node.supervisor.children["a"].command)
        origins = {flag["option"]: flag["origin"] for flag in after["flags"]}
        assert origins["--fit"] == origins["--device"] == "llamarouter (memory)"


async def test_where_the_driver_does_not_say_only_what_is_loaded_counts_as_ours(tmp_path: Path) -> None:
    machine = virtual_machine(tmp_path, 1000, tells=False)
    async with (
        home_of(machine, tmp_path, a=takes(400), b="lr-env = FAKE_VRAM_BYTES=300 FAKE_LOAD_SECONDS=30") as home,
        asyncio.TaskGroup() as group,
    ):
        assert home.node.memory is not None
        await loaded(home, "a")
        waiting = group.create_task(ask(home, "b"))
        await until(lambda: "b" in living(home))
        books = home.node.memory.appraiser._books()
        assert (books.loaded, books.all) == ({"CUDA0": 400}, {"CUDA0": 700})
        home.node.supervisor.unload("b", 0.0)
        assert (await waiting)[0] == 503


async def test_a_device_that_is_not_there_is_said_at_the_start_and_at_a_reload(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    machine = virtual_machine(tmp_path, 1000)
    names = {"a": "CUDA9", "b": "cuda0", "c": "none"}
    models = {model: f"{takes(1)}\ndevice = {name}" for model, name in names.items()} | {"d": takes(1)}
    async with home_of(machine, tmp_path, **models) as home:
        await until(lambda: "no such device" in caplog.text)
        line = f"{tmp_path / 'preset.ini'}:7"
        reason = "device CUDA9: no such device; its engine has CUDA0"
        assert [each for each in caplog.messages if "no such" in each] == [f"{line}: {reason}"]
        answer = (await home.client.post("/models/reload")).json()
        assert {"where": line, "reason": reason} in answer["warnings"]
        await loaded(home, "d")
