"""The queue: who waits for which model, in arrival order, within limits.

    Queue -- Line (one per model that somebody waits for) -- Lane (SLOT, OPEN, GLANCE, LOAD) -- Waiter

A lane is served first come, first served; lanes of one line do not wait for each other, for what is scarce in one is
not scarce in the other. Lines are ordered by their `Mark`: the moment since which their model wants a place. That is
the arrival of its oldest waiter, or the moment its former child took no more newcomers, if that was later: a model that
had its turn goes behind those that have not. Everything but a view costs O(1), or next to it.
"""

from __future__ import annotations

import enum
from bisect import insort
from collections import OrderedDict
from collections.abc import Iterator

from msgspec import Struct, field

# When, and as the how-manieth event: the second number decides between equal times.
Mark = tuple[float, int]


class Lane(enum.Enum):
    """What a request needs in a child."""

    SLOT = "slot"  # one of its slots
    OPEN = "open"  # only a connection
    GLANCE = "glance"  # as OPEN, but it is no use of the model: its idle time goes on
    LOAD = "load"  # nothing: it is over as soon as the model is ready


class Waiter(Struct, frozen=True):
    """One request in the queue."""

    ticket: int
    model: str
    lane: Lane
    body_bytes: int
    autoload: bool  # False: it may wait for a child, but must not cause one
    mark: Mark  # when it arrived


class Line(Struct):
    """Those who wait for one model."""

    model: str
    lanes: dict[Lane, OrderedDict[int, Waiter]] = field(default_factory=lambda: {lane: OrderedDict() for lane in Lane})
    barred: Mark = (float("-inf"), 0)  # when the model's child last stopped taking newcomers
    waiters: OrderedDict[int, Waiter] = field(default_factory=OrderedDict)  # of all lanes, as they came
    listed: Mark = (float("-inf"), 0)  # the mark under which the queue has put it in order

    def __iter__(self) -> Iterator[Waiter]:
        return iter(self.waiters.values())

    def first(self, lane: Lane) -> Waiter | None:
        """The oldest waiter of `lane`."""
        waiters = self.lanes[lane]
        return next(iter(waiters.values())) if waiters else None

    def head(self) -> Waiter | None:
        """Who came first, whatever he needs."""
        return next(iter(self.waiters.values())) if self.waiters else None

    @property
    def mark(self) -> Mark:
        """Since when the model wants a place (asked only of a line in which somebody stands)."""
        return max(self.oldest, self.barred)

    @property
    def oldest(self) -> Mark:
        """When he came who has waited for longest (asked only of a line in which somebody stands)."""
        return next(iter(self.waiters.values())).mark


class Queue:
    """All lines, and all waiters."""

    def __init__(self) -> None:
        self.everybody: dict[int, Waiter] = {}  # by ticket; for others to read
        self._lines: dict[str, Line] = {}
        # All lines by their marks, as they were once: a mark only ever rises, so what is stale stands too far in front.
        self._order: list[tuple[Mark, str]] = []
        self.bytes = 0  # of the bodies of those who wait

    def __len__(self) -> int:
        return len(self.everybody)

    @property
    def lines(self) -> tuple[Line, ...]:
        """Every line in which somebody stands, in no order."""
        return tuple(self._lines.values())

    def line_of(self, model: str) -> Line | None:
        return self._lines.get(model)

    def waiting(self, model: str) -> int:
        """How many wait for `model`."""
        line = self._lines.get(model)
        return 0 if line is None else len(line.waiters)

    def waiter(self, ticket: int) -> Waiter | None:
        """Who waits with `ticket`."""
        return self.everybody.get(ticket)

    def ahead_of(self, waiter: Waiter) -> int:
        """How many stand before one who waits, in his lane: a view, which counts them."""
        for ahead, ticket in enumerate(self._lines[waiter.model].lanes[waiter.lane]):
            if ticket == waiter.ticket:
                return ahead
        raise KeyError(waiter.ticket)

    def eldest(self) -> Iterator[Line]:
        """Every line in which somebody stands, the one whose model has wanted a place for longest first."""
        order, index = self._order, 0
        while index < len(order):
            listed, model = order[index]
            line = self._lines.get(model)
            if line is not None and line.listed == listed:
                mark = line.mark
                if mark == listed:
                    index += 1
                    yield line
                    continue
                line.listed = mark
                insort(order, (mark, model), lo=index + 1)
            del order[index]

    def join(self, waiter: Waiter) -> None:
        line = self._lines.get(waiter.model)
        if line is None:
            line = self._lines[waiter.model] = Line(waiter.model, listed=waiter.mark)
            insort(self._order, (waiter.mark, waiter.model))
        line.lanes[waiter.lane][waiter.ticket] = waiter
        line.waiters[waiter.ticket] = waiter
        self.everybody[waiter.ticket] = waiter
        self.bytes += waiter.body_bytes

    def leave(self, ticket: int) -> Waiter | None:
        """Take `ticket` out, wherever it stands; None if it does not wait."""
        waiter = self.everybody.pop(ticket, None)
        if waiter is None:
            return None
        line = self._lines[waiter.model]
        del line.lanes[waiter.lane][ticket]
        del line.waiters[ticket]
        if not line.waiters:
            del self._lines[waiter.model]
        self.bytes -= waiter.body_bytes
        return waiter

    def bar(self, model: str, mark: Mark) -> None:
        """The child of `model` takes no newcomers from `mark` on: its line goes behind those who wait already."""
        line = self._lines.get(model)
        if line is not None:
            line.barred = mark
