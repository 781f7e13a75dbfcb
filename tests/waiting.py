"""Waiting for what happens elsewhere (another process, the kernel), with a bound and without guessing a time."""

from __future__ import annotations

import asyncio
from collections.abc import Callable


async def until(predicate: Callable[[], object], seconds: float = 5.0) -> None:
    """Return as soon as `predicate()` is true; fail after `seconds`."""
    loop = asyncio.get_running_loop()
    end = loop.time() + seconds
    while not predicate():
        if loop.time() > end:
            raise AssertionError(f"not true after {seconds} s: {predicate}")
        await asyncio.sleep(0.005)  # noqa: TID251 (there is no event to wait for across a process boundary)
