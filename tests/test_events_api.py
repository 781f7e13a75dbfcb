"""`GET /models/sse` over HTTP: llama-server's wire by default, and snapshots, ids and pings for those who ask."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from llamarouter.cli.events import words_of
from tests.node_kit import House, add_model, engine_with, house
from tests.waiting import until

pytestmark = pytest.mark.anyio


class Reading:
    """One connection to the feed, as bytes."""

    def __init__(self, reader: asyncio.StreamReader) -> None:
        self._reader = reader
        self.head = b""

    async def begin(self) -> None:
        async with asyncio.timeout(10):
            self.head = await self._reader.readuntil(b"\r\n\r\n")

    async def event(self) -> str:
        """The next event, with its `id:` line where it has one (every record is a chunk of its own)."""
        async with asyncio.timeout(10):
            size = int(await self._reader.readline(), 16)
            chunk = await self._reader.readexactly(size)
            assert await self._reader.readexactly(2) == b"\r\n"
        assert chunk.endswith(b"\n\n")
        return chunk[:-2].decode()

    async def rest(self) -> list[str]:
        """The events that still come until the feed ends."""
        events = []
        async with asyncio.timeout(10):
            while size := int(await self._reader.readline(), 16):
                events.append((await self._reader.readexactly(size + 2)).decode())
        return events

    async def record(self) -> Any:
        text = await self.event()
        assert text.startswith("data: ")
        return json.loads(text.removeprefix("data: "))


@asynccontextmanager
async def reading(home: House, query: str = "", **headers: str) -> AsyncIterator[Reading]:
    reader, writer = await asyncio.open_connection("127.0.0.1", home.port)
    lines = "".join(f"{name.replace('_', '-')}: {value}\r\n" for name, value in headers.items())
    writer.write(f"GET /models/sse{query} HTTP/1.1\r\nhost: h\r\n{lines}\r\n".encode())
    feed = Reading(reader)
    await feed.begin()
    try:
        yield feed
    finally:
        writer.close()


async def test_a_load_and_an_unload_are_told_as_llama_server_tells_them(tmp_path: Path) -> None:
    add_model(tmp_path / "models", "m")
    async with house(tmp_path) as home, reading(home) as feed:
        assert feed.head.startswith(b"HTTP/1.1 200 OK\r\n")
        assert b"content-type: text/event-stream" in feed.head.lower()
        await home.client.post("/models/load", json={"model": "m", "wait": True})
        assert await feed.record() == {"model": "m", "event": "model_status", "data": {"status": "loading"}}
        told = [await feed.record()]
        while told[-1]["data"]["status"] == "loading":
            assert set(told[-1]["data"]) == {"status", "progress"}
            assert set(told[-1]["data"]["progress"]) == {"stages", "current", "value"}
            told.append(await feed.record())
        assert told[-1]["event"] == "status_change"
        assert set(told[-1]["data"]) == {"status", "info"}
        assert told[-1]["data"]["status"] == "loaded"
        assert told[-1]["data"]["info"]["id"] == "m"
        assert [each["data"]["progress"]["value"] for each in (told[0], told[-2])] == [0.0, 1.0]
        await home.client.post("/models/unload", json={"model": "m"})
        assert await feed.record() == {
            "model": "m", "event": "status_change", "data": {"status": "unloaded", "exit_code": 0},
        }  # fmt: skip
        await home.client.get("/models?reload=0")
        assert await feed.record() == {"model": "*", "event": "models_reload"}


async def test_an_end_that_nobody_asked_for_is_told_with_its_signal_and_in_the_list(tmp_path: Path) -> None:
    file = add_model(tmp_path / "models", "m")
    engine = engine_with(tmp_path, "--fake-signal-loading", "SEGV")
    async with house(tmp_path, preset=f"[m]\nmodel = {file}\nlr-engine = {engine}\n") as home, reading(home) as feed:
        await home.client.post("/models/load", json={"model": "m", "wait": True})
        while (last := await feed.record())["data"]["status"] != "unloaded":
            assert last["model"] == "m"
        assert last["data"] | {"exit_code": 139, "signal": "SIGSEGV", "reason": "signal"} == last["data"]
        assert "SIGSEGV" in last["data"]["message"]
        (entry,) = (await home.client.get("/models")).json()["data"]
        assert (entry["status"]["failed"], entry["status"]["exit_code"]) == (True, 139)
        assert entry["lr"]["failure"]["signal"] == "SIGSEGV"
        async with reading(home, "?snapshot=1") as other:
            assert await other.record() == last


async def test_an_unload_while_it_loads_is_no_failure(tmp_path: Path) -> None:
    file = add_model(tmp_path / "models", "m")
    engine = engine_with(tmp_path, "--fake-stall-loading", "1")
    async with house(tmp_path, preset=f"[m]\nmodel = {file}\nlr-engine = {engine}\n") as home, reading(home) as feed:
        assert (await home.client.post("/models/load", json={"model": "m"})).json() == {"success": True}
        assert (await home.client.post("/models/unload", json={"model": "m"})).json() == {"success": True}
        while (last := await feed.record())["data"]["status"] != "unloaded":
            assert last["model"] == "m"
        assert last["data"] == {"status": "unloaded", "exit_code": 0}
        (entry,) = (await home.client.get("/models")).json()["data"]
        assert set(entry["status"]) == {"value", "args", "preset"}
        assert entry["lr"]["failure"] is None


async def test_a_snapshot_tells_the_state_of_every_model(tmp_path: Path) -> None:
    for name in ("a", "b"):
        add_model(tmp_path / "models", name)
    async with house(tmp_path) as home:
        await home.client.post("/models/load", json={"model": "b", "wait": True})
        async with reading(home, "?snapshot=1") as feed:
            records = [await feed.record() for _ in range(3)]
            assert records[0] == {
                "model": "a", "event": "status_change", "data": {"status": "unloaded", "exit_code": 0},
            }  # fmt: skip
            assert (records[1]["model"], records[1]["data"]["status"]) == ("b", "loaded")
            assert records[1]["data"]["info"]["id"] == "b"
            assert records[2] == {"model": "*", "event": "snapshot_complete"}
            await home.client.post("/models/unload", json={"model": "b"})
            assert (await feed.record())["data"] == {"status": "unloaded", "exit_code": 0}


async def test_an_end_that_makes_room_is_told_with_its_reason_and_not_for_whom(tmp_path: Path) -> None:
    for name in ("a", "b"):
        add_model(tmp_path / "models", name)
    async with house(tmp_path, "--models-max", "1") as home, reading(home) as feed:
        for name in ("a", "b"):
            await home.client.post("/models/load", json={"model": name, "wait": True})
        while (last := await feed.record())["data"]["status"] != "unloaded":
            pass
        assert last["model"] == "a"
        assert last["data"] == {"status": "unloaded", "exit_code": 0, "stopped": "evicted"}
        assert words_of(last) == "unloaded (evicted)"
        async with reading(home, "?snapshot=1") as other:
            assert await other.record() == last


async def test_a_reader_that_comes_back_misses_nothing(tmp_path: Path) -> None:
    add_model(tmp_path / "models", "m")
    async with house(tmp_path) as home:
        async with reading(home, "?ids=1&snapshot=1") as feed:
            assert (await feed.event()).startswith("data: ")
            number, _, record = (await feed.event()).partition("\n")
            assert json.loads(record.removeprefix("data: "))["event"] == "snapshot_complete"
        await home.client.get("/models?reload=1")
        await home.client.post("/models/load", json={"model": "nobody"})
        await home.client.get("/models?reload=1")
        last = number.removeprefix("id: ")
        async with reading(home, "?ids=1&snapshot=1", last_event_id=last) as feed:
            again = [await feed.event() for _ in range(2)]
            assert all(each.startswith("id: ") and each.endswith('"event":"models_reload"}') for each in again)
        async with reading(home, last_event_id="gone-1") as feed:
            lost = json.loads((await feed.event()).removeprefix("data: "))
            assert (lost["event"], lost["data"]) == ("events_lost", {"reason": "too_long_ago"})


async def test_pings_come_when_asked_for_and_nonsense_is_refused(tmp_path: Path) -> None:
    async with house(tmp_path) as home:
        async with reading(home, "?ping=1") as feed:
            assert await feed.event() == ": ping"
        for text in ("0", "-1", "soon", "nan", "1e9"):
            refused = await home.client.get(f"/models/sse?ping={text}")
            assert (refused.status_code, refused.json()["error"]["reason"]) == (400, "bad_request"), text


async def test_a_reader_that_leaves_is_forgotten(tmp_path: Path) -> None:
    async with house(tmp_path) as home:
        async with reading(home):
            await until(lambda: home.node.feed.readers == 1)
        await until(lambda: home.node.feed.readers == 0)
