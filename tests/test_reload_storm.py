"""Two hundred reloads while clients ask: who is not concerned notices nothing, and nothing is left behind."""

from __future__ import annotations

import asyncio
import gc
import os
import threading
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.node_kit import House, add_model, house
from tests.relay_rig import post
from tests.test_reload import STREAM, section, write
from tests.waiting import until

pytestmark = [pytest.mark.anyio, pytest.mark.timeout(240)]

RELOADS = 200
BODY = {"prompt": "x", "n_predict": 2}


def texts(file: Path) -> Iterator[str]:
    """What the preset says, reload after reload."""
    for turn in range(RELOADS):
        text = section("stays", file)
        # How long it stays, its order, its alias: never its process.
        text += section("policy", file, f"lr-ttl = {60 + turn}m", f"lr-priority = {turn % 7}", f"alias = p{turn % 3}")
        text += f"; line {turn}\n" * (turn % 5)
        # Another command each twentieth time: drained, and then another process.
        text += section("turns", file, f"ctx-size = {100 + turn // 20}")
        if turn % 20 < 15:
            text += section("comes", file)
        if turn % 4 == 1:
            text += "[wrong]\nctx-sise = 1\n"
        yield text if turn % 20 != 13 else "[stays]\nmodel\n; \xff"


class Clients:
    """Who asks all the time, and what they hear."""

    def __init__(self, home: House) -> None:
        self.home = home
        self.over = False
        self.heard: dict[str, Counter[int]] = {}

    async def ask(self, model: str) -> None:
        """One request after the other over a connection that is kept."""
        door, heard = await self.home.knock(), self.heard.setdefault(model, Counter())
        while not self.over:
            answer = await door.ask("/completion", {**BODY, "model": model})
            assert answer.status != 200 or b'"content"' in answer.body
            heard[answer.status] += 1
        door.close()

    async def answered(self, *models: str) -> None:
        """Each of them has answered once more: reloads come quicker than processes start."""
        before = {model: self.heard[model][200] for model in models}
        await until(lambda: all(self.heard[model][200] > count for model, count in before.items()), 30)

    async def listen(self, model: str) -> int:
        """A stream from the first reload to the last; how many events came."""
        door, events = await self.home.knock(), 0
        door.send(post("/completion", {"model": model, **STREAM}))
        assert (await door.reader.readuntil(b"data: ")).startswith(b"HTTP/1.1 200")
        while not self.over:
            assert b"error" not in await door.reader.readuntil(b"data: ")
            events += 1
        door.close()
        return events


def descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))


async def unloaded(home: House) -> None:
    for model in home.node.supervisor.children.keys() & home.node.shelf.catalog.entries.keys():
        answer = await home.client.post("/models/unload", json={"model": model, "wait": True})
        assert answer.status_code == 200, answer.text
    await until(lambda: not home.node.supervisor.children, 20)  # those that were removed are gone by themselves


async def test_two_hundred_reloads_under_load_touch_nobody_who_is_not_concerned(tmp_path: Path) -> None:
    file = add_model(tmp_path / "files", "m")
    async with house(tmp_path, preset=next(texts(file))) as home:
        # Once before, so that what is made once is there.
        for model in ("stays", "policy", "turns", "comes"):
            assert (await home.client.post("/completion", json={**BODY, "model": model})).status_code == 200
        await home.client.post("/models/reload")
        await unloaded(home)
        gc.collect()
        tasks, threads, open_before = len(asyncio.all_tasks()), threading.active_count(), descriptors()
        clients = Clients(home)
        refused = 0
        async with asyncio.TaskGroup() as group:
            for model in ("stays", "policy", "turns", "comes"):
                group.create_task(clients.ask(model))
            streaming = group.create_task(clients.listen("stays"))
            await until(lambda: {"stays", "policy"} <= set(home.node.supervisor.children), 20)
            lasting = {model: home.node.supervisor.children[model] for model in ("stays", "policy")}
            for turn, text in enumerate(texts(file)):
                if turn % 20 == 19:
                    await clients.answered("turns")
                if turn % 20 == 14:
                    await clients.answered("comes")
                (tmp_path / "preset.ini").write_bytes(text.encode("latin-1"))
                before = home.node.shelf.catalog
                answer = await home.client.post("/models/reload")
                if "\xff" in text:
                    refused += 1
                    assert (answer.status_code, answer.json()["error"]["reason"]) == (500, "reload_refused")
                    assert "preset.ini: cannot be read (line 3" in answer.json()["error"]["message"]
                    assert home.node.shelf.catalog is before
                else:
                    told = answer.json()
                    assert (answer.status_code, told["success"]) == (200, True)
                    assert not {"stays", "policy"} & {*told["unloading"], *told["removed"], *told["added"]}
                    wrong = [each for each in told["warnings"] if "preset.ini:" in each["where"] + each["reason"]]
                    assert bool(wrong) is ("[wrong]" in text)
            last = home.node.shelf.catalog
            assert last.resolve("p1") is last.entries["policy"]
            assert {model: home.node.supervisor.children[model] for model in lasting} == lasting
            assert not any(child.stopping for child in lasting.values())
            assert home.node.supervisor.scheduler.policy_of("policy").ttl == (60 + RELOADS - 1) * 60
            clients.over = True
        assert refused == 10
        # Also who is drained and replaced loses nothing: its requests wait for the next process.
        for model in ("stays", "policy", "turns"):
            assert set(clients.heard[model]) == {200}, model
        assert set(clients.heard["comes"]) <= {200, 404}
        assert min(heard.total() for heard in clients.heard.values()) > 10
        assert streaming.result() > 100
        write(home, section("stays", file))
        await home.client.post("/models/reload")
        await unloaded(home)
        gc.collect()
        await until(lambda: len(asyncio.all_tasks()) <= tasks, 10)
        await until(lambda: descriptors() <= open_before, 10)
        assert threading.active_count() <= threads + 4  # those of the executor, made as they are needed
        assert set(home.node.shelf.catalog.entries) == {"stays"}
