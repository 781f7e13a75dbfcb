"""The breaker of one model: what fails three times within a minute is tried by one request at a time.

              third failure within WINDOW            its pause is over             the load fails
    CLOSED -----------------------------> OPEN ------------------------> HALF OPEN -------------> OPEN, for longer
       ^                                   ^                                | ready
       |                                   `---- fails within WINDOW ---- ON TRIAL
       `--------------------------------------------- WINDOW without a failure ---'

OPEN: 20, 40, 60, 60 ... s, and whoever comes is refused at once. HALF OPEN: the first who comes is the probe, and the
load is for it alone: *whoever comes while it waits or loads is refused*, too, for he would most likely be told the same
a moment later, and his client can go elsewhere meanwhile. If the probe's client leaves, the next one takes its place.
As soon as the model is ready everybody may go in, but a failure within a minute opens the breaker again, for longer: a
model that dies by its first answer, after each load, is no healthier than one that cannot be loaded.

Both kinds of failures count alike. So a model that fails at once, or as soon as it is loaded, is started eight times in
five minutes, however many ask for it; one that fails in the worst rhythm, always within a minute, ten times.
The numbers are those of Erlang's restart intensity and Envoy's growing ejections.
"""

from __future__ import annotations

from msgspec import Struct

THRESHOLD = 3  # failures
WINDOW = 60.0  # seconds
FIRST, LONGEST = 20.0, 60.0  # seconds of a pause


class Breaker(Struct, frozen=True):
    """What is known of one model; times are those of the failures and loads."""

    recent: tuple[float, ...] = ()  # the last failures, at most `THRESHOLD`
    trips: int = 0  # how often in a row it has opened; 0: it is closed
    ready_at: float | None = None  # of the last load, if nothing has failed since

    def failed(self, now: float) -> Breaker:
        """After one failure more."""
        recent = (*(at for at in self.recent if now < at + WINDOW), now)[-THRESHOLD:]
        again = bool(self.trips) and not self._has_proved_itself(now)
        if again or len(recent) >= THRESHOLD:
            return Breaker(recent, self.trips + 1 if again else 1)
        return Breaker(recent)

    def loaded(self, now: float) -> Breaker:
        """After a load that succeeded."""
        return Breaker(self.recent, self.trips, now)

    @property
    def pause(self) -> float:
        """Seconds from the last failure in which nobody may try; 0.0 where the breaker is closed."""
        return min(LONGEST, FIRST * 2.0 ** min(self.trips - 1, 10)) if self.trips else 0.0

    @property
    def wants_a_probe(self) -> bool:
        """Once the pause is over: one request may try, and no other until it is ready."""
        return bool(self.trips) and self.ready_at is None

    def _has_proved_itself(self, now: float) -> bool:
        return self.ready_at is not None and now >= self.ready_at + WINDOW


CLOSED = Breaker()
