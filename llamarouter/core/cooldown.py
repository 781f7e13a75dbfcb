"""How long a model that fails is left alone: 1, 2, 4 ... 60 s, the first crash of a model that served excepted.

    a load fails            2^n s          n: failures before this one, forgotten after `HEALTHY` seconds without any
    a ready child crashes   0 s if n = 0, else 2^(n-1) s: what ran well is restarted at once, once
    the breaker is open     its pause instead (`breaker`): 20, 40, 60 s

The end of a cool-down starts nothing: the next request does, and whoever comes while it loads waits with it, unless
the breaker lets one in only. The scheme is the kubelet's (its CrashLoopBackOff), with a lower top.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

from msgspec import Struct
from msgspec.structs import replace

from llamarouter.core.breaker import CLOSED, Breaker
from llamarouter.core.errors import RouterError

LONGEST = 60.0
HEALTHY = 600.0


class Failure(Struct, frozen=True):
    """The last failure of a model: what its waiters were told, and when."""

    error: RouterError
    at: float
    count: int  # in a row
    deterministic: bool = False  # it would fail in the same way again
    took: float = 0.0  # seconds of the load that failed, or that the failed run had begun with
    breaker: Breaker = CLOSED

    @property
    def is_broken(self) -> bool:
        """Whether the breaker has opened."""
        return self.breaker.trips > 0


class _Record(Struct, frozen=True):
    failure: Failure
    until: float
    current: bool = True  # False: the model has been loaded since


class Cooldowns:
    """The failures of all models. `jitter` gives a factor for each delay, so that models do not retry in step."""

    def __init__(self, jitter: Callable[[], float] = lambda: 1.0) -> None:
        self._jitter = jitter
        self._records: dict[str, _Record] = {}

    def failed(
        self,
        model: str,
        error: RouterError,
        now: float,
        *,
        deterministic: bool = False,
        spare_first: bool = False,
        took: float = 0.0,
    ) -> float:
        """Note a failure; returns for how many seconds the model is left alone. `spare_first`: the first costs
        none, unless it is deterministic. `took`: see `Failure`.
        """
        last = self._remembered(model, now)
        before, breaker = (0, CLOSED) if last is None else (last.count, last.breaker)
        breaker = breaker.failed(now)
        steps = before - 1 if spare_first and not deterministic else before
        # The exponent is bounded too: a float overflows after 1,024 failures.
        delay = breaker.pause or (min(LONGEST, 2.0 ** min(steps, 10)) if steps >= 0 else 0.0)
        delay *= self._jitter()
        self._records[model] = _Record(Failure(error, now, before + 1, deterministic, took, breaker), now + delay)
        return delay

    def loaded(self, model: str, now: float) -> None:
        """The model is ready: its last failure is no longer its state, but still counts if it fails again soon."""
        record = self._records.get(model)
        if record is not None:
            failure = replace(record.failure, breaker=record.failure.breaker.loaded(now))
            self._records[model] = _Record(failure, record.until, current=False)

    def forget(self, model: str) -> None:
        """The model is another one now: what the old one did says nothing."""
        self._records.pop(model, None)

    def models(self) -> Iterable[str]:
        """All of which a failure is remembered."""
        return self._records

    def hopeless(self) -> set[str]:
        """Those whose last failure would happen again, and that have not been loaded since."""
        return {model for model in self._records if self.is_hopeless(model)}

    def is_hopeless(self, model: str) -> bool:
        """Whether its last failure would happen again."""
        failure = self.failure_of(model)
        return failure is not None and failure.deterministic

    def left(self, model: str, now: float) -> float:
        """Seconds until the model may be tried again; 0: at once."""
        record = self._records.get(model)
        return 0.0 if record is None else max(0.0, record.until - now)

    def probed(self, model: str, now: float) -> Failure | None:
        """The last failure of a model whose breaker lets one request in only; None: it lets in everybody."""
        failure = self._remembered(model, now)
        return failure if failure is not None and failure.breaker.wants_a_probe else None

    def failure_of(self, model: str) -> Failure | None:
        """Why the last load or run ended, unless the model has been loaded since."""
        record = self._records.get(model)
        return record.failure if record is not None and record.current else None

    def _remembered(self, model: str, now: float) -> Failure | None:
        """The last failure, as long as it counts."""
        record = self._records.get(model)
        return record.failure if record is not None and now < record.failure.at + HEALTHY else None
