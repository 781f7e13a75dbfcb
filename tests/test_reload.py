"""A reload touches only what has changed; what it cannot read it refuses; what is wrong keeps its last good version."""

from __future__ import annotations

import asyncio
import logging
from pathlib import Path
from typing import Any

import pytest

from tests.node_kit import House, add_model, house
from tests.relay_rig import post
from tests.waiting import until

pytestmark = pytest.mark.anyio

STREAM = {"prompt": "x", "stream": True, "n_predict": 1_000_000, "fake": {"delay": 0.01}}


def write(home: House, text: str) -> None:
    (home.models.parent / "preset.ini").write_text(text, encoding="utf-8")


async def reload(home: House) -> Any:
    answer = await home.client.post("/models/reload")
    assert answer.status_code == 200, answer.text
    return answer.json()


def section(name: str, file: Path, *lines: str) -> str:
    return "\n".join((f"[{name}]", f"model = {file}", *lines, ""))


async def test_a_reload_says_what_has_changed_and_lets_the_streams_of_the_rest_go_on(tmp_path: Path) -> None:
    file = add_model(tmp_path / "files", "m")
    preset = section("a", file) + section("b", file) + section("c", file) + section("d", file)
    async with house(tmp_path, preset=preset) as home, asyncio.TaskGroup() as group:
        for model in ("a", "b", "c"):
            await home.client.post("/models/load", json={"model": model, "wait": True})
        first = dict(home.node.supervisor.children)
        door = await home.knock()
        door.send(post("/completion", {"model": "a", **STREAM}))
        assert (await door.reader.readuntil(b"data: ")).startswith(b"HTTP/1.1 200")
        busy = group.create_task(home.client.post("/tokenize", json={"model": "b", "content": "x"}))
        await busy
        write(
            home,
            section("e", file, "load-on-startup = true")
            + "; moved\n"
            + preset.replace(section("b", file), section("b", file, "ctx-size = 77")).replace(section("c", file), "")
            + "[f]\nctx-sise = 1\n",
        )
        told = await reload(home)
        assert (told["success"], told["models"]) == (True, 5)
        assert (told["added"], told["changed"], told["removed"]) == (["e", "f"], ["b"], ["c"])
        assert told["unloading"] == ["b", "c"]
        assert any("preset.ini" in each["where"] and "ctx-size" in each["reason"] for each in told["warnings"])
        await until(lambda: set(home.node.supervisor.children) == {"a"})
        assert home.node.supervisor.children["a"] is first["a"]  # and nobody loads `e`: the router does not start
        for _ in range(20):  # the stream goes on
            await door.reader.readuntil(b"data: ")
        assert not first["a"].stopping
        again = await home.client.post("/tokenize", json={"model": "b", "content": "x"})
        assert again.status_code == 200
        assert "77" in home.node.supervisor.children["b"].command
        nothing = await reload(home)
        assert (nothing["added"], nothing["changed"], nothing["removed"], nothing["unloading"]) == ([], [], [], [])


@pytest.mark.parametrize("how", ["post", "get", "signal"])
async def test_what_cannot_be_read_refuses_the_reload_and_everything_stays(
    tmp_path: Path, how: str, caplog: pytest.LogCaptureFixture
) -> None:
    file = add_model(tmp_path / "files", "m")
    async with house(tmp_path, preset=section("a", file)) as home:
        await home.client.post("/models/load", json={"model": "a", "wait": True})
        child = home.node.supervisor.children["a"]
        (tmp_path / "preset.ini").write_bytes(b"[b]\n; \xff\n")
        if how == "signal":
            with caplog.at_level(logging.ERROR, "llamarouter"):
                await home.node.reload()
            (record,) = [each for each in caplog.records if each.levelno == logging.ERROR]
            message = record.getMessage()
        else:
            answer = await (
                home.client.post("/models/reload") if how == "post" else home.client.get("/models?reload=0")
            )
            error = answer.json()["error"]
            assert (answer.status_code, error["reason"]) == (500, "reload_refused")
            message = error["message"]
        assert message.startswith("reload refused, everything stays as it was: ")
        assert "preset.ini: cannot be read (line " in message
        assert home.node.supervisor.children["a"] is child
        assert not child.stopping
        assert list(home.node.shelf.catalog.entries) == ["a"]


async def test_a_wrong_section_keeps_its_last_good_version_and_its_child(tmp_path: Path) -> None:
    file = add_model(tmp_path / "files", "m")
    async with house(tmp_path, preset=section("a", file, "ctx-size = 99")) as home:
        await home.client.post("/models/load", json={"model": "a", "wait": True})
        child = home.node.supervisor.children["a"]
        write(home, section("a", file, "ctx-sise = 100") + section("b", file))
        told = await reload(home)
        assert (told["added"], told["changed"], told["unloading"]) == (["b"], [], [])
        text = str(told["warnings"])
        assert "preset.ini:3" in text
        assert "keeps its last good version" in text
        assert home.node.supervisor.children["a"] is child
        assert not child.stopping


async def test_a_signal_logs_what_has_changed(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    file = add_model(tmp_path / "files", "m")
    async with house(tmp_path, preset=section("a", file)) as home:
        write(home, section("b", file) + "[c]\nctx-sise = 1\n")
        with caplog.at_level(logging.INFO, "llamarouter"):
            await home.node.reload()
            await home.node.reload()
        lines = [each.getMessage() for each in caplog.records]
        assert "reloaded 2 models; added: b, c; removed: a" in lines
        assert "reloaded 2 models; nothing has changed" in lines
        assert sum("ctx-sise" in line for line in lines) == 1


async def test_who_may_wait_and_how_long_holds_at_once_and_touches_no_process(tmp_path: Path) -> None:
    file = add_model(tmp_path / "files", "m")
    one_slot = ("parallel = 1", "lr-queue-per-model = 1")
    async with house(tmp_path, preset=section("a", file, *one_slot)) as home:
        busy = await home.knock()
        busy.send(post("/completion", {"model": "a", **STREAM}))
        await busy.reader.readuntil(b"data: ")
        child = home.node.supervisor.children["a"]
        scheduler = home.node.supervisor.scheduler
        waits = await home.knock()
        waits.send(post("/completion", {"model": "a", "prompt": "x"}))
        await until(lambda: scheduler.waiting("a") == 1)
        full = await home.client.post("/completion", json={"model": "a", "prompt": "x"})
        assert (full.status_code, full.json()["error"]["reason"]) == (429, "queue_full")
        # One more may wait now, and whoever waits does so for a quarter of a second.
        write(home, section("a", file, "parallel = 1", "lr-queue-per-model = 2", "lr-queue-timeout = 0.25"))
        assert (await reload(home))["changed"] == ["a"]
        late = await home.client.post("/completion", json={"model": "a", "prompt": "x"})
        assert (late.status_code, late.json()["error"]["reason"]) == (503, "queue_timeout")
        assert (await waits.answer()).status == 503  # who came before the reload as well
        assert home.node.supervisor.children["a"] is child
        assert not child.stopping
        await busy.reader.readuntil(b"data: ")
