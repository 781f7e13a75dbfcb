"""The clients: so many at once, each asks, waits for what comes, thinks for a moment, and asks again."""

from __future__ import annotations

import asyncio
import random

from soak.answer import ask
from soak.book import Book
from soak.box import QUEUE_TIMEOUT
from soak.pause import pause
from soak.requests import Request, Requests
from soak.touched import Touched
from soak.verdict import Fate, judge

# The longest that anything may take, wait and answer together: beyond, it hangs.
BOUND = 2.0 * QUEUE_TIMEOUT + 10
_THINKS = 0.4


class Clients:
    """They `run` until they are told to `finish` what they have begun."""

    def __init__(self, port: int, requests: Requests, touched: Touched, book: Book, chance: random.Random) -> None:
        self._port = port
        self._requests = requests
        self._touched = touched
        self._book = book
        self._chance = chance
        self._ending = False

    async def run(self, number: int) -> None:
        """So many of them, until they are to finish: that may be before they have begun."""
        async with asyncio.TaskGroup() as group:
            for _ in range(number):
                group.create_task(self._one())

    def finish(self) -> None:
        self._ending = True

    async def _one(self) -> None:
        while not self._ending:
            request = self._requests.any()
            for each in (request, *request.then):
                await self._ask(each)
            await pause(self._chance.uniform(0, _THINKS))

    async def _ask(self, request: Request) -> None:
        clock = asyncio.get_running_loop().time
        began = clock()
        answer = await ask(self._port, request.message, request.way, BOUND)
        now = clock()
        touched = any(self._touched.between(name, began, now) for name in request.concerns)
        verdict = judge(answer, request.expected, touched)
        if verdict.fate is Fate.WHOLE and request.model is not None and not request.is_replayed:
            self._touched.well(request.model, began, now)
        why = f"{' '.join(request.concerns)} after {answer.seconds:.2f} s: {verdict.why}"
        self._book.note(request.kind, verdict.fate, answer.seconds, why)
