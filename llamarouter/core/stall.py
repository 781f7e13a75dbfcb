"""When is a child stuck? From what it was seen to do, and when; no wall clock on work that moves.

A load is stuck when nothing moves at all (no output, no bytes read, no CPU time) for the limit, or when for a long time
nothing moves but talk and CPU. A child with work is looked at once its answers have been silent for the limit. Then:

    /slots does not answer, twice, at least 5 s apart, and no CPU time between    -> stuck (stopped, dead-locked)
    /slots answers, and for the limit neither it nor the CPU time moves           -> stuck (its computing is dead)
    for ten times the limit it is silent and /slots does not move                 -> stuck (spinning)

A slow prefill on a CPU keeps /slots waiting for minutes: silence and a slow answer alone prove nothing. A long answer
that is not streamed is silent to its end: its slot moves. The comments that llama-server writes into a silent stream
break no silence: they come from the thread of the connection, whatever has become of the one that computes.
"""

from __future__ import annotations

from msgspec import Struct

# Seconds after which a load that talks and computes but reads nothing and gets no further is given up.
LOAD_CAP = 1800.0
_PROBE_GAP = 5.0
_SILENCE_FACTOR = 10
# An idle llama-server and our own probes cost some CPU: less than this share of a core is no computing.
_IDLE_SHARE = 0.02
_TICKS = 0.03  # seconds; the kernel counts in hundredths


class Stillness(Struct):
    """How long something has stayed as it is."""

    since: float
    marks: object = None

    def seconds(self, marks: object, now: float) -> float:
        """Note what is seen now; the answer is how long it has been the same."""
        if marks != self.marks:
            self.marks, self.since = marks, now
        return now - self.since


class LoadWatch:
    """Watches one load. `limit`: seconds without any sign of progress."""

    def __init__(self, limit: float, now: float, cap: float = LOAD_CAP) -> None:
        self._limit = limit
        self._cap = max(cap, limit)
        self._life = Stillness(now)
        self._advance = Stillness(now)

    def stuck(
        self, now: float, *, output: int, progress: float, read_bytes: int | None, cpu_seconds: float | None
    ) -> str | None:
        """What is wrong, for people; None while the load moves. Counters are those since the start of the child."""
        where = f"at {progress:.0%}"
        still = self._life.seconds((output, read_bytes, cpu_seconds), now)
        if still >= self._limit:
            return f"the load made no progress for {_span(still)} ({where})"
        still = self._advance.seconds((progress, read_bytes), now)
        if still >= self._cap:
            return f"the load got no further for {_span(still)}, though it was busy ({where})"
        return None


class _Look(Struct, frozen=True):
    at: float
    cpu_seconds: float | None
    slots: bytes = b""

    def computed_until(self, now: float, cpu_seconds: float | None) -> bool:
        if cpu_seconds is None or self.cpu_seconds is None:
            return False
        return cpu_seconds - self.cpu_seconds > _IDLE_SHARE * (now - self.at) + _TICKS


class BusyWatch:
    """Watches a child with work, from the moment that it has been silent for `limit` seconds."""

    def __init__(self, limit: float) -> None:
        self._limit = limit
        self._gap = min(_PROBE_GAP, limit)
        self._unanswered: _Look | None = None
        self._still: _Look | None = None
        self._slots: bytes | None = None
        self._moved_at: float | None = None  # when `/slots` was first seen as it is

    def moved(self) -> None:
        """Bytes have come, or there is no work: begin anew."""
        self._unanswered = self._still = self._slots = self._moved_at = None

    def stuck(self, now: float, silence: float, slots: bytes | None, cpu_seconds: float | None) -> str | None:
        """What is wrong, for people; None if it may still be working.

        `slots`: what `/slots` answered, None when it did not. `cpu_seconds` is None where it cannot be read.
        """
        if slots is not None and slots != self._slots:
            self._moved_at = now if self._slots is not None else None
            self._slots = slots
        unmoved = silence if self._moved_at is None else min(silence, now - self._moved_at)
        if unmoved >= _SILENCE_FACTOR * self._limit:
            return f"it had requests and got no further for {_span(unmoved)}"
        seen = _Look(now, cpu_seconds, slots or b"")
        if slots is None:
            self._still = None
            first = self._unanswered
            if first is None or first.computed_until(now, cpu_seconds):
                self._unanswered = seen
            elif now - first.at >= self._gap:
                return f"it had requests, sent no byte for {_span(silence)} and does not answer"
            return None
        self._unanswered = None
        first = self._still
        if first is None or first.slots != seen.slots or first.computed_until(now, cpu_seconds):
            self._still = seen
        elif now - first.at >= self._limit:
            return f"it had requests, sent no byte for {_span(silence)} and computes nothing"
        return None


def _span(seconds: float) -> str:
    return f"{seconds:.1f} s" if seconds < 10 else f"{seconds:.0f} s"
