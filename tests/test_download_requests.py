"""`POST /models` and `DELETE /models`: what is refused at once, what fails later, and what a delete meets."""

from __future__ import annotations

import asyncio
import os
import signal
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.fake_hub import FakeHub, Fault, running
from tests.node_kit import House, add_model, house
from tests.relay_rig import post
from tests.test_downloads import Events, listed, partials
from tests.waiting import until

pytestmark = pytest.mark.anyio

SPEC = "user/new:Q8_0"
STREAM = {"prompt": "x", "stream": True, "fake": {"delay": 0.01}}


@pytest.fixture
def hub() -> Iterator[FakeHub]:
    with running() as hub:
        yield hub


@pytest.fixture
def weights(tmp_path: Path) -> bytes:
    return add_model(tmp_path, "sample").read_bytes()


def at(hub: FakeHub) -> dict[str, str]:
    return {"HF_ENDPOINT": hub.endpoint}


async def ask_for(home: House, spec: str) -> tuple[int, Any]:
    answer = await home.client.post("/models", json={"model": spec})
    return answer.status_code, answer.json()


async def delete(home: House, model: str) -> tuple[int, Any]:
    answer = await home.client.delete("/models", params={"model": model})
    return answer.status_code, answer.json().get("error", {}).get("reason", answer.json())


def fetching_processes() -> dict[int, bytes]:
    """The processes of this router that fetch, and their command lines."""
    found = {}
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            words = (folder / "cmdline").read_bytes()
            parent = int((folder / "stat").read_text().rpartition(")")[2].split()[1])
        except OSError:
            continue
        if b"llamarouter.host.fetch" in words and parent == os.getpid():
            found[int(folder.name)] = words
    return found


async def test_a_name_that_is_none_is_refused_in_llama_servers_words(tmp_path: Path) -> None:
    async with house(tmp_path) as home:
        status, body = await ask_for(home, "abc")
        assert (status, body["error"]["type"]) == (400, "invalid_request_error")
        assert body["error"]["message"].startswith("error: invalid HF repo format, expected <user>/<model>[:quant]")


async def test_offline_refuses_at_once(tmp_path: Path, hub: FakeHub) -> None:
    async with house(tmp_path, "--offline", environ=at(hub)) as home:
        answer = await home.client.post("/models", json={"model": SPEC})
        assert (answer.status_code, answer.json()["error"]["reason"]) == (503, "offline")
        assert answer.headers["x-should-retry"] == "false"
        assert not home.node.downloads.progress()
    assert not hub.seen


async def test_a_repository_that_does_not_exist_is_a_failure_with_its_reason(tmp_path: Path, hub: FakeHub) -> None:
    events = Events()
    async with house(tmp_path, environ=at(hub)) as home, asyncio.TaskGroup() as group:
        following = group.create_task(events.follow(home))
        await until(lambda: home.node.feed.readers)
        assert await ask_for(home, SPEC) == (200, {"success": True})
        await until(lambda: events.of("download_failed"), 20)
        (failed,) = events.of("download_failed")
        assert (failed["model"], failed["data"]["reason"]) == (SPEC, "not_found")
        assert not events.of("download_finished")
        answer = (await home.client.get("/models")).json()
        assert answer["data"] == []
        (warning,) = answer["warnings"]
        assert warning["where"] == SPEC
        assert "cannot be downloaded" in warning["reason"]
        assert await delete(home, SPEC) == (200, {"success": True})  # enough of it
        assert (await home.client.get("/models")).json()["warnings"] == []
        assert await delete(home, SPEC) == (404, "model_not_found")
        following.cancel()


async def test_a_fetching_process_that_is_killed_is_a_failure_and_can_be_tried_again(
    tmp_path: Path, hub: FakeHub, weights: bytes
) -> None:
    hub.add("user/new", {"new-Q8_0.gguf": weights})
    hold = threading.Event()
    hub.faults.append(Fault(cut=100_000, hold=hold))
    events = Events()
    async with house(tmp_path, environ=at(hub)) as home, asyncio.TaskGroup() as group:
        following = group.create_task(events.follow(home))
        await until(lambda: home.node.feed.readers)
        assert await ask_for(home, SPEC) == (200, {"success": True})
        await until(lambda: home.node.downloads.progress().get(SPEC, 0) > 0, 20)
        for pid in fetching_processes():
            os.kill(pid, signal.SIGKILL)
        await until(lambda: events.of("download_failed"), 20)
        assert "without a word" in events.of("download_failed")[0]["data"]["message"]
        assert SPEC not in await listed(home)
        refused = await home.client.post("/models/unload", json={"model": SPEC})
        assert refused.status_code == 400
        hold.set()
        assert await ask_for(home, SPEC) == (200, {"success": True})
        await until(lambda: events.of("download_finished"), 20)
        assert (await listed(home))[SPEC]["status"]["value"] == "unloaded"
        following.cancel()
    assert hub.fetched()[-1].headers["range"].startswith("bytes=")


async def test_the_token_of_the_command_line_reaches_the_hub_and_no_command_line(
    tmp_path: Path, hub: FakeHub, weights: bytes
) -> None:
    hub.add("user/new", {"new-Q8_0.gguf": weights}, gated=True)
    hold = threading.Event()
    hub.faults.append(Fault(cut=100_000, hold=hold))
    async with house(tmp_path, "--hf-token", hub.token, environ=at(hub)) as home:
        assert await ask_for(home, SPEC) == (200, {"success": True})
        await until(lambda: home.node.downloads.progress().get(SPEC, 0) > 0, 20)
        (words,) = fetching_processes().values()
        assert hub.token.encode() not in words
        hold.set()
        await until(lambda: not home.node.downloads.progress(), 20)
        assert SPEC in await listed(home)
        assert hub.token not in (await home.client.get("/models")).text


async def test_a_delete_stops_a_download_and_keeps_its_part_and_one_more_deletes_that(
    tmp_path: Path, hub: FakeHub, weights: bytes
) -> None:
    hub.add("user/new", {"new-Q8_0.gguf": weights})
    hub.faults.append(Fault(cut=100_000, hold=threading.Event()))
    events = Events()
    async with house(tmp_path, environ=at(hub)) as home, asyncio.TaskGroup() as group:
        following = group.create_task(events.follow(home))
        await until(lambda: home.node.feed.readers)
        assert await ask_for(home, SPEC) == (200, {"success": True})
        await until(lambda: home.node.downloads.progress().get(SPEC, 0) > 0, 20)
        assert await delete(home, SPEC) == (200, {"success": True})
        assert len(partials(tmp_path)) == 1
        assert await delete(home, SPEC) == (200, {"success": True})
        assert not partials(tmp_path)
        assert not list((tmp_path / "cache").rglob("*.lr-partial*"))
        assert await delete(home, SPEC) == (404, "model_not_found")
        await until(lambda: len(events.of("model_remove")) == 2)
        assert [each["event"] for each in events.records if each["event"] != "download_progress"] == [
            "model_status", "download_failed", "model_remove", "model_remove",
        ]  # fmt: skip
        following.cancel()


async def test_of_several_deletes_at_once_one_deletes(tmp_path: Path, hub: FakeHub, weights: bytes) -> None:
    hub.add("user/new", {"new-Q8_0.gguf": weights})
    async with house(tmp_path, environ=at(hub)) as home:
        assert await ask_for(home, SPEC) == (200, {"success": True})
        await until(lambda: not home.node.downloads.progress(), 20)
        ends = await asyncio.gather(*(delete(home, SPEC) for _ in range(5)))
        assert sorted(map(str, ends)) == ["(200, {'success': True})"] + ["(404, 'model_not_found')"] * 4
        assert SPEC not in await listed(home)


async def test_a_delete_lets_answers_end_and_turns_the_others_away(
    tmp_path: Path, hub: FakeHub, weights: bytes
) -> None:
    hub.add("user/new", {"new-Q8_0.gguf": weights})
    async with house(tmp_path, "-np", "1", environ=at(hub)) as home, asyncio.TaskGroup() as group:
        assert await ask_for(home, SPEC) == (200, {"success": True})
        await until(lambda: not home.node.downloads.progress(), 20)
        door = await home.knock()
        door.send(post("/completion", {"model": SPEC, "n_predict": 100, **STREAM}))
        assert (await door.reader.readuntil(b"data: ")).startswith(b"HTTP/1.1 200")
        waiting = group.create_task(
            home.client.post("/completion", json={"model": SPEC, "prompt": "x", "n_predict": 1}, timeout=30)
        )
        await until(lambda: home.node.supervisor.scheduler.waiting(SPEC))
        deleting = group.create_task(delete(home, SPEC))
        await until(lambda: home.node.shelf.id_of(SPEC) is None)
        newcomer = await home.client.post("/completion", json={"model": SPEC, "prompt": "x"}, timeout=30)
        assert (newcomer.status_code, newcomer.json()["error"]["reason"]) == (404, "model_not_found")
        assert not deleting.done()
        assert (await listed(home))[SPEC]["status"]["value"] == "loaded"
        text = await door.reader.readuntil(b"0\r\n\r\n")
        assert b'"stop":true' in text.replace(b" ", b"") or b"[DONE]" in text
        assert await deleting == (200, {"success": True})
        assert (await waiting).status_code == 404
        assert not home.node.supervisor.children
        assert SPEC not in await listed(home)
    assert not list((tmp_path / "cache").rglob("*.gguf"))
