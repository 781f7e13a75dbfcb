"""The feed of `GET /models/sse`: what happens to models, as llama-server's router tells it.

Records are `data: {"model", "event", "data"?}`. A reader that does not keep up is dropped rather than buffered
without end: it reconnects and reads the list again.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import msgspec

_BACKLOG = 1024  # records a slow reader may be behind before it is dropped


class Feed:
    """Everybody who reads the events, and the way to tell them one."""

    def __init__(self) -> None:
        self._readers: set[asyncio.Queue[bytes | None]] = set()
        self._ended = False

    def tell(self, model: str, event: str, data: object | None = None) -> None:
        """Send one record to every reader; never waits."""
        if not self._readers:
            return
        record: dict[str, object] = {"model": model, "event": event}
        if data is not None:
            record["data"] = data
        line = b"data: " + msgspec.json.encode(record) + b"\n\n"
        for reader in tuple(self._readers):
            try:
                reader.put_nowait(line)
            except asyncio.QueueFull:
                self._readers.discard(reader)
                _end(reader)

    async def read(self) -> AsyncIterator[bytes]:
        """Records from now on, until the feed ends or the reader falls too far behind."""
        if self._ended:
            return
        reader: asyncio.Queue[bytes | None] = asyncio.Queue(_BACKLOG)
        self._readers.add(reader)
        try:
            while (record := await reader.get()) is not None:
                yield record
        finally:
            self._readers.discard(reader)

    def end(self) -> None:
        """No more records: every open stream ends, so that none of them delays a shutdown."""
        self._ended = True
        for reader in self._readers:
            _end(reader)
        self._readers.clear()


def _end(reader: asyncio.Queue[bytes | None]) -> None:
    while reader.full():
        reader.get_nowait()
    reader.put_nowait(None)
