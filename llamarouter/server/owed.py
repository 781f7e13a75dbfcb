"""Questions that nobody waits for: kept until nothing loads, then put one after the other.

An engine's arithmetic takes a fifth of a second on every core; asked while a model loads, it would make who waits for
that model wait for it as well. A model that has just loaded computes its first answer: so it is asked `leisurely`.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Any

Question = Callable[[], Coroutine[Any, Any, None]]


class Owed:
    """The questions, by what they are about: the newest of each counts."""

    def __init__(self, is_quiet: Callable[[], bool]) -> None:
        """`is_quiet`: whether nothing loads now."""
        self._is_quiet = is_quiet
        self._questions: dict[str, Question] = {}
        self._settling = False

    def put(self, about: str, question: Question) -> None:
        """Keep a question."""
        self._questions[about] = question

    def forget(self, about: str) -> None:
        """It is another one now."""
        self._questions.pop(about, None)

    async def settle(self) -> None:
        """Put them for as long as it is quiet; called whenever it may have become so."""
        if self._settling:
            return
        self._settling = True
        try:
            while self._questions and self._is_quiet():
                await self._questions.pop(next(iter(self._questions)))()
        finally:
            self._settling = False
