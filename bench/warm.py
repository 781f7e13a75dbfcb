"""The router's own work for a warm request, without the kernel: its real parts between two transports that go nowhere.

Counted in CPU time of this process, it is the steadiest figure of all: on a machine with other work, too.
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any, cast

import uvloop
from uvicorn.server import ServerState

from bench import stages
from bench.measure import Measure
from bench.stages import microseconds
from llamarouter.relay.upstream import Upstream
from llamarouter.server.doors import public_door
from tests.node_kit import add_model, house

_REQUEST = (
    b"POST /tokenize HTTP/1.1\r\nHost: 127.0.0.1:8080\r\nContent-Type: application/json\r\nContent-Length: 52\r\n\r\n"
    b'{"model": "tiny", "content": "Hello there, router."}'
)
# Each with another head than the one before it.
_OTHERS = [_REQUEST.replace(b"Host", b"X-Other: %d\r\nHost" % number) for number in range(2)]
_TOKENS = b'{"tokens":[259,324,400,500,600,700,800,900,1000,1100,1200]}'
_HEAD = b"HTTP/1.1 200 OK\r\nServer: llama.cpp\r\nKeep-Alive: timeout=5, max=100\r\nContent-Type: %b\r\n%b\r\n\r\n"
_ANSWER = _HEAD % (b"application/json", b"Content-Length: %d" % len(_TOKENS)) + _TOKENS
_STREAM = _HEAD % (b"text/event-stream", b"Transfer-Encoding: chunked")
_EVENT = b'data: {"choices":[{"delta":{"content":" word"},"index":0}],"object":"chat.completion.chunk"}\n\n'
_CHUNK = b"%x\r\n%b\r\n" % (len(_EVENT), _EVENT)


class _Nowhere:
    """A transport that takes everything."""

    def write(self, data: bytes) -> None:
        self.last = data

    def is_closing(self) -> bool:
        return False

    def close(self) -> None:
        pass

    def abort(self) -> None:
        pass

    def get_write_buffer_size(self) -> int:
        return 0

    def set_write_buffer_limits(self, high: int) -> None:
        pass

    def get_extra_info(self, _name: str) -> None:
        return None


class _FewStrangers:
    """The loop never gets its turn here, and with it none who is put aside."""

    def admits(self, _stranger: object) -> bool:
        return True


def warm(rounds: int) -> list[Measure]:
    """The CPU time of a small request, of its stages, and of one chunk of a stream."""
    with tempfile.TemporaryDirectory(prefix="bench-warm-") as folder:
        return uvloop.run(_warm(Path(folder), rounds))


async def _warm(folder: Path, rounds: int) -> list[Measure]:
    request, chunk = Measure(stages.WHOLE, "us"), Measure("own work for a chunk", "us")
    parsed = Measure("the same, its head parsed by httptools", "us")
    (folder / "models").mkdir()
    add_model(folder / "models", "tiny")
    async with house(folder) as home:
        await home.node.supervisor.load("tiny")
        connections = home.node.supervisor.children["tiny"].connections
        assert connections is not None
        upstream = Upstream(connections)
        upstream.connection_made(cast(Any, _Nowhere()))
        config = public_door(home.node)
        config.load()
        door = cast(Any, config.http_protocol_class)(config, ServerState(), {})
        door.crowd = _FewStrangers()
        client = _Nowhere()
        door.connection_made(client)

        def small() -> None:
            door.data_received(_REQUEST)
            upstream.data_received(_ANSWER)

        def unseen() -> None:
            for each in _OTHERS:
                door.data_received(each)
                upstream.data_received(_ANSWER)

        def chunks() -> float:
            stream = Upstream(connections)  # of one answer: the child closes behind it
            stream.connection_made(cast(Any, _Nowhere()))
            connections.give_back(stream, 0.0)
            door.data_received(_REQUEST)
            stream.data_received(_STREAM)
            spent = microseconds(lambda: stream.data_received(_CHUNK))
            stream.data_received(b"0\r\n\r\n")
            return spent

        connections.give_back(upstream, 0.0)
        for _ in range(rounds):
            request.add("lr", microseconds(small))
            assert client.last.endswith(_TOKENS)
            parsed.add("lr", microseconds(unseen) / len(_OTHERS))
            chunk.add("lr", chunks())
            assert client.last == b"0\r\n\r\n"
        small()
        parts = stages.measure(stages.stages_of(door, upstream, _REQUEST, _ANSWER, home.node.counting.take), rounds)
        door.connection_lost(None)
    return [request, *parts, parsed, chunk]
