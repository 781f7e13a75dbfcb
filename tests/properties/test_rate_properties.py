"""The tokens of a day, beside a meter that looks at the calendar each time."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from llamarouter.core.keys import Limits
from llamarouter.core.rate import DAY, Meter


class Plain:
    """The same by the rule as it is said: a clock that is set back by a day gives nobody his tokens back."""

    def __init__(self) -> None:
        self.day = self.tokens = 0

    def take(self, tokens: int, date: float) -> None:
        day = int(date // DAY)
        if day > self.day:
            self.day, self.tokens = day, 0
        elif day < self.day - 1:
            self.day = day
        self.tokens += tokens

    def recall(self, day: int, tokens: int) -> None:
        if day >= self.day:
            self.tokens = tokens + (self.tokens if day == self.day else 0)
            self.day = day


# Steps of the clock, in parts of a day: most of them small, both ways, and on the edges of days.
STEPS = st.sampled_from([0.0, 0.25, 0.5, 1.0, 1.75, 3.0, 400.0, -0.25, -1.0, -1.5, -2.0, -3.0])


@given(st.lists(st.tuples(STEPS, st.integers(0, 9), st.sampled_from(["take", "look", "recall"])), max_size=40))
def test_a_day_is_one_of_the_calendar(steps: list[tuple[float, int, str]]) -> None:
    meter, plain, date = Meter(Limits(tokens_per_day=1)), Plain(), 500 * DAY
    for step, tokens, deed in steps:
        date = max(0.0, date + step * DAY)
        if deed == "recall":
            day = int(date // DAY) + tokens - 4  # the clock may have been another then
            meter.recall(day, tokens)
            plain.recall(day, tokens)
            continue
        if deed == "take" and tokens:
            meter.begin(0.0)
            meter.leave(tokens, date)
        plain.take(tokens if deed == "take" else 0, date)
        assert meter.tokens(date) == plain.tokens
