"""The time-out of answers: what nothing moves in for `--timeout` seconds is broken off.

    every now and then: has anything been read for this exchange since the last look?  no, for too long -> cut

The relay notes when it last read from a child anyway; only this looks at it, with one timer for all exchanges. So an
answer is broken off between `seconds` and a fourth more after its last byte. (llama-server has no such thing as a
limit for a whole answer, either.)
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from llamarouter.core.errors import UpstreamTimeout
from llamarouter.relay.traffic import Traffic

if TYPE_CHECKING:
    from llamarouter.relay.exchange import Exchange

_LOOK_AT_LEAST_EVERY = 30.0  # seconds

_Mark = tuple[int, float]  # which connection carries it, and when that was last read from


@contextmanager
def cutting_silent(traffic: Traffic, seconds: float) -> Iterator[None]:
    """Break off silent answers for as long as the block lasts."""
    watch = _Watch(traffic, seconds)
    try:
        yield
    finally:
        watch.cancel()


class _Watch:
    """What was seen at the last look."""

    def __init__(self, traffic: Traffic, seconds: float) -> None:
        self._traffic = traffic
        self._seconds = seconds
        self._every = min(seconds / 4, _LOOK_AT_LEAST_EVERY)
        self._loop = asyncio.get_running_loop()
        self._since: dict[Exchange, tuple[_Mark, float]] = {}  # the mark, and when it was new
        self._timer = self._loop.call_later(self._every, self._look)

    def cancel(self) -> None:
        self._timer.cancel()

    def _look(self) -> None:
        now = self._loop.time()
        before, self._since = self._since, {}
        for exchange in self._traffic.running():
            mark = _mark_of(exchange)
            last, since = before.get(exchange, (None, now))
            if last != mark:
                since = now
            if now - since >= self._seconds:
                message = f"nothing has come from the model for {self._seconds:g} s (--timeout)"
                exchange.cut(UpstreamTimeout(message))
            else:
                self._since[exchange] = (mark, since)
        self._timer = self._loop.call_later(self._every, self._look)


def _mark_of(exchange: Exchange) -> _Mark:
    upstream = exchange.upstream
    return (0, 0.0) if upstream is None else (id(upstream), upstream.heard_at)
