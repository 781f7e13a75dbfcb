"""One answer as its client saw it, from a socket: how it began, how it ended, and what it said.

A client of its own, on asyncio's streams: it must hang up, read slowly and see a broken end exactly as they are, and no
library may try again behind its back.
"""

from __future__ import annotations

import asyncio
import socket
import time
from dataclasses import dataclass, field

from soak.pause import pause

_KEPT = 1 << 20
_SLOWLY = 512  # bytes that a slow reader takes at once
_NAP = 0.03  # seconds from one to the next


@dataclass(slots=True)
class Answer:
    """What came back. `whole`: it ended as HTTP says an answer ends."""

    status: int | None = None
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes = b""
    whole: bool = False
    left: bool = False  # the client has hung up
    hung: bool = False  # it did not end within the bound
    seconds: float = 0.0

    @property
    def is_stream(self) -> bool:
        return self.headers.get("content-type", "").startswith("text/event-stream")


@dataclass(frozen=True, slots=True)
class Way:
    """How a client goes about it. `leaves_after`: bytes of the body, 0: before there is an answer; None: it stays."""

    slowly: bool = False
    leaves_after: int | None = None
    patience: float = 0.0  # of one that leaves before there is an answer: seconds


async def ask(port: int, message: bytes, way: Way, bound: float) -> Answer:
    """Send one request on a connection of its own and take the answer as `way` says, for `bound` seconds at most."""
    answer = Answer()
    began = time.monotonic()
    try:
        async with asyncio.timeout(bound):
            await _ask(port, message, way, answer)
    except TimeoutError:
        answer.hung = not answer.left
    except (OSError, EOFError):
        pass  # it was cut: `whole` says so
    answer.seconds = time.monotonic() - began
    return answer


async def _ask(port: int, message: bytes, way: Way, answer: Answer) -> None:
    reader, writer = await _connected(port, way)
    try:
        writer.write(message)
        await writer.drain()
        if way.leaves_after == 0:
            await pause(way.patience)
            answer.left = True
            return
        await _read_head(reader, answer)
        await _read_body(reader, way, answer)
    finally:
        writer.transport.abort()


async def _connected(port: int, way: Way) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    if not way.slowly:
        return await asyncio.open_connection("127.0.0.1", port)
    client = socket.socket()
    client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    client.setblocking(False)
    try:
        await asyncio.get_running_loop().sock_connect(client, ("127.0.0.1", port))
        return await asyncio.open_connection(sock=client, limit=_SLOWLY)
    except OSError:
        client.close()
        raise


async def _read_head(reader: asyncio.StreamReader, answer: Answer) -> None:
    line = await reader.readline()
    if not line.endswith(b"\n"):
        raise EOFError
    answer.status = int(line.split()[1])
    while (line := await reader.readline()).strip():
        name, _, value = line.decode("latin-1").partition(":")
        answer.headers[name.lower()] = value.strip()
    if not line:
        raise EOFError


async def _read_body(reader: asyncio.StreamReader, way: Way, answer: Answer) -> None:
    if "chunked" in answer.headers.get("transfer-encoding", ""):
        while size := int((await _line(reader)).split(b";")[0], 16):
            await _read_bytes(reader, size, way, answer)
            if answer.left:
                return
            await _line(reader)
        await _line(reader)
    else:
        await _read_bytes(reader, int(answer.headers.get("content-length", "0")), way, answer)
    answer.whole = not answer.left


async def _line(reader: asyncio.StreamReader) -> bytes:
    line = await reader.readline()
    if not line.endswith(b"\n"):
        raise EOFError
    return line


async def _read_bytes(reader: asyncio.StreamReader, size: int, way: Way, answer: Answer) -> None:
    while size:
        piece = await reader.read(min(size, _SLOWLY if way.slowly else 1 << 16))
        if not piece:
            raise EOFError
        size -= len(piece)
        answer.body = (answer.body + piece)[-_KEPT:]
        if way.leaves_after is not None and len(answer.body) >= way.leaves_after:
            answer.left = True
            return
        if way.slowly:
            await pause(_NAP)
