"""A body at the door: whole, in its order, and in about as much memory as it is long."""

from __future__ import annotations

import tracemalloc

import pytest

from llamarouter.relay.incoming import Incoming


@pytest.mark.parametrize("count", [0, 1, 2, 64, 65, 66, 129, 1000])
def test_the_parts_are_the_body_in_their_order(count: int) -> None:
    incoming = Incoming()
    parts = [b"%d," % number for number in range(count)]
    for part in parts:
        incoming.add_body(part)
    assert incoming.body_bytes == len(b"".join(parts))
    body = incoming.take_body()
    assert body == b"".join(parts)
    assert type(body) is bytes
    assert incoming.take_body() == b""


def test_a_body_that_came_as_a_whole_is_not_copied() -> None:
    incoming = Incoming()
    body = b"x" * 1000
    incoming.add_body(body)
    assert incoming.take_body() is body


def test_a_body_of_tiny_chunks_takes_hardly_more_memory_than_it_is_long() -> None:
    incoming = Incoming()
    tracemalloc.start()
    try:
        for number in range(100_000):
            incoming.add_body(number.to_bytes(3, "big"))
        taken, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert taken < 2 * incoming.body_bytes
