"""Time that passes: the pace of clients and deeds, and how long somebody waits for what another process does."""

from __future__ import annotations

import asyncio
from collections.abc import Callable


async def pause(seconds: float) -> None:
    """Let so many seconds go by."""
    await asyncio.sleep(seconds)  # noqa: TID251 (a load has a pace; there is nothing that happens at its end)


async def until(predicate: Callable[[], object], seconds: float) -> bool:
    """Whether `predicate()` has become true within so many seconds."""
    loop = asyncio.get_running_loop()
    end = loop.time() + seconds
    while not predicate():
        if loop.time() > end:
            return False
        await pause(0.05)
    return True
