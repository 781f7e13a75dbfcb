"""A crowd at the door: so many are read in one go of the event loop, in order, and nothing of it stays behind."""

from __future__ import annotations

import asyncio
import contextlib
import gc
from collections.abc import Iterator
from itertools import pairwise

import pytest

from llamarouter.relay.crowd import AT_ONCE, Crowd
from llamarouter.relay.door import Door
from tests.relay_rig import Client, Scripted, post, relay, scripted_child, whole
from tests.waiting import until

pytestmark = pytest.mark.anyio


class Someone:
    """A connection that has sent something: `left` before its turn, or read then, after it has asked again."""

    def __init__(self, crowd: Crowd, number: int, read: list[int], *, left: bool = False) -> None:
        self.loop = asyncio.get_running_loop()
        self.crowd = crowd
        self.number = number
        self.read = read
        self.left = left

    def come(self) -> None:
        if self.crowd.admits(self):
            self.read.append(self.number)

    def take_turn(self) -> None:
        if not self.left:
            self.come()


async def next_go() -> None:
    """Return in the next go of the loop."""
    loop = asyncio.get_running_loop()
    gone = loop.create_future()
    loop.call_soon(gone.set_result, None)
    await gone


async def test_so_many_are_read_in_one_go_and_the_others_in_their_order() -> None:
    crowd, read = Crowd(), list[int]()
    for number in range(3 * AT_ONCE):
        Someone(crowd, number, read).come()
    goes = [len(read)]

    def note() -> None:
        goes.append(len(read))
        if len(read) < 3 * AT_ONCE:
            asyncio.get_running_loop().call_soon(note)

    note()
    await until(lambda: len(read) == 3 * AT_ONCE)
    assert max(after - before for before, after in pairwise([0, *goes])) == AT_ONCE
    assert read == list(range(3 * AT_ONCE))


async def test_a_later_go_admits_at_once_again() -> None:
    crowd, read = Crowd(), list[int]()
    for _ in range(5):
        someone = Someone(crowd, 0, read)
        for _ in range(AT_ONCE):
            someone.come()
        await next_go()
        await next_go()
    assert len(read) == 5 * AT_ONCE


async def test_those_who_have_left_keep_nobody_waiting() -> None:
    crowd, read = Crowd(), list[int]()
    for number in range(AT_ONCE):
        Someone(crowd, number, read).come()
    for number in range(2 * AT_ONCE):
        Someone(crowd, number, read, left=True).come()
    Someone(crowd, -1, read).come()
    await until(lambda: read[-1] == -1)


async def answering(child: Scripted) -> None:
    while True:
        await child.request()
        await child.say(whole(b"{}"))


async def test_what_comes_behind_something_put_aside_waits_with_it() -> None:
    one, other = post("/tokenize", {"content": "x"}), post("/detokenize", {"tokens": [1]})
    async with scripted_child(answering) as (path, _), relay("fast", path) as rig:
        client = await rig.client()
        assert (await client.ask("/tokenize", {"content": "x"})).status == 200  # its head is known from now on
        (door,) = rig.protocols
        for left in (False, True, True):
            for _ in range(AT_ONCE):
                Someone(door.crowd, 0, [], left=left).come()
        door.data_received(other[:40])
        # In the next go some may be admitted again, and it is not this one's turn yet.
        asyncio.get_running_loop().call_soon(door.data_received, other[40:])
        asyncio.get_running_loop().call_soon(door.data_received, one)
        assert [(await client.answer()).status for _ in range(2)] == [200, 200]
        assert [ask.route.path for ask in rig.board.asks] == ["/tokenize", "/detokenize", "/tokenize"]


async def test_who_leaves_before_his_turn_is_not_read() -> None:
    async with scripted_child(answering) as (path, _), relay("fast", path) as rig:
        client = await rig.client()
        (door,) = rig.protocols
        for left in (False, True, True):
            for _ in range(AT_ONCE):
                Someone(door.crowd, 0, [], left=left).come()
        last = Someone(door.crowd, 1, read := [])
        door.data_received(post("/tokenize", {"content": "x"}))
        door.transport.abort()
        last.come()
        await until(lambda: read == [1])
        assert rig.board.asks == []
        client.writer.transport.abort()


async def test_a_crowd_is_answered() -> None:
    async with scripted_child(answering) as (path, _), relay("fast", path) as rig:
        clients = [await rig.client() for _ in range(4 * AT_ONCE)]
        for client in clients:
            client.send(post("/tokenize", {"content": "x"}))
        assert {(await client.answer()).status for client in clients} == {200}


@contextlib.contextmanager
def nobody_tidies() -> Iterator[None]:
    """In the block what is a part of a cycle stays."""
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


def doors() -> int:
    return sum(isinstance(each, Door) for each in gc.get_objects())


@pytest.mark.parametrize("way", ["fast", "queued"])
async def test_a_connection_that_has_gone_leaves_nothing_to_the_garbage_collector(way: str) -> None:
    async with scripted_child(answering) as (path, _), relay(way, path) as rig:
        with nobody_tidies():
            clients: list[Client] = [await rig.client() for _ in range(10)]
            for client in clients:
                assert (await client.ask("/tokenize", {"content": "x"})).status == 200
            assert doors() == 10
            for client in clients:
                client.writer.transport.abort()
            rig.protocols.clear()
            await until(lambda: doors() == 0)


async def crowded(door: Door) -> None:
    """A crowd for some goes before whoever comes to `door`."""
    for left in (False, True, True):
        for _ in range(AT_ONCE):
            Someone(door.crowd, 0, [], left=left).come()


async def test_who_waits_for_his_turn_is_not_read_any_further() -> None:
    async with scripted_child(answering) as (path, _), relay("fast", path) as rig:
        client = await rig.client()
        await until(lambda: rig.protocols)
        (door,) = rig.protocols
        request = post("/tokenize", {"content": "x" * 100_000})
        await crowded(door)
        door.data_received(request[:1000])
        door.data_received(request[1000:2000])
        assert door.is_held()
        await until(lambda: not door.is_held())
        client.send(request[2000:])
        assert (await client.answer()).status == 200


async def test_who_waits_for_his_turn_is_not_closed_as_idle() -> None:
    async with scripted_child(answering) as (path, _), relay("fast", path) as rig:
        client = await rig.client()
        assert (await client.ask("/tokenize", {"content": "x"})).status == 200
        (door,) = rig.protocols
        await crowded(door)
        door.data_received(post("/detokenize", {"tokens": [1]}))
        door.idled()
        assert (await client.answer()).status == 200
        door.idled()
        assert await client.at_end() == b""


async def test_who_is_closed_before_his_turn_is_not_read() -> None:
    async with scripted_child(answering) as (path, _), relay("fast", path) as rig:
        client = await rig.client()
        await until(lambda: rig.protocols)
        (door,) = rig.protocols
        await crowded(door)
        for _ in range(2):
            door.data_received(post("/tokenize", {"content": "x"}))
        door.transport.close()
        last = Someone(door.crowd, 1, read := [])
        last.come()
        await until(lambda: read == [1])
        assert rig.board.asks == []
        assert await client.at_end() == b""
