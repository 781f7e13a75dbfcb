"""Who was touched when: the models and keys to which something was done, from the deed until all is well again.

    deed begins --- deed ends --- (a model: an answer that began after this and is whole, or `_SHADOW`) --- untouched

A model that was killed cools down, and who asks meanwhile hears so; so a model stays touched beyond the deed, and a key
does not: what `lr key` has done holds when it returns.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass

_SHADOW = 150.0  # seconds: longer than any pause after failures, so a model is back by then


@dataclass(slots=True)
class _Mark:
    running: int = 0  # deeds
    until: float = -math.inf  # touched up to here; infinity: until it is seen well
    since: float = -math.inf  # the end of the last deed


class Touched:
    """Of names (models, keys); times are the loop's."""

    def __init__(self) -> None:
        self._marks: dict[str, _Mark] = {}

    @contextlib.contextmanager
    def deed(self, names: tuple[str, ...], *, lasting: bool, clock: Callable[[], float]) -> Iterator[None]:
        """Something is done to these; `lasting`: they may need a while to be well again."""
        marks = [self._marks.setdefault(name, _Mark()) for name in names]
        for mark in marks:
            mark.running += 1
        try:
            yield
        finally:
            for mark in marks:
                mark.running -= 1
                mark.since = clock()
                mark.until = max(mark.until, math.inf if lasting else mark.since)

    def well(self, name: str, began: float, now: float) -> None:
        """A request for it that began then was answered whole."""
        mark = self._marks.get(name)
        if mark is not None and math.isinf(mark.until) and mark.until > 0 and not mark.running and began > mark.since:
            mark.until = now

    def between(self, name: str, began: float, now: float) -> bool:
        """Whether anything of a deed was going on at any moment of this."""
        mark = self._marks.get(name)
        if mark is None:
            return False
        return mark.running > 0 or min(mark.until, mark.since + _SHADOW) >= began

    def count(self, names: tuple[str, ...], now: float) -> int:
        """How many of them are touched now."""
        return sum(self.between(name, now, now) for name in names)
