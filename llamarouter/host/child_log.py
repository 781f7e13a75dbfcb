"""The last words of a model's child: a bounded ring that takes whatever comes, at any speed, and never waits.

Bytes are kept as they came and made into lines only when somebody looks: a flood costs a copy and nothing else. A line
is at most 4 KiB, of which a flood without newlines keeps the beginning; what is left out is counted in `dropped`.
What somebody asked the model is not shown (`core.discretion`).
The ring belongs to the model and outlives its children, so that `lr logs` shows what the last one said.
"""

from __future__ import annotations

import asyncio
import re
from collections import deque
from collections.abc import AsyncIterator, Sequence

from llamarouter.core.discretion import Discretion, discreet, may_tell

LINE_LIMIT = 4096  # bytes
_WAITING_LINES = 1000  # for one slow follower
_UGLY = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028\u2029]")
_PLAIN = bytes((*b"\t\n", *range(32, 127)))
_ANSI = re.compile(rb"\x1b\[[0-9;?]*[ -/]*[@-~]")


def clean(line: bytes) -> str:
    """One line as text that cannot harm a terminal: no escape sequences, no control characters, valid UTF-8."""
    line = line[:LINE_LIMIT]
    if not line.translate(None, _PLAIN):  # as nearly every one, of hundreds for each load
        return line.decode("ascii").rstrip()
    return _UGLY.sub("\ufffd", _ANSI.sub(b"", line).decode("utf-8", "replace")).rstrip()


def lines_of_process(lines: Sequence[str], pid: int | None) -> Sequence[str]:
    """Of the log of a model, what one of its children has said: from the line of ours that it begins with."""
    begin = f"started as process {pid}"
    at = max((at for at, line in enumerate(lines) if line.startswith("--- ") and line.endswith(begin)), default=-1)
    return lines[at + 1 :]


class Follower:
    """Somebody who reads along; one that does not keep up misses lines, and nobody waits for it."""

    def __init__(self) -> None:
        self.lines: deque[str] = deque(maxlen=_WAITING_LINES)
        self.discretion = Discretion()
        self.news = asyncio.Event()
        self.ended = False


class LogRing:
    """The last `max_bytes` of a log."""

    def __init__(self, max_bytes: int = 256 * 1024) -> None:
        self._max_bytes = max_bytes
        self._pieces: deque[bytes] = deque()
        self._size = 0
        self._open = 0  # bytes of the last line so far, which has no newline yet
        self._open_text = b""  # the same, while somebody follows
        self._followers: list[Follower] = []
        self.total = 0  # bytes fed so far, kept or not
        self.dropped = 0  # bytes left out, or pushed out by newer ones

    def feed(self, data: bytes) -> None:
        """Take what came."""
        self.total += len(data)
        if self._followers:
            self._tell(data)
        end = data.rfind(b"\n")
        if end < 0:
            room = max(0, LINE_LIMIT - self._open)
            self._open += len(data)
            kept = data[:room]
        else:
            self._open = len(data) - end - 1
            # Of a line that begins here and has no end yet, too, no more than its beginning is kept.
            kept = data if self._open <= LINE_LIMIT else data[: end + 1 + LINE_LIMIT]
        self.dropped += len(data) - len(kept)
        if kept:
            self._keep(kept)

    def note(self, text: str) -> None:
        """Add a line of our own, on a line of its own."""
        self.feed((b"\n" if self._open else b"") + f"--- {text}\n".encode())

    def _keep(self, data: bytes) -> None:
        if len(data) > self._max_bytes:
            self.dropped += len(data) - self._max_bytes
            data = data[-self._max_bytes :]
        self._pieces.append(data)
        self._size += len(data)
        while self._size > self._max_bytes:
            oldest = self._pieces.popleft()
            self._size -= len(oldest)
            self.dropped += len(oldest)
        if len(self._pieces) > 512:
            # A talker in small pieces: one piece again, or their count costs more than their bytes.
            self._pieces = deque([b"".join(self._pieces)])

    def lines(self) -> tuple[str, ...]:
        """Everything that is kept, oldest first; the first line may have lost its beginning."""
        return self._lines_of(b"".join(self._pieces))

    def lines_since(self, total: int) -> tuple[str, ...]:
        """What came after the ring's `total` had this value, as far as it is kept."""
        # Within a flood `total` runs ahead of what is kept: then this shows a little more than asked for, never less.
        fresh = min(self._size, self.total - total)
        return self._lines_of(b"".join(self._pieces)[self._size - fresh :])

    def lines_of_process(self, pid: int) -> tuple[str, ...]:
        """What one child has said, from the line of ours that it begins with; everything where that is not kept."""
        data = b"".join(self._pieces)
        begin = f"started as process {pid}\n".encode()
        at = data.rfind(begin)
        while at >= 0 and not data.startswith(b"--- ", data.rfind(b"\n", 0, at) + 1):
            at = data.rfind(begin, 0, at)
        return self._lines_of(data if at < 0 else data[at + len(begin) :])

    @staticmethod
    def _lines_of(data: bytes) -> tuple[str, ...]:
        lines = tuple(text for line in data.split(b"\n") if (text := clean(line)))
        return tuple(discreet(lines)) if may_tell(data) else lines

    @property
    def followers(self) -> int:
        """How many read along."""
        return len(self._followers)

    async def subscribe(self, last: int = 0) -> AsyncIterator[str]:
        """The lines that come from now on, behind the `last` of those that are here, until `end` or for as long as the
        caller goes on asking.
        """
        follower = Follower()
        if last:
            follower.lines.extend(self.lines()[-last:])
            follower.news.set()
        self._followers.append(follower)
        try:
            while True:
                await follower.news.wait()
                follower.news.clear()
                while follower.lines:
                    yield follower.lines.popleft()
                if follower.ended:
                    return
        finally:
            self._followers.remove(follower)
            if not self._followers:
                self._open_text = b""

    def end(self) -> None:
        """Let go of everybody who follows."""
        for follower in self._followers:
            follower.ended = True
            follower.news.set()

    def _tell(self, data: bytes) -> None:
        *whole, rest = (self._open_text + data).split(b"\n")
        self._open_text = rest[: LINE_LIMIT + 1]
        lines = [text for line in whole[-_WAITING_LINES:] if (text := clean(line))]
        for follower in self._followers:
            follower.lines.extend(follower.discretion.of(lines))
            follower.news.set()
