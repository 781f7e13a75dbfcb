"""A client that leaves, from the queue or from the middle of an answer, gives up its place within 100 ms."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import struct
import tempfile
from collections.abc import Callable, Iterator

import pytest

from tests.relay_rig import STREAM_HEAD, WAYS, Client, Rig, Scripted, chunk, post, relay, scripted_child, whole
from tests.waiting import until

pytestmark = [pytest.mark.anyio, pytest.mark.parametrize("way", WAYS)]


def shut(client: Client) -> None:
    """The end of what it sends; in TLS, without the word that would announce it."""
    raw = socket.socket(fileno=os.dup(client.writer.get_extra_info("socket").fileno()))
    with raw:
        raw.shutdown(socket.SHUT_WR)


def say_farewell(client: Client) -> None:
    """A close in good order: in TLS, the word that announces it comes before the end."""
    client.writer.close()


def reset(client: Client) -> None:
    raw = client.writer.get_extra_info("socket")
    raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    client.writer.transport.abort()


LEAVING = [Client.close, shut, reset, say_farewell]


async def silent(child: Scripted) -> None:
    await child.request()
    await child.until_gone()


async def talking(child: Scripted) -> None:
    await child.request()
    await child.say(STREAM_HEAD + chunk(b"data: 1\n\n"))
    await child.until_gone()


async def gone_in_time(rig: Rig, condition: Callable[[], object]) -> None:
    """`condition` within 100 ms, and all at rest. Counted in turns of the loop: a starved machine is not late."""
    for _ in range(20):
        if condition():
            break
        await asyncio.sleep(0.005)  # noqa: TID251 (the bound itself)
    assert condition()
    await until(lambda: rig.traffic.count == 0)
    assert rig.board.held == rig.board.connections.in_flight == 0


@pytest.mark.parametrize("leave", LEAVING)
@pytest.mark.parametrize("behaviour", [silent, talking])
async def test_the_childs_connection_is_closed(way: str, leave: Callable[[Client], None], behaviour: object) -> None:
    async with scripted_child(behaviour) as (path, made), relay(way, path) as rig:  # type: ignore[arg-type]
        client = await rig.client()
        client.send(post(body={"stream": True}))
        if behaviour is talking:
            await client.reader.readuntil(b"data: 1\n\n")
        else:
            await until(lambda: rig.traffic.count == 1 and made)
        leave(client)
        await gone_in_time(rig, lambda: made[0].gone.is_set())
        assert [(outcome.client_left, outcome.complete) for outcome in rig.board.outcomes] == [(True, False)]


@pytest.mark.parametrize("leave", LEAVING)
async def test_the_place_in_the_queue_is_given_up(way: str, leave: Callable[[Client], None]) -> None:
    async with scripted_child(silent) as (path, made), relay(way, path) as rig:
        rig.board.at_once = False
        rig.board.gate = asyncio.Event()
        client = await rig.client()
        client.send(post())
        await until(lambda: rig.board.waiting == 1)
        leave(client)
        await gone_in_time(rig, lambda: rig.board.left == 1)
        assert not made


async def test_a_client_that_does_not_read_is_missed_too(way: str) -> None:
    """Its answer lies unsent, so closing would wait for it: the place must be given up all the same."""

    async def flooding(child: Scripted) -> None:
        await child.request()
        await child.say(STREAM_HEAD)
        while True:
            await child.say(chunk(b"data: " + b"x" * 60_000 + b"\n\n"))

    async with scripted_child(flooding) as (path, made), relay(way, path) as rig:
        client = await rig.client()
        client.writer.transport.pause_reading()  # type: ignore[attr-defined]
        client.send(post(body={"stream": True}))
        await until(lambda: made and made[0].writer.transport.get_write_buffer_size() > 0)
        if way == "asgi":  # uvicorn's own protocol waits for the last byte after a FIN
            reset(client)
        else:
            shut(client)
        await gone_in_time(rig, lambda: rig.board.outcomes)


async def test_a_child_is_paused_while_the_client_does_not_read(way: str) -> None:
    total = 0

    async def flooding(child: Scripted) -> None:
        nonlocal total
        await child.request()
        await child.say(STREAM_HEAD)
        for _ in range(400):
            await child.say(chunk(b"data: " + b"x" * 99_992 + b"\n\n"))
            total += 100_000
        await child.say(b"0\r\n\r\n")

    async with scripted_child(flooding) as (path, made), relay(way, path) as rig:
        client = await rig.client()
        # The client's kernel and ours hold some megabytes; the bound is on what the router itself keeps.
        client.writer.transport.pause_reading()  # type: ignore[attr-defined]
        client.send(post(body={"stream": True}))
        await until(lambda: made and made[0].writer.transport.get_write_buffer_size() > 0)
        before = -1
        while before != total:
            before = total
            await until_quiet()
        assert total < 40_000_000
        unsent = [protocol.transport.get_write_buffer_size() for protocol in rig.protocols]
        assert max(unsent) < 1 << 20
        client.writer.transport.resume_reading()  # type: ignore[attr-defined]
        answer = await client.answer()
        assert answer.whole
        assert len(answer.body) == 400 * 100_000


async def until_quiet() -> None:
    """Let everything that can happen in this process happen."""
    for _ in range(200):
        await asyncio.sleep(0)  # noqa: TID251


@contextlib.contextmanager
def full_backlog() -> Iterator[tuple[str, socket.socket]]:
    """A listening socket on which another connection must wait; its address and itself."""
    with tempfile.TemporaryDirectory(prefix="relay-") as folder, contextlib.ExitStack() as sockets:
        address = f"{folder}/b.sock"
        listener = sockets.enter_context(socket.socket(socket.AF_UNIX))
        listener.bind(address)
        listener.listen(0)
        with contextlib.suppress(BlockingIOError):
            while True:
                filler = sockets.enter_context(socket.socket(socket.AF_UNIX))
                filler.setblocking(False)
                filler.connect(address)
        yield address, listener


async def test_leaving_while_a_connection_to_the_child_is_made(way: str) -> None:
    with full_backlog() as (address, _):
        async with relay(way, address) as rig:
            client = await rig.client()
            client.send(post())
            await until(lambda: rig.traffic.count == 1)
            client.close()
            await gone_in_time(rig, lambda: rig.board.outcomes)
            await until(lambda: rig.board.connections.connecting == 0)


async def test_a_full_backlog_is_waited_for(way: str) -> None:
    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if await reader.read(10):
            writer.write(whole(b"late"))
            await writer.drain()
        writer.close()

    with full_backlog() as (address, listener):
        async with relay(way, address) as rig:
            client = await rig.client()
            client.send(post())
            await until(lambda: rig.traffic.count == 1)
            await until_quiet()
            server = await asyncio.start_unix_server(answer, sock=listener)
            assert (await client.answer()).body == b"late"
            server.close()
