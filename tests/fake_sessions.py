"""Answers that the fake llama-server keeps for those who come back: what `tools/server/server-stream.cpp` does."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any


class Session:
    """One answer: it grows, and is read from any offset."""

    def __init__(self) -> None:
        self.data = b""
        self.done = False
        self.cancelled = asyncio.Event()
        self.news = asyncio.Event()

    def append(self, data: bytes) -> None:
        if not self.done:
            self.data += data
            self.tell()

    def finish(self) -> None:
        self.done = True
        self.tell()

    def tell(self) -> None:
        self.news.set()
        self.news = asyncio.Event()

    async def read(self, offset: int) -> AsyncIterator[bytes]:
        while True:
            if offset < len(self.data):
                data, offset = self.data[offset:], len(self.data)
                yield data
            elif self.done:
                return
            else:
                await self.news.wait()


class Sessions:
    """All of them; a conversation has one."""

    def __init__(self) -> None:
        self.by_id: dict[str, Session] = {}

    def begin(self, conversation: str) -> Session:
        self.evict(conversation)
        session = self.by_id[conversation] = Session()
        return session

    def evict(self, conversation: str) -> None:
        if (session := self.by_id.pop(conversation, None)) is not None:
            session.cancelled.set()
            session.finish()

    def found(self, wanted: list[str]) -> list[dict[str, Any]]:
        """Those asked for, and `ID::MODEL` for every model."""
        return [
            {"conversation_id": known, "is_done": session.done, "total_bytes": len(session.data)}
            for each in wanted
            for known, session in self.by_id.items()
            if known == each or known.startswith(f"{each}::")
        ]
