"""Five hundred mixed requests, straight to the child and through the router: the same bytes arrive at both ends.

Paths, sizes, framings in both directions, methods, statuses, odd headers, forms, large bodies, kept and closed
connections, drawn from a seed; by every way.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import pairwise
from random import Random
from typing import Any

import pytest

from llamarouter.core.routes import RELAYED
from tests.relay_rig import WAYS, Answer, Client, fake_child, read_answer, relay

pytestmark = [pytest.mark.anyio, pytest.mark.parametrize("way", WAYS)]

MANY = 500
PATHS = [route.path for route in RELAYED if route.method == "POST" and "{" not in route.path]
LOOKS = [route.path for route in RELAYED if route.method == "GET"]
FRAMINGS = ("length", "chunked", "bytes", "dribble", "conn-close", "interim", "trailers", "one-write")
TEXTS = ("", "plain ", "\u00fc\n", "\U0001f600", '"\\\\\r\n', "data: x\n\n")
ODD_HEADERS = (
    b"X-Empty:\r\n",
    b"x-PADDED:  a  b \r\n",
    b"X-Latin: \xfc\xe9\r\n",
    b"X-Twice: 1\r\nX-Twice: 2\r\n",
    b"X-Long: " + b"v" * 4000 + b"\r\n",
    b"User-Agent: odd/1.0 (x; y)\r\nAccept: */*\r\n",
    b"Cookie: secret=1\r\nOrigin: http://x\r\nX-Forwarded-For: 1.2.3.4\r\nX_Under: 1\r\nAccept-Encoding: gzip\r\n",
)
# What the wire and the door say themselves.
_FRAMING = {
    "connection",
    "keep-alive",
    "transfer-encoding",
    "server",
    "date",
    "access-control-allow-origin",
    "x-request-id",
}
# What stays at the door, or is said anew behind it.
_NOT_FOR_THE_CHILD = _FRAMING | {"host", "content-length", "cookie", "origin", "accept-encoding", "expect"}


@dataclass(frozen=True, slots=True)
class Case:
    """One request. `pieces`: where it is cut into writes."""

    data: bytes
    pieces: tuple[int, ...]
    head_only: bool
    echo: bool
    closes: bool


def mix(random: Random) -> Iterator[Case]:
    """The requests, in their order; now and then the same head comes again, with a body of another length."""
    number = 0
    while number < MANY:
        case = _drawn(random, number)
        yield case
        number += 1
        head, end, body = case.data.partition(b"\r\n\r\n")
        before, length, _ = head.rpartition(b"Content-Length: ")
        if length and b"json" in head and not case.closes and number < MANY and random.random() < 0.4:
            body += b" " * random.choice((0, 1, 90, 2000))
            yield replace(case, data=before + length + b"%d" % len(body) + end + body, pieces=())
            number += 1


def _drawn(random: Random, number: int) -> Case:
    lines = [line for line in ODD_HEADERS if random.random() < 0.15]
    kind, body = _body(random, number)
    # Byte by byte goes only what is short: an echo is as long as its request.
    framings = FRAMINGS if len(body) < 500 else [each for each in FRAMINGS if each not in ("bytes", "dribble")]
    wish: dict[str, Any] = {"framing": random.choice(framings), "tokens": random.randrange(6)}
    wish["text"] = random.choice(TEXTS) * random.randrange(20)
    if random.random() < 0.2:
        wish["status"] = random.choice((201, 400, 404, 422, 429, 500, 503))
    if random.random() < 0.2:
        wish["headers"] = {"X-Of-The-Child": "\u00fc  A b", "Retry-After": "1"}
    echo = random.random() < 0.3
    if echo:
        wish["echo"] = True
    closes = random.random() < 0.1
    if closes:
        lines.append(b"Connection: close\r\n")
    lines.append(b"X-Fake: %b\r\n" % json.dumps(wish).encode())
    if number % 10 == 0:
        method = random.choice((b"GET", b"HEAD"))
        target = f"{random.choice(LOOKS)}?model=m&x=%C3%BC".encode()
        head = b"%b %b HTTP/1.1\r\nHost: h\r\n" % (method, target)
        return Case(head + b"".join(lines) + b"\r\n", (), method == b"HEAD", echo, closes)
    target = random.choice(PATHS).encode() + random.choice((b"", b"", b"?x=1", b"?autoload=true&y=%20"))
    head = b"POST %b HTTP/1.1\r\nHost: h\r\nContent-Type: %b\r\n" % (target, kind)
    sized = b"Content-Length: %d\r\n\r\n%b" % (len(body), body)
    if random.random() < 0.2:
        sized = b"Transfer-Encoding: chunked\r\n\r\n" + _chunks(random, body)
    data = head + b"".join(lines) + sized
    pieces = tuple(sorted(random.sample(range(1, len(data)), 3))) if random.random() < 0.3 else ()
    return Case(data, pieces, False, echo, closes)


def _body(random: Random, number: int) -> tuple[bytes, bytes]:
    if number % 10 == 1:
        field = b'Content-Disposition: form-data; name="model"\r\n\r\nm'
        file = b'Content-Disposition: form-data; name="file"; filename="a.wav"\r\n\r\n' + random.randbytes(5000)
        parts = b"".join(b"--xyz\r\n%b\r\n" % part for part in random.sample([field, file], 2))
        return b'multipart/form-data; boundary="xyz"', parts + b"--xyz--\r\n"
    size = 3_000_000 if number == 222 else random.choice((0, 0, 10, 1000, 70_000, 1_100_000 if number % 50 == 3 else 7))
    body = {"model": "m", "stream": random.random() < 0.5, "content": random.choice(TEXTS), "filler": "x" * size}
    text = json.dumps(body, ensure_ascii=random.random() < 0.5, indent=random.choice((None, 1)))
    return b"application/json", text.encode()


def _chunks(random: Random, body: bytes) -> bytes:
    cuts = [0, *sorted(random.choices(range(len(body) + 1), k=3)), len(body)]
    parts = [body[start:end] for start, end in pairwise(cuts) if end > start]
    return b"".join(b"%x\r\n%b\r\n" % (len(part), part) for part in parts) + b"0\r\n\r\n"


async def asked(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, case: Case) -> Answer:
    """The answer on this connection; what is only interim is left out."""
    for start, end in zip((0, *case.pieces), (*case.pieces, len(case.data)), strict=True):
        writer.write(case.data[start:end])
        await writer.drain()
    while (answer := await read_answer(reader, head_only=case.head_only)).status < 200:
        pass
    return answer


async def straight(path: str, case: Case) -> Answer:
    reader, writer = await asyncio.open_unix_connection(path, limit=1 << 24)
    answer = await asked(reader, writer, case)
    writer.close()
    return answer


def told(answer: Answer, *, echo: bool) -> tuple[int, dict[str, str], Any]:
    """What must be equal: status, end-to-end headers, body; of an echo what the child was sent."""
    headers = {name: value for name, value in answer.headers.items() if name not in _FRAMING}
    if not echo or not answer.body:
        return answer.status, headers, answer.body
    headers.pop("content-length", None)
    sent = json.loads(answer.body)
    passed = [(name, value) for name, value in sent["headers"] if _is_for_the_child(name)]
    return answer.status, headers, (sent["first"], passed, sent["body"], sent["query"])


def _is_for_the_child(name: str) -> bool:
    return name not in _NOT_FOR_THE_CHILD and "_" not in name and not name.startswith("x-forwarded-")


@pytest.fixture(scope="module")
def child() -> Iterator[str]:
    with fake_child() as path:
        yield path


async def test_five_hundred_mixed_requests_are_the_same_straight_and_through(way: str, child: str) -> None:
    random = Random(500)
    async with relay(way, child) as rig:
        client: Client | None = None
        for number, case in enumerate(mix(random)):
            client = client or await rig.client()
            async with asyncio.timeout(20):
                expected, answer = await straight(child, case), await asked(client.reader, client.writer, case)
            assert answer.whole, (number, case.data[:500])
            if not (case.echo and case.head_only):  # its length is that of other headers
                assert told(answer, echo=case.echo) == told(expected, echo=case.echo), (number, case.data[:500])
            if case.closes:
                assert answer.headers["connection"] == "close"
                assert await client.at_end() == b""
                client = None
        assert rig.board.held == rig.traffic.count == rig.board.connections.in_flight == 0
        assert len(rig.board.outcomes) == MANY
        assert all(outcome.complete for outcome in rig.board.outcomes)
