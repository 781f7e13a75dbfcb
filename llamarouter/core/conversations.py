"""Which request answers a conversation, for as long as its answer can be taken up again.

    unknown --begin--> alive --ended--> kept --(its time is over, or too many are kept)--> unknown
                         `--------- forget, drop, another `begin` ---------'

A conversation has one answer at a time: the newest. What a request is lies with whoever owns it (`R`); here it is
only kept, and compared by identity. As many are alive as there are requests, which the queue bounds; those that are
kept are bounded here. Times are seconds on a monotonic clock.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import Generic, TypeVar

R = TypeVar("R")

# llama-server keeps a finished answer for 300 s and looks every 60 s whether one is older.
KEEP_SECONDS = 360.0
MAX_KEPT = 4096


def place_in(asked: str, comments: bytes) -> tuple[str, bytes]:
    """Where a stream goes on in a child, and what of the router's own comments, which went before it, comes first.

    `asked`: the client's `from`, which counts every byte that it has read. What is no number the child deals with.
    """
    if not asked.isascii() or not asked.isdigit():
        return asked, b""
    at = int(asked[:20])
    return str(max(0, at - len(comments))), comments[at:]


class Conversations(Generic[R]):
    """The newest request of every conversation, by the conversation's id."""

    def __init__(self, keep: float = KEEP_SECONDS, most: int = MAX_KEPT) -> None:
        self._keep = keep
        self._most = most
        self._requests: dict[str, R] = {}
        self._kept: OrderedDict[str, float] = OrderedDict()  # until when, by id; the first ends first

    def __len__(self) -> int:
        return len(self._requests)

    def requests(self) -> tuple[R, ...]:
        """All that are known, alive and kept."""
        return tuple(self._requests.values())

    def begin(self, conversation: str, request: R, now: float) -> R | None:
        """`request` answers from now on; the one that did before, if any is known."""
        former = self.find(conversation, now)
        self._kept.pop(conversation, None)
        self._requests[conversation] = request
        return former

    def ended(self, conversation: str, request: R, now: float) -> None:
        """The answer of `request` is complete: it can be read again for a while."""
        if self._requests.get(conversation) is not request:
            return
        self._kept[conversation] = now + self._keep
        self._prune(now)

    def drop(self, conversation: str, request: R) -> None:
        """`request` will have no answer."""
        if self._requests.get(conversation) is request:
            self.forget(conversation)

    def forget(self, conversation: str) -> R | None:
        """The conversation was stopped; the request that answered it, if any is known."""
        self._kept.pop(conversation, None)
        return self._requests.pop(conversation, None)

    def find(self, conversation: str, now: float) -> R | None:
        """The request that answers a conversation; None if nothing can be taken up again."""
        self._prune(now)
        return self._requests.get(conversation)

    def _prune(self, now: float) -> None:
        while self._kept:
            conversation, until = next(iter(self._kept.items()))
            if until > now and len(self._kept) <= self._most:
                break
            self.forget(conversation)
