"""What the times of a stream's chunks tell of the proxy in front: whether it holds tokens back.

    Stream(arrivals) through the public URL, and the same one straight from the router: the same pieces, or fewer?

Chunks that come within 5 ms of each other count as one arrival: the network joins those, too.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from msgspec import Struct

from llamarouter.core.findings import Finding, Severity

AREA = "front"
_ONE_ARRIVAL = 0.005  # seconds
_LEAST_EVENTS = 8  # fewer say nothing
_JOINED = 3.0  # so many times fewer arrivals are no accident
_LONG = 0.15  # seconds from the first token to the last; a quicker answer may arrive as one
FIX = "`proxy_buffering off; proxy_cache off; gzip off;` in the location (docs/nginx.conf)"


class Stream(Struct, frozen=True):
    """When what came: (seconds since the request, events in it)."""

    pieces: Sequence[tuple[float, int]]

    @property
    def events(self) -> int:
        return sum(count for _, count in self.pieces)

    @property
    def lasted(self) -> float:
        """From the first piece to the last."""
        return self.pieces[-1][0] - self.pieces[0][0] if self.pieces else 0.0

    @property
    def arrivals(self) -> int:
        found, last = 0, -1.0
        for at, _ in self.pieces:
            found += at - last > _ONE_ARRIVAL
            last = at
        return found


def stream_findings(through: Stream, direct: Stream | None, url: str) -> Iterator[Finding]:
    """`direct`: the same question without the proxy; None: there was no way round it."""
    if through.events < _LEAST_EVENTS:
        yield Finding(AREA, Severity.WARNING, f"the stream had only {through.events} events: nothing can be said", url)
    elif direct is None:
        yield _alone(through, url)
    elif direct.lasted < _LONG or direct.arrivals < _LEAST_EVENTS:
        what = "the answer was over too soon to see whether the proxy holds it back"
        yield Finding(AREA, Severity.NOTE, what, url, "ask a slower model: --model")
    elif through.arrivals * _JOINED < direct.arrivals:
        yield _held_back(through, url, f"; straight from the router they come in {direct.arrivals}")
    else:
        yield Finding(AREA, Severity.FINE, f"{through.events} events came in {through.arrivals} arrivals, as made", url)


def _alone(through: Stream, url: str) -> Finding:
    if through.arrivals * _JOINED < through.events:
        return _held_back(through, url, "")
    return Finding(AREA, Severity.FINE, f"{through.events} events came in {through.arrivals} arrivals", url)


def _held_back(through: Stream, url: str, beside: str) -> Finding:
    what = f"the proxy holds tokens back: {through.events} events came in {through.arrivals} arrivals{beside}"
    return Finding(AREA, Severity.ERROR, what, url, FIX)
