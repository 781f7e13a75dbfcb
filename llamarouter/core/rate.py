"""How much a key has done: requests in the last minute, requests at once, tokens of the day. Time is an argument.

    check --(429, and when to come back)--
    enter --> inside --> leave(tokens)

Every step takes the same time, however much a key does. A request that is refused does not count.
"""

from __future__ import annotations

from collections import deque

from llamarouter.core.errors import RateLimited, TokensUsedUp
from llamarouter.core.keys import Limits

_MINUTE = 60.0
DAY = 86_400.0
# Nobody knows when a request of one's own will be over (seconds).
_ANY_MOMENT = 1.0


class Meter:
    """What one key does. `now` is monotonic, `date` unix seconds: a day is a day of the calendar, UTC."""

    __slots__ = ("_begins", "_day", "_ends", "_starts", "_tokens", "inside", "limits")

    def __init__(self, limits: Limits) -> None:
        self.limits = limits
        self.inside = 0  # requests at once
        self._starts: deque[float] = deque()  # of the last minute
        self._day = 0
        self._begins = self._ends = 0.0  # while it is between these, it is the same day: nothing is to be reckoned
        self._tokens = 0

    def check(self, now: float, date: float) -> None:
        """Raise `RateLimited`, `TokensUsedUp` where one more request is too much."""
        limits = self.limits
        if limits.concurrent is not None and self.inside >= limits.concurrent:
            raise RateLimited(f"the key has {_so_many(self.inside)} at once, and may have no more", _ANY_MOMENT)
        if limits.tokens_per_day is not None and self.tokens(date) >= limits.tokens_per_day:
            left = DAY - date % DAY
            raise TokensUsedUp(f"the key has used its {limits.tokens_per_day} tokens of this day", left)
        if limits.rpm is not None:
            starts = self._starts
            while starts and starts[0] <= now - _MINUTE:
                starts.popleft()
            if len(starts) >= limits.rpm:
                # The one that has to be a minute old; of limits that have shrunk, not the oldest.
                left = starts[len(starts) - limits.rpm] + _MINUTE - now
                raise RateLimited(f"the key has begun {_so_many(len(starts))} in the last minute", left)

    def enter(self, now: float, date: float) -> None:
        """One more request, which has to `leave`. Raises as `check`."""
        self.check(now, date)
        self.begin(now)

    def begin(self, now: float) -> None:
        """One more request, of which `check` had nothing to say in the same moment; it has to `leave`."""
        self.inside += 1
        if self.limits.rpm is not None:
            self._starts.append(now)

    def leave(self, tokens: int, date: float) -> None:
        """A request is over, and took so many tokens."""
        self.inside -= 1
        if tokens:
            self._tokens = self.tokens(date) + tokens

    def tokens(self, date: float) -> int:
        """Those of the day."""
        if not self._begins <= date < self._ends:
            self._turn(date)
        return self._tokens

    def recall(self, day: int, tokens: int) -> None:
        """What was written down before this run of the router."""
        if day >= self._day:
            self._tokens = tokens + (self._tokens if day == self._day else 0)
            self._day = day
            self._begins = self._ends = 0.0

    def _turn(self, date: float) -> None:
        day = int(date // DAY)
        if day > self._day:  # a clock that is set back gives nobody his tokens back
            self._day, self._tokens = day, 0
        elif day < self._day - 1:  # it was wrong: days that will not come for long must not hold what is used in them
            self._day = day
        self._begins, self._ends = (self._day - 1) * DAY, (self._day + 1) * DAY


def _so_many(number: int) -> str:
    return f"{number} request" + ("" if number == 1 else "s")
