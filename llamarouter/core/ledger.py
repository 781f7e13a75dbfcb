"""The ledger: who waits, who lives, who is inside and what has failed; the scheduler writes it, everybody may look.

Nothing here decides or changes anything.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from llamarouter.core.cooldown import Cooldowns, Failure
from llamarouter.core.events import StopReason
from llamarouter.core.expiry import expiry_of
from llamarouter.core.outlook import Outlook, outlook_of
from llamarouter.core.paces import Paces
from llamarouter.core.policy import Policies, Policy
from llamarouter.core.residents import Phase, Resident
from llamarouter.core.waiting import Lane, Queue


class Ledger:
    """The state of the scheduler, and its views."""

    def __init__(self, jitter: Callable[[], float]) -> None:
        self._queue = Queue()
        self._residents: dict[str, Resident] = {}
        self._inside: dict[int, tuple[Resident, Lane, float]] = {}  # where, and since when
        self._cooldowns = Cooldowns(jitter)
        self._policies = Policies()
        self._paces = Paces(self._policies)

    def phase_of(self, model: str) -> Phase:
        resident = self._residents.get(model)
        return Phase.ABSENT if resident is None else resident.phase

    def in_flight(self, model: str) -> int:
        """Requests inside the child that lives now."""
        resident = self._residents.get(model)
        return 0 if resident is None else resident.in_flight

    def waiting(self, model: str) -> int:
        return self._queue.waiting(model)

    def last_used(self, model: str) -> float | None:
        """When the living child was last given a request, or became idle; None: never."""
        resident = self._residents.get(model)
        return None if resident is None else resident.last_used

    def is_claimed(self, model: str) -> bool:
        """Whether the child takes no newcomers because its place is wanted."""
        resident = self._residents.get(model)
        leaving = None if resident is None else resident.leaving
        return leaving is not None and leaving.reason is StopReason.EVICTED

    def policy_of(self, model: str) -> Policy:
        """How long it stays, as it holds now."""
        return self._policies.of(model)

    def pinned(self) -> list[str]:
        """All that are pinned now, loaded or not."""
        return self._policies.pinned()

    def expires_in(self, model: str, now: float) -> float | None:
        """Seconds until its process ends if nobody asks for it; None: it does not end by itself, or is not idle."""
        resident = self._residents.get(model)
        due = None if resident is None or resident.is_used else expiry_of(resident)
        return None if due is None else max(0.0, due - now)

    def cooldown_left(self, model: str, now: float) -> float:
        return self._cooldowns.left(model, now)

    def failure_of(self, model: str) -> Failure | None:
        """Why the model is not there, if it failed and has not been loaded since."""
        return self._cooldowns.failure_of(model)

    def restless(self) -> set[str]:
        """The models for which somebody waits, those that have failed, and those pinned or unpinned at run time."""
        waited_for = (line.model for line in self._queue.lines)
        return {*waited_for, *self._cooldowns.models(), *self._policies.changed()}

    def living(self) -> tuple[str, ...]:
        """The models that hold a place, in the order of their start."""
        return tuple(self._residents)

    def held(self) -> dict[str, Mapping[str, int]]:
        """What each child holds, or will once it is loaded: bytes by device, by model."""
        return {model: resident.needs for model, resident in self._residents.items()}

    def outlook(self, ticket: int, now: float) -> Outlook | None:
        """What a request waits for; None: it does not wait."""
        return outlook_of(ticket, self._queue, self._residents, self._paces, now)

    def loaded_since(self, model: str, since: float, now: float) -> float:
        """How many seconds of the time since then a child of the model was loading: the one that is there, or the one
        that has failed last."""
        resident, failure = self._residents.get(model), self._cooldowns.failure_of(model)
        if resident is not None:
            begun, ended = resident.started_at, now if resident.phase is Phase.STARTING else resident.ready_at
        elif failure is not None:
            begun, ended = failure.at - failure.took, failure.at
        else:
            return 0.0
        return max(0.0, ended - max(since, begun))

    def load_seconds(self, model: str) -> float | None:
        """How long a load of the model takes, as far as that was learnt."""
        return self._paces.load_of(model)

    def idle(self) -> bool:
        """Nothing lives, nobody waits, nobody is inside: after `Closing`, the end."""
        return not self._residents and not self._queue and not self._inside
