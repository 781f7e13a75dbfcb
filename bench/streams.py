"""What the router's memory does under what fills memories: many streams, clients that do not read, large bodies.

The children are fakes (tests/fake_llama_server.py), one process each, since no machine computes a thousand answers at
once. A figure is the growth of the router's peak over what it held before; each case has a router of its own.
"""

from __future__ import annotations

import array
import asyncio
import fcntl
import json
import resource
import shlex
import sys
import termios
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

from bench.candidates import Candidate, ours
from bench.measure import Measure
from bench.process import forget_peak, memory_of, peak_of
from tests.tiny_gguf import write_llama
from tests.waiting import until

_FAKE = Path(__file__).resolve().parents[1] / "tests" / "fake_llama_server.py"
_CHILDREN = 20
_SLOTS = 50
_MANY = _CHILDREN * _SLOTS
_STALLED = 50  # clients that do not read
_MB = 1_000_000
_STREAM = {"messages": [], "stream": True}

Case = Callable[[Candidate], Awaitable[None]]


def measure(folder: Path) -> list[Measure]:
    """Megabytes of growth, a row for each case. Once each: memory has no moods."""
    engine = _fake_engine(folder)
    models = folder / "models"
    models.mkdir()
    first = write_llama(models / "m0.gguf", n_embd=32, n_layer=1).read_bytes()
    for number in range(1, _CHILDREN):
        (models / f"m{number}.gguf").write_bytes(first)
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    rows = [Measure("memory, idle", "MB")]
    with ours(engine, models, _SLOTS) as router:
        rows[0].add("lr", memory_of(router.pid or 0))
    for name, case in _CASES.items():
        rows.append(Measure(f"memory, {name}", "MB", values={"lr": [_growth(engine, models, case)]}))
    return rows


def _growth(engine: Path, models: Path, case: Case) -> float:
    """By how many megabytes the most that the router held is above what it held before."""
    with ours(engine, models, _SLOTS, "--models-max", str(_CHILDREN)) as router:
        assert router.pid is not None
        asyncio.run(_load_all(router))
        before = memory_of(router.pid)
        forget_peak(router.pid)
        asyncio.run(case(router))
        return peak_of(router.pid) - before


async def _load_all(router: Candidate) -> None:
    async with asyncio.TaskGroup() as group:
        for number in range(_CHILDREN):
            group.create_task(_whole(router, f"m{number}", {"max_tokens": 1}))


# --- the cases --------------------------------------------------------------------------------------------------------


async def _connections(router: Candidate) -> None:
    async with AsyncExitStack() as stack:
        for _ in range(_MANY):
            reader, writer = await stack.enter_async_context(_connected(router))
            writer.write(b"GET /health HTTP/1.1\r\nhost: localhost\r\n\r\n")
            await reader.readuntil(b"}")


async def _streams(router: Candidate) -> None:
    """All of them run at the same time: each has had an event, and none is over."""
    async with AsyncExitStack() as stack:
        readers = []
        for number in range(_MANY):
            reader, writer = await stack.enter_async_context(_connected(router))
            fake = {"tokens": 1000, "delay": 5.0}
            _ask(writer, {**_STREAM, "model": f"m{number % _CHILDREN}", "fake": fake})
            readers.append(reader)
        for reader in readers:
            await reader.readuntil(b"\n\n\r\n")


async def _unread_streams(router: Candidate) -> None:
    """Long streams, of which nobody reads a byte: 100 MB each, if the router took them all in."""
    await _unread(router, {**_STREAM, "fake": {"tokens": 1000, "text": "x" * 100_000}})


async def _unread_answers(router: Candidate) -> None:
    """Large answers, of which nobody reads a byte."""
    await _unread(router, {"messages": [], "fake": {"tokens": 1, "size": 10 * _MB}})


async def _unread(router: Candidate, body: dict[str, object]) -> None:
    async with AsyncExitStack() as stack:
        writers = []
        for number in range(_STALLED):
            _, writer = await stack.enter_async_context(_connected(router))
            writer.transport.pause_reading()  # type: ignore[attr-defined]
            _ask(writer, {**body, "model": f"m{number % _CHILDREN}"})
            writers.append(writer)
        await until(lambda: all(map(_has_come, writers)), 60)  # a transport that does not read hears of nothing
        await _until_settled(router)


def _has_come(writer: asyncio.StreamWriter) -> bool:
    """Whether the beginning of an answer lies in the client's socket."""
    count = array.array("i", [0])
    fcntl.ioctl(writer.get_extra_info("socket").fileno(), termios.FIONREAD, count)
    return count[0] > 0


async def _large_answer(router: Candidate) -> None:
    await _whole(router, "m0", {"fake": {"tokens": 1, "size": 100 * _MB}}, at_least=100 * _MB)


async def _large_body(router: Candidate) -> None:
    await _whole(router, "m0", {"max_tokens": 1, "image": "x" * 20 * _MB})


async def _slow_writers(router: Candidate) -> None:
    """Bodies of which only the first megabyte comes."""
    async with AsyncExitStack() as stack:
        for _ in range(_STALLED):
            _, writer = await stack.enter_async_context(_connected(router))
            writer.write(_head(20 * _MB) + b'{"image": "' + b"x" * _MB)
            await writer.drain()
        await _until_settled(router)


_CASES: dict[str, Case] = {
    f"{_MANY:,} idle connections": _connections,
    f"{_MANY:,} streams over {_CHILDREN} children": _streams,
    f"{_STALLED} streams of 100 MB that nobody reads": _unread_streams,
    f"{_STALLED} answers of 10 MB that nobody reads": _unread_answers,
    "an answer of 100 MB": _large_answer,
    "a body of 20 MB": _large_body,
    f"{_STALLED} bodies of which 1 of 20 MB comes": _slow_writers,
}


# --- clients ----------------------------------------------------------------------------------------------------------


@asynccontextmanager
async def _connected(router: Candidate) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    reader, writer = await asyncio.open_connection("127.0.0.1", router.port)
    try:
        yield reader, writer
    finally:
        writer.transport.abort()


def _ask(writer: asyncio.StreamWriter, body: dict[str, object]) -> None:
    encoded = json.dumps(body).encode()
    writer.write(_head(len(encoded)) + encoded)


def _head(length: int) -> bytes:
    lines = ("POST /v1/chat/completions HTTP/1.1", "host: localhost", "content-type: application/json")
    return "\r\n".join([*lines, f"content-length: {length}", "", ""]).encode()


async def _whole(router: Candidate, model: str, body: dict[str, object], *, at_least: int = 0) -> None:
    """Ask, and read the answer to its end."""
    async with _connected(router) as (reader, writer):
        _ask(writer, {"messages": [], **body, "model": model})
        head = await reader.readuntil(b"\r\n\r\n")
        length = int(head.lower().partition(b"content-length:")[2].partition(b"\r\n")[0])
        if b" 200 " not in head or length < at_least:
            raise SystemExit(f"bench: unexpected: {head!r}")
        while length > 0:
            length -= len(await reader.read(1 << 20))


async def _until_settled(router: Candidate) -> None:
    """Until the router has held the same for a while: what was to come has come."""
    assert router.pid is not None
    same, before = 0, 0.0
    while same < 10:
        await asyncio.sleep(0.1)  # noqa: TID251 (nobody says when nothing more will happen)
        now = memory_of(router.pid)
        same, before = (same + 1, before) if abs(now - before) < 0.1 else (0, now)


def _fake_engine(folder: Path) -> Path:
    path = folder / "llama-server"
    path.write_text(f'#!/bin/sh\nexec {shlex.join([sys.executable, "-S", "-E", str(_FAKE)])} "$@"\n')
    path.chmod(0o755)
    return path
