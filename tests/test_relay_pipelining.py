"""What a client sends behind a request: each has its turn, nothing counts twice, and nonsense holds nobody up."""

from __future__ import annotations

import asyncio
import socket

import pytest

from tests.relay_rig import Rig, Scripted, post, relay, scripted_child, whole
from tests.waiting import until

DOORS = ("fast", "queued", "slow", "tls")
pytestmark = [pytest.mark.anyio, pytest.mark.parametrize("way", DOORS)]
NONSENSE = post(body={"model": "nobody's"})


class Gated:
    """A child that answers once it is let."""

    def __init__(self) -> None:
        self.open = asyncio.Event()

    async def __call__(self, child: Scripted) -> None:
        while True:
            await child.request()
            await self.open.wait()
            await child.say(whole(b"{}"))


async def kept(rig: Rig, size: int) -> None:
    """Return when the door has so many bytes of later requests."""
    await until(lambda: rig.protocols[0]._behind.bytes >= size)


async def test_what_had_its_turn_is_no_longer_counted_as_behind(way: str) -> None:
    gate = Gated()
    async with scripted_child(gate) as (path, _), relay(way, path) as rig:
        client = await rig.client()
        for _ in range(3):
            gate.open.clear()
            later = post(body={"prompt": "x" * 50_000})
            client.send(post() + later[:300])
            await until(lambda: rig.board.held == 1)
            client.send(later[300:40_000])
            await kept(rig, 39_000)
            gate.open.set()
            assert (await client.answer()).status == 200
            client.send(later[40_000:])
            assert (await client.answer()).status == 200
        assert rig.board.held == 0


async def test_later_requests_that_had_their_turn_are_not_counted_either(way: str) -> None:
    gate = Gated()
    async with scripted_child(gate) as (path, _), relay(way, path) as rig:
        client = await rig.client()
        later = post(body={"prompt": "x" * 40_000})
        client.send(post() + later[:300])
        await until(lambda: rig.board.held == 1)
        client.send(later[300:])
        await kept(rig, 39_000)
        gate.open.set()
        assert (await client.answer()).status == 200
        gate.open.clear()
        await until(lambda: len(rig.board.asks) == 2)
        client.send(later)
        await kept(rig, 40_000)
        gate.open.set()
        assert [(await client.answer()).status for _ in range(2)] == [200, 200]


async def test_who_waits_for_continue_behind_another_request_hears_it_in_its_turn(way: str) -> None:
    gate = Gated()
    async with scripted_child(gate) as (path, _), relay(way, path) as rig:
        client = await rig.client()
        body = b'{"model":"m"}'
        client.send(post() + post(body=body, expect="100-continue")[: -len(body)])
        await until(lambda: rig.board.held == 1)
        gate.open.set()
        assert [(await client.answer()).status for _ in range(2)] == [200, 100]
        client.send(body)
        assert (await client.answer()).status == 200


async def test_a_strangers_body_behind_a_request_is_not_collected(way: str) -> None:
    gate = Gated()
    async with scripted_child(gate) as (path, _), relay(way, path) as rig:
        rig.board.key = b"k"
        client = await rig.client()
        client.send(post(authorization="Bearer k") + post(body={"prompt": "x"})[:-5])
        await until(lambda: rig.board.held == 1)
        gate.open.set()
        assert [(await client.answer()).status for _ in range(2)] == [200, 401]
        assert await client.at_end() == b""


async def test_refusals_that_nobody_reads_fill_no_memory(way: str) -> None:
    async with scripted_child(Gated()) as (path, _), relay(way, path) as rig:
        client = await rig.client()
        await until(lambda: rig.protocols and rig.protocols[0].transport)
        (door,) = rig.protocols
        transport = client.writer.transport
        transport.pause_reading()  # type: ignore[attr-defined]
        sent, unsent = 0, 0
        while sent < 100_000 and not door.transport.is_closing():
            if transport.get_write_buffer_size() == 0:  # it takes them
                client.send(NONSENSE * 1000)
                sent += 1000
            before, quiet = -1, 0
            while transport.get_write_buffer_size() and quiet < 50:
                quiet = quiet + 1 if before == transport.get_write_buffer_size() else 0
                before = transport.get_write_buffer_size()
                await asyncio.sleep(0)  # noqa: TID251
            unsent = max(unsent, door.transport.get_write_buffer_size())
            if quiet == 50:
                break
        assert unsent < 1 << 20


async def test_who_pipelines_nonsense_is_let_go_after_a_few_answers(way: str) -> None:
    """The loop does nothing else meanwhile."""
    async with scripted_child(Gated()) as (path, _), relay(way, path) as rig:
        client = await rig.client()
        await until(lambda: rig.protocols)
        (door,) = rig.protocols
        client.send(NONSENSE * 1500)
        await client.at_end()
        assert door.server_state.total_requests < 100
        assert rig.board.held == 0


async def test_behind_an_answer_that_nobody_reads_the_next_one_is_not_read_from_its_child(way: str) -> None:
    asked = 0

    async def lavish(child: Scripted) -> None:
        nonlocal asked
        while True:
            await child.request()
            asked += 1
            await child.say(whole(b"x" * (150_000 if asked == 1 else 4_000_000)))

    async with scripted_child(lavish) as (path, made), relay(way, path) as rig:
        client = await rig.client()
        await until(lambda: rig.protocols and rig.protocols[0].transport)
        (door,) = rig.protocols
        end = door.transport.get_extra_info("socket")
        end.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
        client.writer.transport.pause_reading()  # type: ignore[attr-defined]
        client.send(post() + post())
        await until(lambda: asked == 2)
        assert door.behind
        await until(lambda: made[-1].writer.transport.get_write_buffer_size() > 2_000_000)
        for _ in range(200):
            await asyncio.sleep(0)  # noqa: TID251
        assert door.transport.get_write_buffer_size() < 1 << 20
        assert made[-1].writer.transport.get_write_buffer_size() > 2_000_000
        end.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 20)
        client.writer.transport.resume_reading()  # type: ignore[attr-defined]
        assert [len((await client.answer()).body) for _ in range(2)] == [150_000, 4_000_000]
