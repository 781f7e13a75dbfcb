"""How fast things go, learnt from what the scheduler sees anyway: how long a model loads, how long its answers take.

    load      seconds of the last load that ended well
    answer    seconds of an answer that holds a slot, the newest weighing most; seen only while somebody waits
    pace      answer / slots: from one of a line to the next

Guesses, good enough to tell a client when to come back, and never used to decide anything.
"""

from __future__ import annotations

from msgspec import Struct

from llamarouter.core.policy import Policies
from llamarouter.core.residents import Phase, Resident

# Clients' libraries wait for no longer than a minute: told to, they come back at once instead.
_LONGEST = 60.0
_SHORTEST = 1.0
_NEWEST = 0.2  # the weight of one answer


class _Learnt(Struct):
    load: float | None = None
    slots: int = 1
    answer: float | None = None


class Paces:
    """What was learnt of all models."""

    def __init__(self, policies: Policies) -> None:
        self._policies = policies
        self._models: dict[str, _Learnt] = {}

    def loaded(self, resident: Resident) -> None:
        """A load has ended well."""
        learnt = self._models.setdefault(resident.model, _Learnt())
        learnt.load, learnt.slots = resident.load_seconds, resident.slots

    def answered(self, model: str, seconds: float) -> None:
        """An answer that held a slot for so long has ended."""
        learnt = self._models.get(model)
        if learnt is not None:
            before = learnt.answer
            learnt.answer = seconds if before is None else before + _NEWEST * (seconds - before)

    def forget(self, model: str) -> None:
        """The model is another one now."""
        self._models.pop(model, None)

    def load_of(self, model: str) -> float | None:
        """Seconds that its last load took, else those before this router was started."""
        learnt = self._models.get(model)
        load = None if learnt is None else learnt.load
        return self._policies.of(model).load_seconds if load is None else load

    def load_left(self, resident: Resident, now: float) -> float | None:
        """Seconds until a load that runs is over; None: not known, or later than was thought."""
        load = self.load_of(resident.model)
        left = 0.0 if load is None else resident.started_at + load - now
        return left if left > 0.0 else None

    def line_left(self, model: str, ahead: int, *, ready: bool) -> float | None:
        """Seconds until it is the turn of somebody behind `ahead` others, from now or (not `ready`) from when its model
        is ready.
        """
        learnt = self._models.get(model)
        if learnt is None:
            return None
        moves = ahead + 1 if ready else max(0, ahead + 1 - learnt.slots)
        if not moves:
            return 0.0
        return None if learnt.answer is None else moves * learnt.answer / learnt.slots

    def retry_after(self, model: str, resident: Resident | None, waiting: int, *, max_wait: float, now: float) -> float:
        """When half of those who wait for a model will have gone in: who comes back then finds room."""
        half = waiting // 2
        if resident is not None and resident.phase is Phase.READY and resident.leaving is None:
            seconds = self.line_left(model, half, ready=True)
            return _within(max_wait if seconds is None else seconds)
        turn = 0.0 if resident is not None and resident.phase is Phase.STARTING else max_wait
        load = self.load_left(resident, now) if resident is not None and not turn else self.load_of(model)
        line = self.line_left(model, half, ready=False)
        return _within(turn + (max_wait if load is None else load) + (line or 0.0))


def _within(seconds: float) -> float:
    return min(_LONGEST, max(_SHORTEST, seconds))
