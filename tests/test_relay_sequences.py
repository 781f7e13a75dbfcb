"""One exchange behind another on a kept connection: nothing of an answer is left for the next, whatever the two are."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

import pytest

from tests.relay_rig import STREAM_HEAD, Client, Rig, Scripted, chunk, post, relay, scripted_child, whole
from tests.waiting import until

pytestmark = pytest.mark.anyio

HEAD_OF_5 = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n"


@dataclass(frozen=True, slots=True)
class Kind:
    """An exchange. `says`: the reads in which its answer comes; `kept`: its connection carries the next one."""

    says: tuple[bytes, ...]
    body: bytes
    kept: bool = True
    status: int = 200
    method: bytes = b"POST"
    size: int = 1  # of the request's body, about
    leaves: bool = False  # the client goes before the answer


KINDS = {
    "plain": Kind((whole(b"plain"),), b"plain"),
    "longer": Kind((whole(b"longer than that"),), b"longer than that"),
    "two reads": Kind((whole(b"halves")[:-3], b"ves"), b"halves"),
    "half a head": Kind((HEAD_OF_5[:20], HEAD_OF_5[20:] + b"heads"), b"heads"),
    "head alone": Kind((HEAD_OF_5, b"alone"), b"alone"),
    "half a number": Kind((b"HTTP/1.1 200 OK\r\nContent-Length: 1", b"1\r\n\r\nnumbernumbe"), b"numbernumbe"),
    "empty": Kind((whole(b""),), b""),
    "interim": Kind((b"HTTP/1.1 100 Continue\r\n\r\n", whole(b"after")), b"after"),
    "interim with it": Kind((b"HTTP/1.1 103 Early\r\nx: y\r\n\r\n" + whole(b"both!"),), b"both!"),
    "chunked": Kind((b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + chunk(b"5") + b"0\r\n\r\n",), b"5"),
    "stream": Kind((STREAM_HEAD, chunk(b"data: x\n\n"), b"0\r\n\r\n"), b"data: x\n\n", kept=False),
    "sized stream": Kind((whole(b"data:", b"Content-Type: text/event-stream"),), b"data:", kept=False),
    "no content": Kind((b"HTTP/1.1 204 No Content\r\n\r\n",), b"", status=204),
    "not modified": Kind((b"HTTP/1.1 304 Not Modified\r\nContent-Length: 5\r\n\r\n",), b"", status=304),
    "error": Kind((whole(b"error").replace(b"200 OK", b"400 No"),), b"error", status=400),
    "closes": Kind((whole(b"close", b"Connection: close"),), b"close", kept=False),
    "of 1.0": Kind((whole(b"1dot0").replace(b"1.1", b"1.0"),), b"1dot0", kept=False),
    "too much": Kind((whole(b"tail!") + b"more",), b"tail!", kept=False),
    "more later": Kind((whole(b"first"), whole(b"again")), b"first", kept=False),
    "get": Kind((whole(b"props"),), b"props", method=b"GET"),
    "head": Kind((HEAD_OF_5,), b"", method=b"HEAD"),
    "head with a body": Kind((whole(b"wrong"),), b"", kept=False, method=b"HEAD"),
    "one in another": Kind((whole(whole(b"inner"))[: -len(whole(b"inner"))], whole(b"inner")), whole(b"inner")),
    "one in a header": Kind((b"HTTP/1.1 200 OK\r\nX-A: ", whole(b"lines")), b"lines"),
    "large": Kind((whole(b"large"),), b"large", size=200_000),
    "leaves": Kind((), b"", kept=False, leaves=True),
}


def request_for(name: str) -> bytes:
    kind = KINDS[name]
    if kind.method == b"POST":
        return post("/tokenize", {"content": "x" * kind.size}, x_name=name)
    return b"%b /props?model=m HTTP/1.1\r\nhost: h\r\nx-name: %b\r\n\r\n" % (kind.method, name.encode())


async def rounds(count: int = 3) -> None:
    """Let the loop, which is the router's as well, look so often at what has come."""
    loop = asyncio.get_running_loop()
    for _ in range(count):
        passed = loop.create_future()
        loop.call_soon(passed.set_result, None)
        await passed


async def child(connection: Scripted) -> None:
    """Answers by the name that a request has."""
    while True:
        request = await connection.request()
        name = request.partition(b"x-name: ")[2].partition(b"\r\n")[0].decode()
        assert request.endswith(request_for(name).partition(b"\r\n\r\n")[2])
        kind = KINDS[name]
        for part in kind.says:
            await connection.say(part)
            await rounds()
        if kind.leaves:
            await connection.until_gone()


async def ask(rig: Rig, client: Client, name: str) -> Client:
    """One exchange, on a connection of the client's; the one to go on with."""
    kind = KINDS[name]
    client.send(request_for(name))
    if kind.leaves:
        await until(lambda: rig.board.held == 1)
        await rounds()
        client.close()
        await until(lambda: not rig.board.held)
        return await rig.client()
    answer = await client.answer(head_only=kind.method == b"HEAD")
    assert (answer.status, answer.body, answer.whole) == (kind.status, kind.body, True)
    assert name != "head" or answer.headers["content-length"] == "5"
    if not kind.kept:
        await until(lambda: not rig.board.connections.open, seconds=2)  # an idle one stays for 4
    return client


@pytest.mark.parametrize("first", KINDS)
async def test_whatever_comes_behind_whatever_is_answered_as_if_it_came_alone(first: str) -> None:
    async with scripted_child(child) as (path, made), relay("fast", path) as rig:
        client = await rig.client()
        connections, kept = 0, False
        for second in KINDS:
            for name in ("plain", "longer", first, second, "plain"):
                connections += not kept
                client = await ask(rig, client, name)
                kept = KINDS[name].kept
                assert (len(made), rig.board.held, rig.traffic.count) == (connections, 0, 0), name
        assert rig.board.connections.in_flight == 0
