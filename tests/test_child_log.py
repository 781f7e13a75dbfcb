"""The ring of a child's log: bounded, clean, and quick enough for a flood."""

from __future__ import annotations

import asyncio
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llamarouter.host.child_log import LINE_LIMIT, LogRing, clean, lines_of_process
from tests.waiting import until


def test_lines_come_out_as_they_went_in() -> None:
    ring = LogRing()
    ring.feed(b"one\ntw")
    ring.feed(b"o\n\nthr")
    assert ring.lines() == ("one", "two", "thr")
    assert (ring.total, ring.dropped) == (12, 0)


def test_a_note_stands_on_its_own_line() -> None:
    ring = LogRing()
    ring.feed(b"open end")
    ring.note("started")
    ring.feed(b"next\n")
    assert ring.lines() == ("open end", "--- started", "next")


def test_lines_since() -> None:
    ring = LogRing()
    ring.feed(b"old\n")
    mark = ring.total
    assert ring.lines_since(mark) == ()
    ring.feed(b"new\n")
    assert ring.lines_since(mark) == ("new",)
    assert ring.lines_since(0) == ("old", "new")


@pytest.mark.parametrize(
    ("line", "text"),
    [
        (b"\x1b[31mred\x1b[0m \x1b[2K", "red"),
        (b"a\x00b\rc\x07", "a\ufffdb\ufffdc\ufffd"),
        (b"\xff\xfe caf\xc3\xa9", "\ufffd\ufffd café"),
        (b"tab\there", "tab\there"),
        (b"x" * 9000, "x" * LINE_LIMIT),
        ("next\u2028line\x9b1m".encode(), "next\ufffdline\ufffd1m"),
    ],
)
def test_clean(line: bytes, text: str) -> None:
    assert clean(line) == text


@given(st.lists(st.binary(max_size=6000).map(lambda data: data.replace(b"x", b"\n"))))
def test_it_never_holds_more_than_its_size(pieces: list[bytes]) -> None:
    ring = LogRing(max_bytes=8192)
    for piece in pieces:
        ring.feed(piece)
    kept = b"".join(ring._pieces)
    assert len(kept) <= 8192
    assert ring.total == sum(map(len, pieces)) == len(kept) + ring.dropped
    assert all(len(line) <= LINE_LIMIT for line in ring.lines())


def test_an_endless_line_keeps_its_beginning_and_what_stood_before() -> None:
    ring = LogRing()
    ring.feed(b"before\nbeginning ")
    for _ in range(100):
        ring.feed(b"y" * 65536)
    ring.feed(b"\nafter\n")
    before, endless, after = ring.lines()
    assert (before, after) == ("before", "after")
    assert endless.startswith("beginning y")
    assert len(endless) == LINE_LIMIT
    assert ring.dropped > 6_000_000


@pytest.mark.parametrize("piece", [b"x" * 65536, b"a line of a flood, with a newline\n" * 1900], ids=["none", "many"])
def test_a_flood_of_100_mb_costs_a_fraction_of_a_second(piece: bytes) -> None:
    ring = LogRing()
    begun = time.process_time()
    for _ in range(100_000_000 // len(piece)):
        ring.feed(piece)
    assert time.process_time() - begun < 0.5
    assert ring._size <= 256 * 1024


def test_one_piece_larger_than_the_ring_keeps_its_end() -> None:
    ring = LogRing(max_bytes=100)
    ring.feed(b"line\n" * 1000)
    assert ring.lines() == ("line",) * 20
    assert ring.dropped == 4900


def test_small_pieces_do_not_pile_up() -> None:
    ring = LogRing()
    for _ in range(20_000):
        ring.feed(b"z\n")
    assert len(ring._pieces) <= 513
    assert len(ring.lines()) == 20_000


@pytest.mark.anyio
async def test_a_follower_sees_what_comes_in_whole_lines() -> None:
    ring = LogRing()
    ring.feed(b"old\n")
    seen: list[str] = []

    async def follow() -> None:
        async for line in ring.subscribe():
            seen.append(line)
            if line == "last":
                return

    async with asyncio.timeout(5), asyncio.TaskGroup() as tasks:
        following = tasks.create_task(follow())
        await until(lambda: ring._followers)
        ring.feed(b"on")
        ring.feed(b"e\ntwo\nla")
        ring.feed(b"st\n")
        await following
    assert seen == ["one", "two", "last"]


@pytest.mark.anyio
async def test_a_follower_that_does_not_read_misses_lines_and_holds_nobody_up() -> None:
    ring = LogRing()
    lines = ring.subscribe()
    first = asyncio.ensure_future(anext(lines))
    await asyncio.sleep(0)  # noqa: TID251 (one turn of the loop)
    for n in range(5000):
        ring.feed(b"%d\n" % n)
    assert await first == "4000"
    await lines.aclose()
    assert ring._followers == []


def test_what_one_child_has_said() -> None:
    lines = ("old", "--- m: started as process 71", "first", "--- m: started as process 7", "second", "--- stopped")
    assert lines_of_process(lines, 7) == ("second", "--- stopped")
    assert lines_of_process(lines, 71) == lines[2:]
    assert lines_of_process(lines[4:], 7) == lines[4:]  # its beginning was pushed out


def test_of_the_log_of_a_model_what_one_of_its_children_has_said() -> None:
    ring = LogRing()
    for pid in (7, 17):
        ring.note(f"tiny: started as process {pid}")
        ring.feed(f"of {pid}\nnot started as process 7\n".encode())
    assert ring.lines_of_process(17) == ("of 17", "not started as process 7")
    assert ring.lines_of_process(7) == ("of 7", "not started as process 7", "--- tiny: started as process 17", *_17)
    assert ring.lines_of_process(1) == ring.lines()
    for pid in (7, 17, 1):
        assert ring.lines_of_process(pid) == tuple(lines_of_process(ring.lines(), pid))


_17 = ("of 17", "not started as process 7")
