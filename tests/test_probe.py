"""One small question to a child, whatever it answers."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from llamarouter.host import probe
from llamarouter.host.probe import ProbeError

pytestmark = pytest.mark.anyio


@asynccontextmanager
async def saying(answer: bytes, *, close: bool = True) -> AsyncIterator[tuple[str, int]]:
    """A server that gives this answer to whatever is asked."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(answer)
        if not close:
            await reader.read()  # until the other side closes
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server:
        yield server.sockets[0].getsockname()[:2]


@pytest.mark.parametrize(
    ("answer", "close", "body"),
    [
        (b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi", False, b"hi"),
        (b"HTTP/1.1 503 No\r\ncontent-length:  2 \r\n\r\nhithere", False, b"hi"),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n3;x=y\r\n yo\r\n0\r\n\r\n", False, b"hi yo"),
        (b"HTTP/1.0 200 OK\r\n\r\nto the end", True, b"to the end"),
    ],
)
async def test_framings(answer: bytes, close: bool, body: bytes) -> None:
    async with saying(answer, close=close) as address:
        got = await probe.get(address, "/x", seconds=2)
    assert got.body == body
    assert got.status == (503 if b"503" in answer else 200)


@pytest.mark.parametrize(
    "answer",
    [
        b"",
        b"HTTP/1.1 200 OK\r\n",
        b"SSH-2.0-x\r\n\r\n",
        b"HTTP/1.1 abc\r\n\r\n",
        b"nonsense\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhi",
        b"HTTP/1.1 200 OK\r\nContent-Length: -5\r\n\r\nhi",
        b"HTTP/1.1 200 OK\r\nContent-Length: 99999999999\r\n\r\nhi",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nffffffff\r\n",
        b"HTTP/1.1 200 OK\r\nX: " + b"y" * 100_000,
    ],
)
async def test_what_is_no_answer_is_a_probe_error(answer: bytes) -> None:
    async with saying(answer) as address:
        with pytest.raises(ProbeError, match="no answer to /x"):
            await probe.get(address, "/x", seconds=2)


async def test_nobody_there(tmp_path: Path) -> None:
    with pytest.raises(ProbeError):
        await probe.get(str(tmp_path / "no.sock"), "/x", seconds=2)
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        with pytest.raises(ProbeError):
            await probe.get(closed.getsockname(), "/x", seconds=2)


async def test_no_answer_in_time() -> None:
    async with saying(b"HTTP/1.1 200 OK\r\n", close=False) as address:
        with pytest.raises(ProbeError, match=r"within 0\.05 s"):
            await probe.get(address, "/x", seconds=0.05)


async def test_the_key_is_sent() -> None:
    seen: list[bytes] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        seen.append(await reader.readuntil(b"\r\n\r\n"))
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
        await reader.read()
        writer.close()

    async with await asyncio.start_server(serve, "127.0.0.1", 0) as server:
        await probe.get(server.sockets[0].getsockname()[:2], "/x", api_key="sesame", seconds=2)
    assert b"\r\nAuthorization: Bearer sesame\r\n" in seen[0]
    assert seen[0].startswith(b"GET /x HTTP/1.1\r\n")
