"""What the tests of the relay stand on: a small switchboard, the three ways to a child, and a raw client.

Ways: `fast` (the fast lane answers), `queued` (it has no lease at once, and waits for one), `slow` (it knows no route,
and gives every request to Starlette's, which takes the connection over), `asgi` (uvicorn's own protocol in front of the
same route), `tls` (the fast lane within TLS).
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import socket
import ssl
import subprocess
import sys
import tempfile
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.routing import Route
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol
from uvicorn.server import ServerState

from llamarouter.core.access import OPEN, Access
from llamarouter.core.child_protocol import Address
from llamarouter.core.door_limits import DoorLimits
from llamarouter.core.errors import BadRequest, InvalidApiKey, ModelCrashed, ModelNotFound, RouterError
from llamarouter.core.media import RemoteMedia
from llamarouter.core.quarantine import Quarantine
from llamarouter.core.routes import RELAYED
from llamarouter.core.wire import Headers
from llamarouter.relay.asgi import RelayEndpoint
from llamarouter.relay.body_budget import BUDGET, BodyBudget
from llamarouter.relay.connections import ChildConnections
from llamarouter.relay.detached import Detached, Stage
from llamarouter.relay.door_options import DoorOptions
from llamarouter.relay.exchange import Exchange
from llamarouter.relay.fast_lane import fast_lane
from llamarouter.relay.switchboard import Ask, Outcome, Wait
from llamarouter.relay.traffic import Traffic
from tests.certificates import certificate
from tests.waiting import until

WAYS = ("fast", "queued", "slow", "asgi", "tls")


class BoardLease:
    def __init__(self, board: Board) -> None:
        self.connections = board.connections
        self._board = board
        self._ended = False

    def end(self, outcome: Outcome) -> None:
        if not self._ended:
            self._ended = True
            self._board.held -= 1
            self._board.outcomes.append(outcome)

    async def failure(self) -> RouterError:
        if self._board.failure_gate is not None:
            await self._board.failure_gate.wait()
        return ModelCrashed("the model crashed: SIGSEGV")


class Board:
    """A switchboard with one child: `m` is its model, everything else is unknown."""

    def __init__(self, connections: ChildConnections) -> None:
        self.connections = connections
        self.at_once = True  # lease_now has a place
        self.key: bytes | None = None
        self.default_model: str | None = None
        self.asks: list[Ask] = []
        self.quarantine = Quarantine()
        self.remote_media = RemoteMedia.EVERYBODYS
        self.waits: list[Wait] = []
        self.told = 0  # comments
        self.held = 0
        self.waiting = 0
        self.left = 0  # waits that were cancelled
        self.gate: asyncio.Event | None = None  # a wait ends when it is set
        self.failure_gate: asyncio.Event | None = None
        self.outcomes: list[Outcome] = []
        self.refusal: RouterError | None = None  # raised when a wait has ended
        self.bug: Exception | None = None  # raised instead of a lease

    def authorize(self, authorization: bytes | None, x_api_key: bytes | None) -> Access:
        if self.key is not None and authorization != b"Bearer " + self.key and x_api_key != self.key:
            raise InvalidApiKey("Invalid API Key")
        return OPEN

    def screen(self, ask: Ask, mark: bytes) -> None:
        self.quarantine.check(ask.model, mark, 0.0)

    def lease_now(self, ask: Ask) -> BoardLease | None:
        if not self.at_once:
            return None
        return self._grant(ask)

    async def lease(self, ask: Ask, wait: Wait) -> BoardLease:
        if self.bug is not None:
            raise self.bug
        self.waits.append(wait)
        wait.words = self._words
        if self.gate is not None:
            self.waiting += 1
            try:
                await self.gate.wait()
            except asyncio.CancelledError:
                self.left += 1
                raise
            finally:
                self.waiting -= 1
        if self.refusal is not None:
            raise self.refusal
        return self._grant(ask)

    def _words(self) -> str:
        self.told += 1
        return "in the queue"

    def _grant(self, ask: Ask) -> BoardLease:
        self.asks.append(ask)
        if ask.model != "m":
            raise ModelNotFound(f"model '{ask.model}' not found")
        self.held += 1
        return BoardLease(self)


class Desk:
    """Who remembers the conversations: what it was told, in order."""

    def __init__(self) -> None:
        self.told: list[tuple[str, str]] = []
        self.last: Detached | None = None
        self._former: Detached | None = None

    def name_of(self, headers: Headers) -> str | None:
        value = dict(headers)[b"x-conversation-id"].decode()
        return f"private-{value}" if value else None

    def begin(self, detached: Detached) -> None:
        self.told.append(("begin", detached.conversation))
        self._former, self.last = self.last, detached

    async def until_free(self, conversation: str) -> None:
        former, self._former = self._former, None
        if former is not None and former.stage is not Stage.OVER:
            self.told.append(("stop", conversation))
            former.cancel(BadRequest("stopped"))

    def ended(self, detached: Detached) -> None:
        self.told.append(("ended", detached.conversation))

    def refused(self, detached: Detached) -> None:
        self.told.append(("refused", detached.conversation))


@dataclass
class Answer:
    status: int
    headers: dict[str, str]
    body: bytes
    whole: bool  # it ended as its framing says
    status_line: str = ""

    def json(self) -> Any:
        return json.loads(self.body)

    def events(self) -> list[bytes]:
        """The events of a stream; what is behind the last boundary counts as one."""
        return [event for event in self.body.split(b"\n\n") if event]


class Client:
    """A raw client on one connection."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    @classmethod
    async def connect(cls, port: int, tls: ssl.SSLContext | None = None) -> Client:
        return cls(*await asyncio.open_connection("127.0.0.1", port, limit=1 << 24, ssl=tls))

    def send(self, data: bytes) -> None:
        self.writer.write(data)

    async def answer(self, *, head_only: bool = False) -> Answer:
        async with asyncio.timeout(10):
            return await read_answer(self.reader, head_only=head_only)

    async def at_end(self) -> bytes:
        """What still comes until the connection ends."""
        async with asyncio.timeout(5):
            with contextlib.suppress(ConnectionResetError):
                rest: bytes = await self.reader.read()
                return rest
            return b""

    async def ask(self, path: str = "/v1/chat/completions", body: Any = None, **more: Any) -> Answer:
        self.send(post(path, body, **more))
        return await self.answer()

    def close(self) -> None:
        self.writer.transport.abort()


async def read_answer(reader: asyncio.StreamReader, *, head_only: bool = False) -> Answer:
    head = await reader.readuntil(b"\r\n\r\n")
    status_line, *lines = head[:-4].decode("latin-1").split("\r\n")
    status = int(status_line.split(" ")[1])
    if status < 200:
        return Answer(status, {}, b"", True)
    headers: dict[str, str] = {}
    for line in lines:
        name, _, value = line.partition(":")
        assert name.lower() not in headers, f"{name} stands twice"
        headers[name.lower()] = value.strip()
    answer = Answer(status, headers, b"", False, status_line)
    if head_only or status in (204, 304):
        answer.whole = True
        return answer
    try:
        await _read_body(reader, answer)
    except asyncio.IncompleteReadError as error:
        answer.body += error.partial
    except ConnectionResetError:
        pass
    return answer


async def _read_body(reader: asyncio.StreamReader, answer: Answer) -> None:
    parts: list[bytes] = []
    try:
        await _read_parts(reader, answer, parts)
    finally:
        answer.body = b"".join(parts)


async def _read_parts(reader: asyncio.StreamReader, answer: Answer, parts: list[bytes]) -> None:
    if "transfer-encoding" in answer.headers:
        assert answer.headers["transfer-encoding"] == "chunked"
        assert "content-length" not in answer.headers
        while size := int(await reader.readuntil(b"\r\n"), 16):
            parts.append(await reader.readexactly(size))
            assert await reader.readexactly(2) == b"\r\n"
        while await reader.readuntil(b"\r\n") != b"\r\n":  # trailers
            pass
    elif "content-length" in answer.headers:
        parts.append(await reader.readexactly(int(answer.headers["content-length"])))
    else:
        while part := await reader.read(1 << 16):
            parts.append(part)
    answer.whole = True


def post(path: str = "/v1/chat/completions", body: Any = None, *, version: str = "1.1", **headers: str) -> bytes:
    """A request; a body that is no bytes is made JSON, with the model `m` unless it says another."""
    if not isinstance(body, bytes):
        body = json.dumps({"model": "m"} | (body or {})).encode()
    fields = {"host": "h", "content-type": "application/json", "content-length": str(len(body))}
    fields.update({name.replace("_", "-"): value for name, value in headers.items()})
    lines = [f"POST {path} HTTP/{version}", *(f"{name}: {value}" for name, value in fields.items() if value)]
    return b"%b\r\n\r\n%b" % ("\r\n".join(lines).encode(), body)


@dataclass
class Rig:
    way: str
    port: int
    board: Board
    traffic: Traffic
    desk: Desk
    protocols: list[Any]
    clients: list[Client] = field(default_factory=list)

    def running(self) -> list[Exchange]:
        """What is relayed now."""
        return self.traffic.running()

    async def client(self) -> Client:
        client = await Client.connect(self.port, certificate().client() if self.way == "tls" else None)
        self.clients.append(client)
        return client


async def _other(request: Request) -> PlainTextResponse:
    return PlainTextResponse(f"other {request.url.path}")


@contextlib.asynccontextmanager
async def relay(
    way: str,
    address: Address,
    *,
    max_body: int = 100 << 20,
    bodies: int = BUDGET,
    extra: Callable[[Headers], bytes] | None = None,
    limits: DoorLimits = DoorLimits(),  # noqa: B008 (frozen)
    wait_comment: float = 0.0,
) -> AsyncIterator[Rig]:
    """The relay in front of the child at `address`, for a test's duration."""
    loop = asyncio.get_running_loop()
    board = Board(ChildConnections(address, clock=loop.time))
    board.at_once = way in ("fast", "tls")
    traffic = Traffic(BodyBudget(bodies))
    desk = Desk()
    routes = [
        Route(
            row.path,
            RelayEndpoint(board, row, traffic, desk, max_body=max_body, wait_comment=wait_comment),
            methods=[row.method],
        )
        for row in RELAYED
    ]
    app = Starlette(routes=[*routes, Route("/other", _other)])
    door = (
        HttpToolsProtocol
        if way == "asgi"
        else fast_lane(board, DoorOptions(traffic, extra, wait_comment=wait_comment, limits=limits))
    )
    if way == "slow":
        door.routes = {}  # type: ignore[attr-defined]
    config = uvicorn.Config(app, http=door, log_config=None, lifespan="off", ws="none")
    config.timeout_keep_alive = limits.keepalive_timeout  # type: ignore[assignment]  # uvicorn takes fractions as well
    config.load()
    state = ServerState()
    protocols: list[Any] = []

    def accept() -> asyncio.Protocol:
        protocol = door(config, state, {}, _loop=loop)  # type: ignore[call-arg]
        protocols.append(protocol)
        return protocol

    server = await loop.create_server(accept, "127.0.0.1", 0, ssl=certificate().server() if way == "tls" else None)
    rig = Rig(way, server.sockets[0].getsockname()[1], board, traffic, desk, protocols)
    try:
        yield rig
    finally:
        server.close()
        for client in rig.clients:
            client.close()
        board.connections.close()
        await until(lambda: not state.tasks and not state.connections)


# --- children -------------------------------------------------------------------------------------------------------


@contextlib.contextmanager
def fake_child(*flags: str) -> Iterator[str]:
    """A fake llama-server of its own process; gives the path of its socket."""
    script = Path(__file__).with_name("fake_llama_server.py")
    with tempfile.TemporaryDirectory(prefix="relay-") as folder:
        path = os.path.join(folder, "c.sock")
        command = [sys.executable, "-S", "-E", str(script), "--host", path, *flags]
        process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        try:
            wait_for_child(path, process)
            yield path
        finally:
            process.kill()
            process.wait()


def wait_for_child(path: str, process: subprocess.Popen[bytes]) -> None:
    for _ in range(1000):
        assert process.poll() is None, "the fake llama-server ended at once"
        with socket.socket(socket.AF_UNIX) as probe, contextlib.suppress(OSError):
            probe.connect(path)
            probe.sendall(b"GET /health HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n")
            if b" 200 " in probe.recv(4096):
                return
        threading.Event().wait(0.01)
    raise AssertionError("the fake llama-server does not answer")


class Scripted:
    """A child of a few lines in the test itself: `handle(connection)` runs for every connection that is made."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, number: int) -> None:
        self.reader = reader
        self.writer = writer
        self.number = number
        self.gone = asyncio.Event()

    async def request(self) -> bytes:
        """The next request, head and body."""
        head = await self.reader.readuntil(b"\r\n\r\n")
        length = 0
        for line in head.lower().split(b"\r\n"):
            if line.startswith(b"content-length:"):
                length = int(line[15:])
        return head + await self.reader.readexactly(length)

    async def say(self, data: bytes) -> None:
        self.writer.write(data)
        await self.writer.drain()

    async def until_gone(self) -> None:
        """Return when the router has closed this connection."""
        with contextlib.suppress(ConnectionError):
            while await self.reader.read(1 << 16):
                pass
        self.gone.set()


@contextlib.asynccontextmanager
async def scripted_child(handle: Callable[[Scripted], Awaitable[None]]) -> AsyncIterator[tuple[str, list[Scripted]]]:
    made: list[Scripted] = []

    async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        connection = Scripted(reader, writer, len(made))
        made.append(connection)
        # uvloop raises RuntimeError for a write to a transport that is closed already.
        with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError, RuntimeError):
            await handle(connection)
        writer.close()

    with tempfile.TemporaryDirectory(prefix="relay-") as folder:
        path = os.path.join(folder, "s.sock")
        server = await asyncio.start_unix_server(connected, path)
        try:
            yield path, made
        finally:
            server.close()
            for connection in made:
                connection.writer.transport.abort()


def chunk(data: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(data), data)


STREAM_HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"


def whole(body: bytes, *lines: bytes) -> bytes:
    """An ordinary answer."""
    head = b"".join(b"%b\r\n" % line for line in (b"HTTP/1.1 200 OK", b"Content-Length: %d" % len(body), *lines))
    return head + b"\r\n" + body
