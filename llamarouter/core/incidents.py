"""The failures of models as they are remembered: the last few of each, with all that is needed to understand them."""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Iterable

from msgspec import Struct

from llamarouter.core.discretion import without_debug

PER_MODEL = 10
MODELS = 200  # those that failed longest ago are forgotten first
LOG_LINES = 40
REFUSED = "refused"  # nothing was started
_LINE = 500  # characters


class Incident(Struct, frozen=True, kw_only=True):
    """One failure. Nothing in it is secret; its log has the paths that those for clients are without."""

    model: str
    at: float  # unix seconds
    cause: str  # the word of a `Cause`, or the reason of a refusal; kept ones may be of another version
    message: str
    hint: str = ""
    stage: str = "loading"  # or serving, or `REFUSED`
    lasted: float = 0.0  # seconds from the spawn to the end
    inside: int = 0  # requests
    command: tuple[str, ...] = ()
    code: int | None = None
    signal: str | None = None
    log: tuple[str, ...] = ()


class Incidents:
    """The last failures of all models, within bounds."""

    def __init__(self, known: Iterable[Incident] = ()) -> None:
        self._by_model: OrderedDict[str, deque[Incident]] = OrderedDict()
        for incident in known:
            self.add(incident)

    def __len__(self) -> int:
        return sum(len(incidents) for incidents in self._by_model.values())

    def add(self, incident: Incident) -> None:
        """It is the latest of its model."""
        self._by_model.setdefault(incident.model, deque(maxlen=PER_MODEL)).append(incident)
        self._by_model.move_to_end(incident.model)
        if len(self._by_model) > MODELS:
            self._by_model.popitem(last=False)

    def of(self, model: str) -> tuple[Incident, ...]:
        """Those of one model, the latest first."""
        return tuple(reversed(self._by_model.get(model, ())))

    def all(self) -> tuple[Incident, ...]:
        """Everything in an order in which it can be added again."""
        return tuple(incident for incidents in self._by_model.values() for incident in incidents)

    def models(self) -> tuple[str, ...]:
        """Those that have failed, the latest last."""
        return tuple(self._by_model)


def log_tail(lines: tuple[str, ...]) -> tuple[str, ...]:
    """The end of a log, as far as it is that of the last process: notes of the router begin with `---`.

    It is for a file: what is said for debugging only, requests among it, stays out.
    """
    lines = tuple(without_debug(lines))
    begin = next((number for number in range(len(lines) - 1, -1, -1) if lines[number].startswith("--- ")), -1)
    return tuple(line[:_LINE] for line in lines[begin + 1 :][-LOG_LINES:])
