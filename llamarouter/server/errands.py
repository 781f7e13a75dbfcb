"""Errands: small tasks that the supervisor begins and nobody waits for. They end with it, and fail alone."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

from llamarouter.server.mishap import Mishap

_FAILED = "an errand failed"

T = TypeVar("T")


class Errands:
    """The errands that run, in the supervisor's own group."""

    def __init__(self, tasks: asyncio.TaskGroup) -> None:
        self._tasks = tasks
        self._running: set[asyncio.Task[None]] = set()

    def begin(self, work: Coroutine[Any, Any, None], on_failure: Callable[[], None] = lambda: None) -> None:
        """Run it; should it fail, which is a mistake of ours, the log says so and `on_failure` is called."""
        task = self._tasks.create_task(_alone(work, on_failure))
        self._running.add(task)
        task.add_done_callback(self._running.discard)
        task.add_done_callback(lambda _: work.close())  # one that was cancelled before its first step never began it

    def attempt(self, work: Callable[[], T]) -> T | None:
        """Do it now; should it fail, which is a mistake of ours, the log says so and there is nothing."""
        with Mishap(_FAILED):
            return work()
        return None

    def cancel(self) -> None:
        """The supervisor goes."""
        for task in self._running:
            task.cancel()


async def _alone(work: Coroutine[Any, Any, None], on_failure: Callable[[], None]) -> None:
    with Mishap(_FAILED) as found:
        await work
    if found.error is not None:
        on_failure()
