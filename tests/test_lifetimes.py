"""How long models stay in a whole router over fake children: times to live, pins at run time, reloads, crashes."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
from pathlib import Path
from typing import Any

import pytest

from llamarouter.core.events import PolicySet
from llamarouter.core.policy import Policy
from llamarouter.core.scheduler import Phase
from tests.node_kit import House, add_model, engine_with, house
from tests.relay_rig import post
from tests.waiting import until

pytestmark = pytest.mark.anyio


async def ours(home: House, model: str) -> dict[str, Any]:
    answer = await home.client.get(f"/v1/models/{model}")
    told = answer.json()["lr"]
    assert isinstance(told, dict)
    return told


async def ask(home: House, model: str) -> int:
    return (await home.client.post("/tokenize", json={"model": model, "content": "x"})).status_code


async def pin(home: House, model: str, pinned: object = True) -> Any:
    return (await home.client.post("/lr/pin", json={"model": model, "pinned": pinned})).json()


def preset_of(files: Path, **sections: str) -> str:
    return "".join(
        f"[{name}]\nmodel = {add_model(files, name)}\n{text}\n".replace("; ", "\n") for name, text in sections.items()
    )


def phase(home: House, model: str) -> Phase:
    return home.node.supervisor.scheduler.phase_of(model)


async def test_an_idle_model_ends_and_the_list_says_why(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    preset = preset_of(tmp_path / "f", a="lr-ttl = 1s", b="lr-ttl = 1s; lr-pin = true; lr-priority = 7", c="")
    async with house(tmp_path, "--ttl", "2h", preset=preset) as home:
        for model in "cba":  # it lives for a second: the last one
            assert await ask(home, model) == 200
        told = [await ours(home, model) for model in "abc"]
        keys = ("ttl", "pinned", "priority", "stopped")
        assert [[each[key] for key in keys] for each in told] == [
            [1.0, False, 0, None],
            [1.0, True, 7, None],
            [7200.0, False, 0, None],
        ]
        assert 0 < told[0]["expires_in"] <= 1.0
        assert told[1]["expires_in"] is None
        assert 7190 < told[2]["expires_in"] <= 7200
        child = home.node.supervisor.children["a"]
        await child.gone.wait()
        assert (await ours(home, "a"))["stopped"]["reason"] == "expired"
        assert (await ours(home, "a"))["stopped"]["seconds_ago"] >= 0
        assert (await home.client.get("/lr/why?model=a")).json()["stopped"]["reason"] == "expired"
        assert "stopping a (expired)" in caplog.text
        assert set(home.node.supervisor.children) == {"b", "c"}
        assert await ask(home, "a") == 200
        assert (await ours(home, "a"))["stopped"] is None


async def test_who_looks_keeps_no_model_alive(tmp_path: Path) -> None:
    preset = preset_of(tmp_path / "f", a="lr-ttl = 1s")
    async with house(tmp_path, preset=preset) as home:
        assert await ask(home, "a") == 200
        gone = home.node.supervisor.children["a"].gone
        looks = 0
        while not gone.is_set():
            assert (await home.client.get("/props?model=a")).status_code in (200, 400)
            assert (await home.client.get("/models")).status_code == 200
            looks += 1
            assert looks < 100_000
        assert looks > 10


async def test_a_reload_changes_how_long_a_model_stays_and_leaves_its_process_alone(tmp_path: Path) -> None:
    preset = preset_of(tmp_path / "f", a="lr-ttl = 1h", b="")
    async with house(tmp_path, "--models-max", "1", preset=preset) as home:
        assert await ask(home, "a") == 200
        child = home.node.supervisor.children["a"]
        text = preset.replace("lr-ttl = 1h", "lr-pin = true\nlr-ttl = eternity")
        (tmp_path / "preset.ini").write_text(text, encoding="utf-8")
        told = (await home.client.post("/models/reload")).json()
        assert (told["changed"], told["unloading"]) == (["a"], [])
        where = f"{tmp_path / 'preset.ini'}:4"
        assert [each["reason"][:32] for each in told["warnings"] if each["where"] == where] == [
            "lr-ttl must be 1 s to 30 years, "
        ]
        assert home.node.supervisor.children["a"] is child
        assert [(await ours(home, "a"))[key] for key in ("pinned", "ttl")] == [True, 3600.0]
        answer = await home.client.post("/tokenize", json={"model": "b", "content": "x"})
        error = answer.json()["error"]
        assert (answer.status_code, error["reason"]) == (503, "no_place")
        assert error["message"].startswith("a pinned model holds the place (a): ")
        assert answer.headers["retry-after"] == "30"


async def test_pins_at_run_time(tmp_path: Path) -> None:
    preset = preset_of(tmp_path / "f", a="alias = x", b="lr-pin = true", c="")
    async with house(tmp_path, "--models-max", "2", preset=preset) as home:
        assert await pin(home, "x") == {"success": True, "model": "a", "pinned": True, "loaded": False, "warnings": []}
        assert (await ours(home, "a"))["pinned"]
        refused = (await pin(home, "c"))["error"]
        assert (refused["code"], refused["reason"]) == (409, "conflict")
        assert "as many models are pinned already (a, b): `lr unpin` one" in refused["message"]
        assert await ask(home, "a") == await ask(home, "b") == 200
        assert await ask(home, "c") == 503
        unpinned = (await home.client.post("/lr/unpin", json={"model": "b"})).json()
        assert unpinned == {"success": True, "model": "b", "pinned": False, "loaded": True, "warnings": []}
        assert not (await ours(home, "b"))["pinned"]
        assert await ask(home, "c") == 200
        assert set(home.node.supervisor.children) == {"a", "c"}
        assert (await pin(home, "b", None))["pinned"] is True
        assert not (await pin(home, "a", False))["pinned"]


@pytest.mark.parametrize(
    ("body", "status", "words"),
    [
        ({}, 400, 'which model? {"model": "ID"}'),
        ({"model": 5}, 400, 'which model? {"model": "ID"}'),
        ({"model": "a", "pinned": "yes"}, 400, "pinned must be true, false, or null"),
        ({"model": "zz"}, 404, "model 'zz' not found"),
    ],
)
async def test_what_is_no_pin(tmp_path: Path, body: dict[str, object], status: int, words: str) -> None:
    add_model(tmp_path / "models", "a")
    async with house(tmp_path) as home:
        answer = await home.client.post("/lr/pin", json=body)
        assert answer.status_code == status
        assert words in answer.json()["error"]["message"]


async def test_a_pin_needs_a_key_where_there_are_keys(tmp_path: Path) -> None:
    add_model(tmp_path / "models", "a")
    async with house(tmp_path, "--api-key", "k") as home:
        for path in ("/lr/pin", "/lr/unpin"):
            assert (await home.client.post(path, json={"model": "a"})).status_code == 401
            headers = {"authorization": "Bearer k"}
            assert (await home.client.post(path, json={"model": "a"}, headers=headers)).status_code == 200


@pytest.mark.parametrize("number", [signal.SIGSEGV, signal.SIGKILL])
async def test_a_pinned_model_that_crashes_comes_back_by_itself_and_another_one_does_not(
    tmp_path: Path, number: signal.Signals
) -> None:
    preset = preset_of(tmp_path / "f", a="lr-pin = true", b="")
    async with house(tmp_path, preset=preset) as home:
        assert await ask(home, "a") == await ask(home, "b") == 200
        children = home.node.supervisor.children
        first = children["a"]
        for model in "ba":
            os.kill(children[model].pid or 0, number)
            await children[model].gone.wait()
        await until(lambda: phase(home, "a") is Phase.READY and children["a"] is not first)
        assert phase(home, "b") is Phase.ABSENT
        await home.client.post("/models/unload", json={"model": "a", "wait": True})
        assert await ask(home, "b") == 200
        assert phase(home, "a") is Phase.ABSENT  # it was asked to go


async def test_a_pinned_model_that_ran_out_of_memory_while_it_served_comes_back(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    words = ("--fake-crash-signal", "0", "--fake-last-words", "CUDA error: out of memory")
    engine = engine_with(tmp_path, "--fake-crash-after-tokens", "1", *words)
    preset = preset_of(tmp_path / "f", a=f"lr-pin = true; lr-engine = {engine}")
    async with house(tmp_path, preset=preset) as home:
        body = {"model": "a", "prompt": "x", "n_predict": 5}
        assert (await home.client.post("/completion", json=body)).status_code >= 500
        await until(lambda: "loading a again, as it is pinned" in caplog.text)
        assert "out of memory" in caplog.text


async def test_a_pinned_model_that_somebody_waits_for_is_loaded_for_him(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    preset = preset_of(tmp_path / "f", a="lr-pin = true; parallel = 1")
    async with house(tmp_path, preset=preset) as home, asyncio.TaskGroup() as group:
        assert await ask(home, "a") == 200
        first = home.node.supervisor.children["a"]
        door = await home.knock()
        stream = {"model": "a", "prompt": "x", "stream": True, "n_predict": 1_000_000, "fake": {"delay": 0.01}}
        door.send(post("/completion", stream))
        assert (await door.reader.readuntil(b"data: ")).startswith(b"HTTP/1.1 200")
        body = {"model": "a", "prompt": "x", "n_predict": 1}
        waits = group.create_task(home.client.post("/completion", json=body))
        await until(lambda: home.node.supervisor.scheduler.waiting("a") == 1)
        os.kill(first.pid or 0, signal.SIGSEGV)
        assert (await waits).status_code == 200
        assert caplog.text.count("loading a") == 2
        assert "again, as it is pinned" not in caplog.text


async def test_a_pinned_model_that_cannot_be_loaded_is_left_alone(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    engine = engine_with(tmp_path, "--fake-oom-loading", "1")
    preset = preset_of(tmp_path / "f", a=f"lr-pin = true; lr-engine = {engine}", b="")
    async with house(tmp_path, preset=preset) as home:
        assert await ask(home, "a") == 503
        await until(lambda: home.node.supervisor.cooldown_left("a") == 0.0)
        assert await ask(home, "b") == 200
        assert caplog.text.count("loading a") == 1
        assert "again, as it is pinned" not in caplog.text


async def test_a_load_that_no_client_waits_for_says_in_the_log_why_it_is_refused(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    preset = preset_of(tmp_path / "f", a="lr-pin = true", b="", c="lr-env = FAKE_SIGNAL_LOADING=SEGV")
    async with house(tmp_path, "--models-max", "1", preset=preset) as home:
        assert await ask(home, "a") == 200
        home.node.load_unasked("b", "at start")
        await until(lambda: "b is not loaded at start: a pinned model holds the place (a)" in caplog.text)
        await pin(home, "a", False)
        home.node.load_unasked("c", "at start")
        await until(lambda: "c ended: " in caplog.text)
        assert await ask(home, "c") == 503  # it cools down
        assert "c is not loaded" not in caplog.text


async def test_a_request_that_comes_just_when_a_model_ends_is_answered_all_the_same(tmp_path: Path) -> None:
    add_model(tmp_path / "models", "a")
    async with house(tmp_path) as home:
        supervisor, clock = home.node.supervisor, asyncio.get_running_loop().time
        supervisor.decide(PolicySet({"a": Policy(0.05)}))
        endings = 0
        for number in range(20):
            assert await ask(home, "a") == 200
            before = supervisor.children.get("a")
            early = 0.004 * (number % 3)  # before it, about when it is, and after it
            await until(lambda early=early: (supervisor.scheduler.expires_in("a", clock()) or 0.0) <= early)
            assert await ask(home, "a") == 200
            endings += supervisor.children.get("a") is not before
        assert 2 < endings < 20
