"""A head that this connection has shown before: recognised byte for byte instead of being parsed again.

    POST /v1/chat/completions HTTP/1.1\r\n ... content-length: |1234|\r\n ... \r\n\r\n|body
    `--------------------------- before ----------------------'      `-- after --'

A client that keeps its connection sends the same head again and again, but for the number in `content-length`; so does
a child with its answers. Parsing it costs as much as all the rest of a small request. A match needs every other byte
to be equal, so what was understood of the first one holds for the next: framing, credentials, route.
"""

from __future__ import annotations

import re
from typing import Generic, TypeVar

T = TypeVar("T")

_LENGTH = re.compile(rb"\r\ncontent-length:[ \t]*([0-9]{1,8})(?=\r\n)", re.IGNORECASE)
_ANY_LENGTH = re.compile(rb"\r\ncontent-length", re.IGNORECASE)
_END = b"\r\n\r\n"


class Familiar(Generic[T]):
    """One head and what it `means`; made by `learn`."""

    __slots__ = ("_after", "_before", "_body", "_end", "_head", "_start", "means")

    def __init__(self, before: bytes, after: bytes, means: T) -> None:
        self._before = before
        self._after = after
        self._start = len(before)
        self.means = means
        # The last one, whole: what is as long and begins with it needs no look at its number.
        self._head = b""
        self._body = 0  # where its body began
        self._end = -1  # and ended

    def body_of(self, data: bytes) -> bytes | None:
        """The body, if `data` is this head with a body that is here as a whole, and nothing else; None if not."""
        if len(data) == self._end and data.startswith(self._head):
            return data[self._body :]
        if not data.startswith(self._before):
            return None
        start, after = self._start, self._after
        end = data.find(b"\r", start, start + 9)
        if end <= start or not data.startswith(after, end):
            return None
        digits = data[start:end]
        body = end + len(after)
        if not digits.isdigit() or int(digits) != len(data) - body:
            return None
        self._head, self._body, self._end = data[:body], body, len(data)
        return data[body:]


def learn(data: bytes, means: T) -> Familiar[T] | None:
    """The head that `data` begins with, if it is one to recognise: with one plain `content-length`."""
    head_end = data.find(_END)
    if head_end < 0:
        return None
    head = data[: head_end + len(_END)]
    found = _LENGTH.search(head)
    if found is None or len(_ANY_LENGTH.findall(head)) != 1:
        return None
    return Familiar(head[: found.start(1)], head[found.end(1) :], means)
