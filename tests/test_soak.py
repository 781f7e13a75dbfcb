"""The rules of the soak: what counts as lost, who counts as touched, what must have come back."""

from __future__ import annotations

import asyncio
import json
import random
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import replace

import pytest

from soak.answer import Answer, Way, ask
from soak.book import Book
from soak.census import Census, compared
from soak.clients import Clients
from soak.requests import Requests
from soak.table import End
from soak.touched import Touched
from soak.verdict import Fate, judge

WELL = frozenset({200})
STREAM = {"content-type": "text/event-stream"}
ERROR = b'data: {"error":{"code":502}}\n\n'
DONE = b"data: {}\n\ndata: [DONE]\n\n"


def refusal(status: int, reason: str | None, **headers: str) -> Answer:
    body = json.dumps({"error": {"reason": reason}} if reason else {"oh": "no"}).encode()
    return Answer(status, headers, body, whole=True)


@pytest.mark.parametrize(
    ("answer", "untouched", "touched"),
    [
        (Answer(200, {}, b"{}", whole=True), Fate.WHOLE, Fate.WHOLE),
        (Answer(200, STREAM, DONE, whole=True), Fate.WHOLE, Fate.WHOLE),
        (Answer(200, {}, b"{", whole=False), Fate.LOST, Fate.BROKEN),
        (Answer(200, STREAM, ERROR, whole=False), Fate.LOST, Fate.BROKEN),
        # A client cannot tell these from a success, or not what has happened.
        (Answer(200, STREAM, b"data: {}\n\n", whole=True), Fate.LOST, Fate.LOST),
        (Answer(200, STREAM, ERROR, whole=True), Fate.LOST, Fate.LOST),
        (Answer(200, STREAM, b"data: {}\n\n", whole=False), Fate.LOST, Fate.LOST),
        (Answer(204, {}, b"", whole=True), Fate.LOST, Fate.LOST),
        (Answer(None), Fate.LOST, Fate.LOST),
        (Answer(200, STREAM, b"data", hung=True), Fate.LOST, Fate.LOST),
        (Answer(200, STREAM, b"data", left=True), Fate.LEFT, Fate.LEFT),
        (refusal(502, "model_crashed"), Fate.LOST, Fate.EXCUSED),
        (refusal(503, "model_cooldown", **{"retry-after": "2"}), Fate.LOST, Fate.EXCUSED),
        (refusal(503, "model_cooldown"), Fate.LOST, Fate.LOST),
        (refusal(502, None), Fate.LOST, Fate.LOST),
        (refusal(500, "internal_error"), Fate.LOST, Fate.LOST),
        (replace(refusal(502, "model_crashed"), whole=False), Fate.LOST, Fate.LOST),
    ],
)
def test_what_is_lost(answer: Answer, untouched: Fate, touched: Fate) -> None:
    assert judge(answer, WELL, touched=False).fate is untouched
    assert judge(answer, WELL, touched=True).fate is touched


def test_a_refusal_that_had_to_be_is_none_where_it_comes_not() -> None:
    expected = frozenset({401})
    assert judge(refusal(401, "invalid_api_key"), expected, touched=False).fate is Fate.REFUSED
    assert judge(Answer(200, {}, b"{}", whole=True), expected, touched=False).fate is Fate.LOST
    limited = refusal(429, "rate_limited", **{"retry-after": "1"})
    assert judge(limited, frozenset({200, 429}), touched=False).fate is Fate.REFUSED


def test_a_model_is_touched_until_an_answer_that_began_afterwards_is_whole() -> None:
    touched, now = Touched(), 10.0
    assert not touched.between("a", 0.0, now)
    with touched.deed(("a",), lasting=True, clock=lambda: now):
        assert touched.between("a", 9.0, 9.5)
        touched.well("a", 9.6, 9.7)
    now = 12.0
    assert touched.between("a", 11.0, now)
    touched.well("a", 9.9, now)  # it began before the end of the deed
    assert touched.between("a", 11.5, now)
    touched.well("a", 11.0, 13.0)
    assert touched.between("a", 12.5, 14.0)
    assert not touched.between("a", 13.5, 14.0)
    assert not touched.between("b", 0.0, 14.0)


def test_what_is_not_seen_well_for_long_has_no_excuse_any_more() -> None:
    touched = Touched()
    with touched.deed(("a",), lasting=True, clock=lambda: 10.0):
        pass
    assert touched.between("a", 150.0, 151.0)
    assert not touched.between("a", 161.0, 170.0)


def test_a_key_is_touched_while_the_deed_is_done() -> None:
    touched = Touched()
    with touched.deed(("k",), lasting=False, clock=lambda: 10.0):
        assert touched.between("k", 5.0, 9.0)
    assert touched.between("k", 9.9, 12.0)
    assert not touched.between("k", 10.1, 12.0)


REST = Census(Counter(socket=3, file=1), 4, 5, 50_000_000, 0, 1, 2)


def test_everything_must_come_back_and_memory_nearly() -> None:
    assert all(row.is_well for row in compared(REST, replace(REST, memory=60_000_000)))
    for more in (
        replace(REST, descriptors=Counter(socket=4, file=1)),
        replace(REST, threads=5),
        replace(REST, tasks=6),
        replace(REST, memory=70_000_000),
        replace(REST, children=1),
        replace(REST, sockets=2),
        replace(REST, files=3),
    ):
        assert [row.is_well for row in compared(REST, more)].count(False) == 1


def test_one_complaint_is_enough() -> None:
    lost, misdone = Book(), Book()
    lost.note("plain", Fate.LOST, 1.0, "cut")
    misdone.misdo("lr reload", "exit code 1")
    well = End(Book(), Book(), compared(REST, REST), 0, [], [])
    assert well.is_well
    for end in (
        replace(well, book=lost),
        replace(well, warm=lost),
        replace(well, book=misdone),
        replace(well, rows=compared(REST, replace(REST, tasks=6))),
        replace(well, code=None),
        replace(well, code=1),
        replace(well, left=["process 5"]),
        replace(well, tracebacks=["Traceback"]),
    ):
        assert len(end.complaints) == 1
        assert not end.is_well


Handler = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


@asynccontextmanager
async def listening(handler: Handler) -> AsyncIterator[int]:
    server = await asyncio.start_server(handler, "127.0.0.1", 0)
    async with server:
        yield server.sockets[0].getsockname()[1]


async def asked(sent: bytes, way: Way | None = None, bound: float = 5.0, stays: bool = False) -> Answer:
    """The answer that a client makes of these bytes, behind which the connection ends, or `stays`."""
    over = asyncio.Event()

    async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(sent)
        if stays:
            await over.wait()
        writer.close()

    async with listening(handler) as port:
        answer = await ask(port, b"GET / HTTP/1.1\r\n\r\n", way or Way(), bound)
        over.set()
    return answer


CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n"


@pytest.mark.parametrize(
    ("sent", "body", "whole"),
    [
        (b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nabc", b"abc", True),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nabc", b"abc", False),
        (CHUNKED + b"0\r\n\r\n", b"abc", True),
        (CHUNKED + b"0\r\n", b"abc", False),
        (CHUNKED, b"abc", False),
        (b"HTTP/1.1 200 OK\r\nContent-Le", b"", False),
    ],
)
def test_a_cut_is_seen(sent: bytes, body: bytes, whole: bool) -> None:
    answer = asyncio.run(asked(sent))
    assert (answer.status, answer.body, answer.whole, answer.hung) == (200, body, whole, False)


def test_no_answer_at_all_is_seen() -> None:
    answer = asyncio.run(asked(b""))
    assert (answer.status, answer.whole) == (None, False)


def test_what_does_not_end_is_given_up() -> None:
    answer = asyncio.run(asked(CHUNKED, bound=0.1, stays=True))
    assert (answer.body, answer.hung) == (b"abc", True)


def test_a_client_that_leaves_does_not_wait_for_more() -> None:
    answer = asyncio.run(asked(CHUNKED, Way(leaves_after=2), stays=True))
    assert (answer.left, answer.whole, answer.hung) == (True, False, False)
    answer = asyncio.run(asked(CHUNKED, Way(leaves_after=0), stays=True))
    assert (answer.left, answer.status) == (True, None)


def test_a_slow_one_reads_all_of_it() -> None:
    body = b"x" * 2000
    answer = asyncio.run(asked(b"HTTP/1.1 200 OK\r\nContent-Length: 2000\r\n\r\n" + body, Way(slowly=True)))
    assert (answer.body, answer.whole) == (body, True)


def test_clients_that_are_to_finish_before_they_begin_do_not_begin() -> None:
    chance, book = random.Random(0), Book()
    clients = Clients(1, Requests(chance, {}), Touched(), book, chance)
    clients.finish()
    asyncio.run(asyncio.wait_for(clients.run(3), 5))
    assert book.requests == 0
