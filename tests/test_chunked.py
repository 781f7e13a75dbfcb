"""A chunked body, cut at every place, says the same."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llamarouter.core.chunked import ChunkReader
from llamarouter.core.wire import BrokenAnswerError


def read(pieces: list[bytes]) -> tuple[bytes, bool, bytes]:
    reader = ChunkReader()
    payload = b""
    rest = b""
    for piece in pieces:
        if reader.done:
            rest += piece
        else:
            payload += reader.feed(piece)
            rest = reader.rest
    return payload, reader.done, rest


@settings(deadline=None)
@given(
    st.lists(st.binary(min_size=1, max_size=40), max_size=5),
    st.sampled_from([b"", b";ext=1"]),
    st.sampled_from([b"", b"a: b\r\n"]),
    st.binary(max_size=10),
    st.data(),
)
def test_any_cutting_gives_the_same(
    chunks: list[bytes], extension: bytes, trailer: bytes, behind: bytes, data: st.DataObject
) -> None:
    wire = b"".join(b"%X%b\r\n%b\r\n" % (len(chunk), extension, chunk) for chunk in chunks)
    wire += b"0\r\n" + trailer + b"\r\n" + behind
    cuts = sorted(data.draw(st.sets(st.integers(0, len(wire)), max_size=8)))
    pieces = [wire[a:b] for a, b in zip([0, *cuts], [*cuts, len(wire)], strict=True)]
    assert read([piece for piece in pieces if piece]) == (b"".join(chunks), True, behind)


@settings(deadline=None)
@given(st.binary(max_size=60))
def test_no_bytes_are_an_accident(wire: bytes) -> None:
    try:
        payload, _, rest = read([wire])
    except BrokenAnswerError:
        return
    assert len(payload) + len(rest) <= len(wire)


@pytest.mark.parametrize(
    "wire",
    [
        b"\r\n",
        b"g\r\n",
        b"+5\r\nhello\r\n",
        b" 5\r\nhello\r\n",
        b"5_\r\nhello\r\n",
        b"0x5\r\nhello\r\n",
        b"5\nhello\r\n",
        b"5\r\nhello\n",
        b"5\r\nhello\r\r",
        b"5\r\nhelloo\r\n",
        b"1" * 16 + b"\r\n",
        b"5;" + b"x" * 5000,
        b"0\r\n\n",
    ],
)
@pytest.mark.parametrize("bytewise", [False, True])
def test_what_is_not_chunked_is_refused(wire: bytes, bytewise: bool) -> None:
    pieces = [wire[n : n + 1] for n in range(len(wire))] if bytewise else [wire]
    with pytest.raises(BrokenAnswerError):
        read(pieces)
