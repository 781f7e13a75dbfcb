"""What a client has sent behind the request that is being answered: kept until its turn, in order, up to a bound.

read while another is answered --parsed--> a request that waits
                 `- where the one before it ends is not known yet --> bytes, not parsed
"""

from __future__ import annotations

from collections import deque

from llamarouter.relay.incoming import Incoming

_MAX_BYTES = 64 << 10
_MOST_REQUESTS = 256  # that all came in one read


class Behind:
    """That of one connection. `requests` and `unread` are for others to ask whether there is something."""

    __slots__ = ("bytes", "requests", "unread")

    def __init__(self) -> None:
        self.requests: deque[Incoming] = deque()
        self.unread: list[bytes] = []
        self.bytes = 0

    def has_room(self, data: bytes) -> bool:
        """Count what came; False: it is too much."""
        self.bytes += len(data)
        return self.bytes <= _MAX_BYTES

    def add(self, incoming: Incoming) -> bool:
        """Keep a request that is whole; False: they are too many."""
        self.requests.append(incoming)
        return len(self.requests) <= _MOST_REQUESTS

    def first(self, begun: Incoming | None) -> Incoming:
        """The request whose turn it is, of those that are here; `begun`: the one that is being read."""
        self.bytes = sum(map(len, self.unread)) + (0 if begun is None else begun.body_bytes)
        return self.requests.popleft()

    def all_unread(self) -> bytes:
        """What is to be parsed now."""
        data = b"".join(self.unread)
        self.unread.clear()
        self.bytes = 0
        return data

    def is_before(self) -> None:
        """What is being read is behind nothing any more."""
        self.bytes = 0

    def forget(self) -> None:
        self.requests.clear()
        self.unread.clear()
