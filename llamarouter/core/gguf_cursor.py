"""A checked walk through the bytes of a GGUF header: no step leaves the file, nothing is allocated after its word.

The file comes through a callable, block by block; a block is as long as asked for here, never as long as a length that
stands in the file. Every step is checked against the file's size and HEADER_MAX; a wrong one raises GgufError.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Callable
from functools import cache
from typing import Any, NoReturn

HEADER_MAX = 64 << 20  # bytes that a header may span; the largest known ones are below 20 MiB
STRING_MAX = 16 << 20  # bytes
NAME_MAX = 65535  # bytes of a key, after the specification
STRINGS_MAX = 2 << 20  # over all arrays of one file; the largest vocabularies have 800,000 with their merges
BLOCK_MIN, BLOCK_MAX = 64 << 10, 1 << 20  # bytes asked for at a time; growing, as most files are small

# Strings are stepped over so many at a time while all of them are this short, as those of a vocabulary are.
_RUN = 256
_SHORT = 128  # bytes

U32 = struct.Struct("<I")
U64 = struct.Struct("<Q")


class GgufError(Exception):
    """The file is not a GGUF that an engine could load: one line, without the file's path."""


class Cursor:
    """A place in the file, over a buffered block of it."""

    __slots__ = ("_block", "_block_at", "_next_block", "_read", "_strings_left", "pos", "size")

    def __init__(self, read: Callable[[int, int], bytes], size: int) -> None:
        self.pos = 0
        self.size = size
        self._read = read
        self._block = b""
        self._block_at = 0
        self._next_block = BLOCK_MIN
        self._strings_left = STRINGS_MAX

    def u32(self) -> int:
        return int(self.scalar(U32))

    def u64(self) -> int:
        return int(self.scalar(U64))

    def scalar(self, layout: struct.Struct) -> int | float:
        at = self._have(layout.size)
        self.pos += layout.size
        value: int | float = layout.unpack_from(self._block, at)[0]
        return value

    def values(self, layout: struct.Struct) -> tuple[Any, ...]:
        at = self._have(layout.size)
        self.pos += layout.size
        return layout.unpack_from(self._block, at)

    def text(self, limit: int, what: str, *, keep: int = NAME_MAX) -> str:
        """A string, of which at most `keep` bytes are returned."""
        length = checked_length(self.u64(), limit, what)
        kept = min(length, keep)
        at = self._have(kept)
        raw = self._block[at : at + kept]
        self.skip(length)
        return raw.decode("utf-8", "replace")

    def start(self, count: int) -> bytes:
        """The first bytes of the file; fewer where there are fewer."""
        self.pos = 0
        at = self._have(min(count, self.size))
        return self._block[at : at + count]

    def skip(self, count: int) -> None:
        self._check(count)
        self.pos += count

    def skip_strings(self, count: int, key: str) -> None:
        """Walk over `count` strings: the one loop that runs hundreds of thousands of times for a real model."""
        if count > self._strings_left:
            fail(f"the key '{shown(key)}' claims {count} strings, which no model has")
        self._strings_left -= count
        unpack, run_of = U64.unpack_from, _run_of_short_strings().match
        while count:
            at = self._have(8)
            block = self._block
            while count >= _RUN and (run := run_of(block, at)) is not None:
                at = run.end()
                count -= _RUN
            last = len(block) - 8
            walked, most = 0, min(count, _RUN)
            for walked in range(most):  # noqa: B007 (the number of whole steps is the result)
                if at > last:
                    break
                at += 8 + unpack(block, at)[0]
            else:
                walked = most
            count -= walked
            self.skip(self._block_at + at - self.pos)

    def _check(self, count: int) -> None:
        end = self.pos + count
        if end > self.size:
            fail("truncated: it ends in the middle of its header")
        if end > HEADER_MAX:
            fail(f"its header is longer than {HEADER_MAX >> 20} MiB")

    def _have(self, count: int) -> int:
        """Make `count` bytes from `pos` on be in the block; their index there."""
        at = self.pos - self._block_at
        if at >= 0 and at + count <= len(self._block):
            return at
        self._check(count)
        wanted = min(max(count, self._next_block), self.size - self.pos, HEADER_MAX - self.pos)
        self._block = self._read(self.pos, wanted)
        self._block_at = self.pos
        self._next_block = min(self._next_block * 2, BLOCK_MAX)
        if len(self._block) < count:
            fail("truncated: it ended while it was read")
        return 0


@cache
def _run_of_short_strings() -> re.Pattern[bytes]:
    """What matches a run of short strings, each its length and so many bytes: in C, twice as quick as a loop.

    Nothing is ever taken back (`{}+`), so that no file makes it try more than one way.
    """
    strings = (b"\\x%02x%b.{%d}" % (length, rb"\0" * 7, length) for length in range(_SHORT))
    return re.compile(b"(?:%b){%d}+" % (b"|".join(strings), _RUN), re.DOTALL)


def shown(text: str, limit: int = 64) -> str:
    """A string of the file for people: short, and printable."""
    short = text if len(text) <= limit else text[: limit - 3] + "..."
    return short if short.isprintable() else "".join(char if char.isprintable() else "\ufffd" for char in short)


def checked_length(length: int, limit: int, what: str) -> int:
    if length > limit:
        fail(f"{what} claims to be {length} bytes long")
    return length


def fail(reason: str) -> NoReturn:
    raise GgufError(reason)
