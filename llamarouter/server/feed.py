"""The feed of `GET /models/sse`: what happens to models, as llama-server's router tells it.

    tell --> number, history (bounded) --> each reader's backlog (bounded) --> read --> bytes

Records are `data: {"model", "event", "data"?}`. On demand a reader also gets their numbers (`id:` lines), what it has
missed since a number, and pings. A reader that does not keep up is dropped with a last record rather than buffered
without end. In the history only the last progress of a load or a download is kept: it says all that the others said.
"""

from __future__ import annotations

import asyncio
import secrets
from collections import OrderedDict
from collections.abc import AsyncIterator, Callable, Iterable
from typing import Protocol

import msgspec
from msgspec import Struct

HISTORY = 1024  # records that can be had again
_BACKLOG = 512  # records a slow reader may be behind before it is dropped; fewer than it can have again
_PING = b": ping\n\n"

EVENTS_LOST = "events_lost"
SNAPSHOT_COMPLETE = "snapshot_complete"


class Record(Struct, frozen=True):
    """One thing that happened to a model (`*`: to the list of them)."""

    model: str
    event: str
    data: object | None = None

    def encoded(self) -> bytes:
        said: dict[str, object] = {"model": self.model, "event": self.event}
        if self.data is not None:
            said["data"] = self.data
        return b"data: %b\n\n" % msgspec.json.encode(said)


class Wish(Struct, frozen=True):
    """How somebody wants to read. The default is what llama-server's router sends."""

    ids: bool = False
    snapshot: bool = False  # first the state of every model
    after: str | None = None  # the id of the last record that it has: what came since is told first
    ping: float | None = None  # seconds of silence until a comment says that the feed lives


_ALL = Wish()


class Reader(Protocol):
    """Who reads: what he is told of, and for how long."""

    def sees(self, model: str) -> bool:
        """Whether he is told what happens to a model; asked anew for each record."""
        ...

    def stands(self) -> bool:
        """Whether he may go on reading."""
        ...


class _Anybody:
    def sees(self, model: str) -> bool:
        return True

    def stands(self) -> bool:
        return True


_ANYBODY = _Anybody()
_Line = tuple[str, bytes]  # of which model, and the record, encoded
_Item = tuple[int | None, str, bytes] | None  # the same behind its number, if it has one; None: the end


class Feed:
    """Everybody who reads the events, and the way to tell them one."""

    def __init__(self) -> None:
        self._run = secrets.token_hex(4)  # the numbers of another run of the router mean nothing here
        self._number = 0
        self._history: OrderedDict[int, _Line] = OrderedDict()
        self._forgotten = 0  # the last number that the history has no more
        self._progress: dict[str, int] = {}  # by model: the number of its progress in the history
        self._readers: set[asyncio.Queue[_Item]] = set()
        self._ended = False

    @property
    def readers(self) -> int:
        """How many read now."""
        return len(self._readers)

    def tell(self, model: str, event: str, data: object | None = None) -> None:
        """Send one record to every reader; never waits."""
        self._number += 1
        line = Record(model, event, data).encoded()
        self._remember(model, line, progress=isinstance(data, dict) and "progress" in data)
        for reader in tuple(self._readers):
            try:
                reader.put_nowait((self._number, model, line))
            except asyncio.QueueFull:
                self._readers.discard(reader)
                # Without a number: it comes back with the one of the last record that it has really read.
                _end(reader, (None, "*", Record("*", EVENTS_LOST, {"reason": "slow_reader"}).encoded()))

    def _remember(self, model: str, line: bytes, *, progress: bool) -> None:
        before = self._progress.pop(model, None)
        if progress:
            if before is not None:
                self._history.pop(before, None)
            self._progress[model] = self._number
        self._history[self._number] = model, line
        if len(self._history) > HISTORY:
            self._forgotten, _ = self._history.popitem(last=False)

    async def read(
        self, wish: Wish = _ALL, snapshot: Callable[[], Iterable[Record]] = tuple, who: Reader = _ANYBODY
    ) -> AsyncIterator[bytes]:
        """Records from now on, until the feed ends or the reader falls too far behind.

        `snapshot` says how all models are at the moment; it is asked in the same moment from which the records count.
        """
        if self._ended:
            return
        reader: asyncio.Queue[_Item] = asyncio.Queue(_BACKLOG)
        self._readers.add(reader)
        try:
            for line in self._beginning(wish, snapshot, who):
                yield line
            while True:
                try:
                    async with asyncio.timeout(wish.ping):
                        item = await reader.get()
                except TimeoutError:
                    item = None, "*", _PING
                if item is None or not who.stands():
                    return
                number, model, line = item
                if _is_told(who, model):
                    yield self._line(wish, number, line)
        finally:
            self._readers.discard(reader)

    def end(self) -> None:
        """No more records: every open stream ends, so that none of them delays a shutdown."""
        self._ended = True
        for reader in self._readers:
            _end(reader)
        self._readers.clear()

    # --- how a reader begins ------------------------------------------------------------------------------------------

    def _beginning(self, wish: Wish, snapshot: Callable[[], Iterable[Record]], who: Reader) -> list[bytes]:
        """What goes before the first record: what was missed, or the state of things. Takes no time."""
        missed = None if wish.after is None else self._since(wish.after)
        if missed is not None:
            return [self._line(wish, number, line) for number, (model, line) in missed if _is_told(who, model)]
        first = []
        if wish.after is not None:
            first.append(Record("*", EVENTS_LOST, {"reason": "too_long_ago"}))
        if wish.after is not None or wish.snapshot:
            first += snapshot()
        if not first:
            return []
        # Only the last has a number: who hears less than all of them begins anew.
        last = self._line(wish, self._number, Record("*", SNAPSHOT_COMPLETE).encoded())
        return [*(record.encoded() for record in first if _is_told(who, record.model)), last]

    def _since(self, after: str) -> list[tuple[int, _Line]] | None:
        """The records behind the one with this id; None where they cannot be told."""
        run, _, text = after.partition("-")
        if run != self._run or not text.isascii() or not text.isdigit() or len(text) > 18:
            return None
        number = int(text)
        if not self._forgotten <= number <= self._number:
            return None
        return [(each, line) for each, line in self._history.items() if each > number]

    def _line(self, wish: Wish, number: int | None, line: bytes) -> bytes:
        return line if number is None or not wish.ids else b"id: %b-%d\n%b" % (self._run.encode(), number, line)


def _is_told(who: Reader, model: str) -> bool:
    return model == "*" or who.sees(model)


def _end(reader: asyncio.Queue[_Item], last: _Item = None) -> None:
    """Nothing more for this reader; `last`: it is told why, instead of what it has not read."""
    if last is not None:
        while not reader.empty():
            reader.get_nowait()
        reader.put_nowait(last)
    while reader.full():
        reader.get_nowait()
    reader.put_nowait(None)
