"""Children that sleep when nobody asks for anything: what is shown, what wakes them, and what does not."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import msgspec
import pytest

from tests.node_kit import House, add_model, house
from tests.relay_rig import post
from tests.test_streams import begin, in_flight, look_up, raw
from tests.waiting import until

pytestmark = pytest.mark.anyio


@asynccontextmanager
async def sleepy(folder: Path, *argv: str, names: str = "m", **faults: str) -> AsyncIterator[House]:
    """A router whose children sleep soon after they were loaded."""
    for name in names:
        add_model(folder / "models", name)
    faults = {"sleep_after": "0.1"} | faults
    async with house(folder, *argv, environ={f"FAKE_{name.upper()}": value for name, value in faults.items()}) as home:
        yield home


async def value(home: House, model: str = "m") -> str:
    entries = {entry["id"]: entry for entry in (await home.client.get("/models")).json()["data"]}
    said: str = entries[model]["status"]["value"]
    return said


async def asleep(home: House, model: str = "m") -> None:
    """Load a model and wait until it sleeps."""
    await home.node.reception.load(model)
    stage: Callable[[], str] = lambda: home.node.supervisor.children[model].stage.value  # noqa: E731
    await until(lambda: stage() == "sleeping")


async def test_a_sleeping_model_is_shown_as_such_and_woken_by_a_request(tmp_path: Path) -> None:
    told: list[Any] = []

    async def listen() -> None:
        async for line in home.node.feed.read():
            told.append(msgspec.json.decode(line.partition(b"data: ")[2]))  # noqa: PERF401 (it has no end)

    async with sleepy(tmp_path) as home:
        listening = asyncio.create_task(listen())  # noqa: TID251
        await asleep(home)
        assert await value(home) == "sleeping"
        await until(lambda: told and told[-1]["data"]["status"] == "sleeping")
        told.clear()
        answer = await home.client.post("/v1/chat/completions", json={"model": "m"})
        assert answer.status_code == 200
        await until(lambda: told and told[-1]["data"]["status"] == "loaded")
        assert await value(home) == "loaded"
        words = [(record["event"], record["data"]["status"]) for record in told]
        assert words == [("status_change", "loading")] * 2 + [("status_change", "loaded")]
        assert "info" not in told[-1]["data"]
        assert home.node.supervisor.children["m"].stage.value == "loaded"
        listening.cancel()


async def test_looking_at_it_does_not_wake_it(tmp_path: Path) -> None:
    async with sleepy(tmp_path) as home:
        await asleep(home)
        for path in (
            "/health",
            "/models",
            "/v1/models",
            "/v1/models/m",
            "/props",
            "/props?model=m",
            "/metrics?model=m",
        ):
            assert (await home.client.get(path)).status_code == 200
        assert await value(home) == "sleeping"


async def test_it_wakes_slowly_and_says_how_far_it_is(tmp_path: Path) -> None:
    async with sleepy(tmp_path, wake_seconds="0.5") as home:
        await asleep(home)
        asking = asyncio.ensure_future(home.client.post("/v1/chat/completions", json={"model": "m"}))
        await until(lambda: home.node.supervisor.children["m"].stage.value == "loading")
        entry = (await home.client.get("/v1/models/m")).json()
        assert entry["status"]["value"] == "loading"
        assert (await asking).status_code == 200
        assert await value(home) == "loaded"


async def test_a_sleeping_model_holds_its_place_and_is_the_first_to_go(tmp_path: Path) -> None:
    async with sleepy(tmp_path, "--models-max", "2", names="abc") as home:
        await asleep(home, "a")
        await asleep(home, "b")
        answer = await home.client.post("/v1/chat/completions", json={"model": "c"})
        assert answer.status_code == 200
        assert set(home.node.supervisor.children) == {"b", "c"}


async def test_an_answer_is_taken_up_again_while_its_owner_sleeps(tmp_path: Path) -> None:
    async with sleepy(tmp_path, sleep_after="0.6") as home:
        whole = (await (await begin(home)).answer()).body
        await until(lambda: home.node.supervisor.children["m"].stage.value == "sleeping")
        assert [entry["conversation_id"] for entry in await look_up(home, "c")] == ["c"]
        again = await raw(home, "GET", "/v1/stream?conv_id=c")
        assert (again.status, again.body) == (200, whole)
        assert (await raw(home, "DELETE", "/v1/stream?conv_id=c")).status == 204
        assert await value(home) == "sleeping"


async def test_an_answer_whose_owner_wakes_asks_to_come_again(tmp_path: Path) -> None:
    async with sleepy(tmp_path, wake_seconds="0.5") as home:
        await asleep(home)
        client = await begin(home)
        await until(lambda: home.node.supervisor.children["m"].stage.value == "loading")
        client.close()
        early = await raw(home, "GET", "/v1/stream?conv_id=c")
        assert (early.status, early.json()["error"]["message"]) == (503, "Stream owner model is loading, retry later")
        await until(lambda: in_flight(home) == 0)
        assert (await raw(home, "GET", "/v1/stream?conv_id=c")).body.endswith(b"[DONE]\n\n")


@pytest.mark.parametrize("leaves", [False, True])
async def test_a_stop_while_it_wakes_ends_what_it_would_begin(tmp_path: Path, leaves: bool) -> None:
    """A child that wakes up knows nothing of the request that waits in it: told once, it would answer for nobody."""
    async with sleepy(tmp_path, wake_seconds="0.5") as home:
        await asleep(home)
        client = await begin(home, tokens=1_000_000, delay=0.01)
        await until(lambda: home.node.supervisor.children["m"].stage.value == "loading")
        if leaves:
            client.close()
        stopping = asyncio.ensure_future(raw(home, "DELETE", "/v1/stream?conv_id=c"))
        if leaves:
            assert (await stopping).status == 204
        else:
            answer = await client.answer()
            assert (answer.status, answer.json()["error"]["message"]) == (400, "request cancelled by a stop")
            assert (await raw(home, "GET", "/v1/stream?conv_id=c")).status == 404
            assert in_flight(home) == 1  # till the child has ended it, its place is taken
        again = await begin(home, tokens=2)  # the next of the conversation is not taken for it
        assert (await again.answer()).body.endswith(b"[DONE]\n\n")
        assert (await stopping).status == 204
        await until(lambda: in_flight(home) == 0)
        slots = (await home.client.get("/slots?model=m")).json()
        assert not any(slot["is_processing"] for slot in slots)


async def test_a_client_that_leaves_while_it_wakes_leaves_no_place_taken(tmp_path: Path) -> None:
    async with sleepy(tmp_path, wake_seconds="0.5") as home:
        await asleep(home)
        client = await home.knock()
        client.send(post(body={"model": "m", "stream": True}))
        await until(lambda: home.node.supervisor.children["m"].stage.value == "loading")
        client.close()
        await until(lambda: in_flight(home) == 0)
        await until(lambda: home.node.supervisor.children["m"].stage.value == "loaded")


async def test_one_that_sleeps_before_it_was_announced_is_shown_asleep(tmp_path: Path) -> None:
    async with sleepy(tmp_path, sleep_after="0", no_props="hang") as home:
        await asleep(home)
        assert await value(home) == "sleeping"


async def test_those_who_waited_for_it_to_wake_begin_to_wait_for_their_answer(tmp_path: Path) -> None:
    async with sleepy(tmp_path, wake_seconds="0.3") as home:
        await asleep(home)
        client = await home.knock()
        client.send(post(body={"model": "m", "fake": {"first_delay": 1.0}}))
        child = home.node.supervisor.children["m"]
        await until(lambda: child.stage.value == "loading")
        connections = child.connections
        assert connections is not None
        connections.last_heard -= 100
        await until(lambda: child.stage.value == "loaded")
        assert 0.0 <= connections.silence() < 50.0
        client.close()


async def test_only_comments_from_a_child_that_computes_nothing_are_no_life(tmp_path: Path) -> None:
    """Its connections ping on; the thread that computes is dead."""
    add_model(tmp_path / "models", "m")
    async with house(tmp_path, "--busy-stall", "0.5") as home:
        client = await begin(home, pings=0.05)
        answer = await client.answer()
        assert b"\n\n:\n\n" in answer.body
        assert not answer.whole
        assert "computes nothing" in answer.body.decode()


@pytest.mark.parametrize("way", ["door", "asgi"])
async def test_a_stream_that_wakes_a_model_is_told_how_far_that_is(tmp_path: Path, way: str) -> None:
    async with sleepy(tmp_path, "--wait-comment", "0.05", wake_seconds="0.5") as home:
        await asleep(home)
        stream = {"model": "m", "stream": True}
        if way == "door":
            client = await home.knock()
            client.send(post("/v1/chat/completions", stream))
            heard = (await client.answer()).body
        else:
            heard = (await home.client.post("/v1/chat/completions", json=stream)).content
        assert heard.startswith(b": model m wakes up")
        assert b": model m wakes up, 50%\n\n" in heard
        assert b"it was its turn" not in heard  # it was at once
        assert heard.endswith(b"data: [DONE]\n\n")


async def test_who_wakes_a_model_and_does_not_stream_hears_nothing_before_his_answer(tmp_path: Path) -> None:
    async with sleepy(tmp_path, "--wait-comment", "0.05", wake_seconds="0.3") as home:
        await asleep(home)
        client = await home.knock()
        client.send(post("/v1/chat/completions", {"model": "m"}))
        answer = await client.answer()
        assert (answer.status, answer.json()["object"]) == (200, "chat.completion")
