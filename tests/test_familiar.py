"""A head seen before: recognised only when every other byte is the same and the body is here, exactly."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llamarouter.relay.familiar import learn

HEAD = b"POST /tokenize HTTP/1.1\r\nhost: h\r\nContent-Length: %d\r\nx-a: 1\r\n\r\n"


def request(body: bytes) -> bytes:
    return HEAD % len(body) + body


@pytest.mark.parametrize("body", [b"x", b"", b"12345678" * 20, b"\r\n\r\ncontent-length: 5\r\n"])
def test_the_same_head_with_another_body(body: bytes) -> None:
    familiar = learn(request(b"first"), "meaning")
    assert familiar is not None
    assert familiar.means == "meaning"
    assert familiar.body_of(request(body)) == body
    assert familiar.body_of(request(body)) == body


@pytest.mark.parametrize(
    "data",
    [
        request(b"abc")[:-1],
        request(b"abc") + b"d",
        request(b"abc") + request(b"abc"),
        request(b"abc").replace(b"x-a: 1", b"x-a: 2"),
        request(b"abc").replace(b"/tokenize", b"/detokeni"),
        request(b"abc").replace(b"host: h", b"host:  h"),
        request(b"abc").replace(b": 3\r", b": 3 \r"),
        request(b"abc").replace(b": 3\r", b": +3\r"),
        request(b"abc").replace(b": 3\r", b": \r"),
        request(b"abc").replace(b": 3\r", b": 3, 3\r"),
        request(b"abc").replace(b"\r\n\r\n", b"\r\nx-b: 1\r\n\r\n"),
        b"",
        HEAD[:30],
    ],
)
def test_anything_else_is_for_the_parser(data: bytes) -> None:
    familiar = learn(request(b"first"), None)
    assert familiar is not None
    assert familiar.body_of(data) is None
    assert familiar.body_of(request(b"abc")) == b"abc"
    assert familiar.body_of(data) is None


@pytest.mark.parametrize(
    "data",
    [
        b"POST / HTTP/1.1\r\nhost: h\r\n\r\n",
        b"POST / HTTP/1.1\r\nhost: h\r\ncontent-length: 3\r\n",
        b"POST / HTTP/1.1\r\ncontent-length: 3\r\ncontent-length: 3\r\n\r\nabc",
        b"POST / HTTP/1.1\r\ncontent-length: 3 \r\n\r\nabc",
        b"POST / HTTP/1.1\r\ncontent-length: 3\r\nContent-Length: 3 \r\n\r\nabc",
        b"POST / HTTP/1.1\r\ncontent-length: 000000003\r\ncontent-length: 3\r\n\r\nabc",
        b"POST / HTTP/1.1\r\nx-content-length: 3\r\n\r\nabc",
        b"POST / HTTP/1.1\r\nhost: h\r\n\r\n\r\ncontent-length: 3\r\n\r\n",
    ],
)
def test_a_head_without_one_plain_length_is_not_learnt(data: bytes) -> None:
    assert learn(data, None) is None


@given(st.binary(max_size=40), st.binary(max_size=40), st.booleans(), st.integers(0, 120), st.binary(max_size=3))
def test_what_is_recognised_is_the_head_and_its_body(
    first: bytes, body: bytes, again: bool, at: int, noise: bytes
) -> None:
    familiar = learn(request(first), None)
    assert familiar is not None
    assert not again or familiar.body_of(request(body)) == body
    data = bytearray(request(body))
    data[at : at + len(noise)] = noise
    recognised = familiar.body_of(bytes(data))
    if recognised is not None:
        head = bytes(data[: len(data) - len(recognised)])
        before, _, after = HEAD.partition(b"%d")
        assert head.startswith(before)
        assert head.endswith(after)
        assert int(head[len(before) : -len(after)]) == len(recognised)
