"""Whole routers: what who waits is told of his wait, and what who may not wait is told instead."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.node_kit import House, add_model, engine_with, house
from tests.relay_rig import Client, post
from tests.waiting import until

pytestmark = pytest.mark.anyio

CHAT = "/v1/chat/completions"
TIMES = {"x-lr-queue-ms", "x-lr-load-ms", "server-timing"}


@asynccontextmanager
async def faulty(tmp_path: Path, fault: str, *argv: str, keys: str = "") -> AsyncIterator[House]:
    """A router of one model `m` whose process has a fault, or none."""
    add_model(tmp_path / "models", "m")
    engine = engine_with(tmp_path, *fault.split())
    async with house(tmp_path, *argv, preset=f"[m]\nlr-engine = {engine}\n{keys}\n") as home:
        yield home


def asking(home: House, **body: Any) -> bytes:
    return post(CHAT, {"model": "m", **body})


async def ask(home: House, **body: Any) -> Client:
    client = await home.knock()
    client.send(asking(home, **body))
    return client


async def hold_the_slot(home: House) -> Client:
    """An answer that goes on until its client leaves."""
    client = await ask(home, stream=True, fake={"tokens": 10**6, "delay": 0.01})
    await client.reader.readuntil(b"m-0 ")
    return client


def waiting(home: House) -> int:
    return home.node.supervisor.scheduler.waiting("m")


async def test_a_load_is_on_the_answer_and_no_later_answer_has_it(tmp_path: Path) -> None:
    async with faulty(tmp_path, "--fake-load-seconds 0.3") as home:
        answer = await (await ask(home)).answer()
        load, queue = int(answer.headers["x-lr-load-ms"]), int(answer.headers["x-lr-queue-ms"])
        assert 250 <= load < 5000
        assert 0 <= queue < 1000
        assert answer.headers["server-timing"] == f"queue;dur={queue}, load;dur={load}"
        assert not TIMES & (await (await ask(home)).answer()).headers.keys()
        through_asgi = await home.client.post(CHAT, json={"model": "m"})
        assert not TIMES & through_asgi.headers.keys()


async def test_a_wait_for_a_slot_is_no_load(tmp_path: Path) -> None:
    async with faulty(tmp_path, "", keys="parallel = 1") as home:
        holder = await hold_the_slot(home)
        client = await ask(home)
        await until(lambda: waiting(home) == 1)
        began = asyncio.get_running_loop().time()
        await until(lambda: asyncio.get_running_loop().time() > began + 0.05)
        holder.close()
        answer = await client.answer()
        assert 50 <= int(answer.headers["x-lr-queue-ms"]) < 5000
        assert answer.headers["x-lr-load-ms"] == "0"


@asynccontextmanager
async def one_place(tmp_path: Path, max_wait: float) -> AsyncIterator[tuple[House, Client, Client]]:
    """The only place is that of `m`, which answers the first client for as long as he stays; the other wants `n`."""
    add_model(tmp_path / "models", "n")
    async with faulty(tmp_path, "", "--models-max", "1", "--max-wait", str(max_wait), keys="[n]") as home:
        holder, client = await hold_the_slot(home), await home.knock()
        client.send(post(CHAT, {"model": "n"}))
        await until(lambda: home.node.supervisor.scheduler.waiting("n") == 1)
        yield home, holder, client


async def test_a_busy_model_gives_its_place_away_when_another_has_waited_for_max_wait(tmp_path: Path) -> None:
    async with one_place(tmp_path, max_wait=0.5) as (home, holder, client):
        await until(lambda: home.node.supervisor.scheduler.is_claimed("m"), seconds=20)
        holder.close()
        answer = await client.answer()
        assert answer.status == 200
        assert int(answer.headers["x-lr-queue-ms"]) >= 500


async def test_a_model_that_becomes_idle_gives_its_place_away_whatever_max_wait_is(tmp_path: Path) -> None:
    async with one_place(tmp_path, max_wait=60.0) as (home, holder, client):
        assert not home.node.supervisor.scheduler.is_claimed("m")
        holder.close()
        answer = await client.answer()
        assert answer.status == 200
        assert int(answer.headers["x-lr-queue-ms"]) < 10_000


async def test_a_refusal_after_a_wait_says_how_long_it_was_and_one_at_once_does_not(tmp_path: Path) -> None:
    async with faulty(tmp_path, "--fake-load-seconds 0.3 --fake-signal-loading SEGV") as home:
        by_fast_lane = await ask(home)
        by_application = await home.client.post(CHAT, json={"model": "m"})
        answer = await by_fast_lane.answer()
        for status, headers in ((answer.status, answer.headers), (by_application.status_code, by_application.headers)):
            assert status == 502
            load, queue = int(headers["x-lr-load-ms"]), int(headers["x-lr-queue-ms"])
            assert 200 <= load < 5000
            assert 0 <= queue < 1000
            assert headers["server-timing"] == f"queue;dur={queue}, load;dur={load}"
        again = await (await ask(home)).answer()
        assert again.status == 503
        assert not TIMES & again.headers.keys()


async def test_a_stream_hears_of_its_load_and_then_of_its_position(tmp_path: Path) -> None:
    fault = "--fake-load-seconds 0.6 --fake-progress-steps 20"
    async with faulty(tmp_path, fault, "--wait-comment", "0.05", keys="parallel = 1") as home:
        first = await ask(home, stream=True, fake={"tokens": 10**6, "delay": 0.01})
        second = await ask(home, stream=True)
        await second.reader.readuntil(b": position 2 in the queue of model m: the model is loading, ")
        await first.reader.readuntil(b"m-0 ")
        await second.reader.readuntil(b": position 1 in the queue of model m: waiting for a free slot")
        first.close()
        assert b"data: [DONE]\n\n" in await second.reader.readuntil(b"\r\n0\r\n\r\n")


async def test_who_hangs_up_while_he_hears_comments_is_out_of_the_queue(tmp_path: Path) -> None:
    async with faulty(tmp_path, "", "--wait-comment", "0.05", keys="parallel = 1") as home:
        holder = await hold_the_slot(home)
        client = await ask(home, stream=True)
        await client.reader.readuntil(b": position 1 in the queue of model m: waiting for a free slot\n\n")
        assert waiting(home) == 1
        client.close()
        await until(lambda: waiting(home) == 0, seconds=0.1)
        holder.close()


async def test_a_load_that_fails_behind_a_comment_says_why(tmp_path: Path) -> None:
    fault = "--fake-load-seconds 0.4 --fake-signal-loading SEGV --fake-last-words something_is_wrong"
    async with faulty(tmp_path, fault, "--wait-comment", "0.05") as home:
        answer = await (await ask(home, stream=True)).answer()
        assert (answer.status, answer.whole) == (200, False)
        error = json.loads(answer.events()[-1].removeprefix(b"data: "))["error"]
        assert error["reason"] == "model_crashed"
        assert "something_is_wrong" in error["message"]
        early = await (await ask(home, stream=True)).answer()  # it cools down: there is nothing to wait for
        assert (early.status, early.json()["error"]["reason"]) == (503, "model_cooldown")


async def test_a_full_line_is_429_and_says_when_to_come_back(tmp_path: Path) -> None:
    async with faulty(tmp_path, "", "--queue-per-model", "1", "--max-wait", "3", keys="parallel = 1") as home:
        holder = await hold_the_slot(home)
        first = await ask(home)
        await until(lambda: waiting(home) == 1)
        refused = await (await ask(home)).answer()
        assert (refused.status, refused.json()["error"]["reason"]) == (429, "queue_full")
        assert refused.headers["retry-after"] == "3"  # nobody knows yet how long an answer takes
        held = asyncio.get_running_loop().time()
        holder.close()
        assert (await first.answer()).status == 200
        assert asyncio.get_running_loop().time() - held < 5


async def test_a_body_that_could_never_wait_is_too_large(tmp_path: Path) -> None:
    async with faulty(tmp_path, "", "--queue-bytes", "2M") as home:
        client = await home.knock()
        client.send(post(CHAT, {"model": "m", "prompt": "x" * (2 << 20)}))
        refused = await client.answer()
        assert (refused.status, refused.json()["error"]["reason"]) == (413, "request_too_large")
        assert "larger than 2 MiB" in refused.json()["error"]["message"]
