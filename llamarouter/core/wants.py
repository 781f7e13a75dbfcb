"""Wants: the models that somebody waits for and that have no child that could serve, in the order of their right."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from llamarouter.core.cooldown import Cooldowns
from llamarouter.core.memory import Placement
from llamarouter.core.residents import Phase, Resident
from llamarouter.core.waiting import Queue

# Where memory is not looked at, a place is all that a model needs.
ANYWHERE = (Placement({}),)


@dataclass(frozen=True, slots=True)
class Want:
    """A model that somebody waits for and that has no child, or only one that is being stopped."""

    model: str
    since: float
    modest: bool = False  # its last failure would happen again: only what nobody else wants is for it
    placements: tuple[Placement, ...] = ANYWHERE  # the preferred first; none: it is being appraised
    fresh: bool = True  # whether they were looked at just now: nothing starts by older ones


def wants_of(queue: Queue, residents: Mapping[str, Resident], cooldowns: Cooldowns) -> list[Want]:
    """The models that want a place, those first that have wanted one for longest; the modest last."""
    waiting = []
    for line in queue.lines:
        resident = residents.get(line.model)
        if resident is None or resident.phase is Phase.STOPPING:
            failure = cooldowns.failure_of(line.model)
            waiting.append((failure is not None and failure.deterministic, line.mark, line.model))
    waiting.sort()
    return [Want(model, mark[0], modest) for modest, mark, model in waiting]


def abandoned_among(residents: Iterable[Resident], queue: Queue) -> frozenset[str]:
    """The loads that nobody waits for any more. A second try is none: it ends with its last waiter by itself."""
    return frozenset(
        resident.model
        for resident in residents
        if resident.phase is Phase.STARTING and resident.waits_for is None and not queue.waiting(resident.model)
        if not resident.policy.pinned
    )


def ahead_of(residents: Iterable[Resident], queue: Queue) -> dict[str, float]:
    """By model: when he came who has waited for longest before a child that is there for him, but has no room."""
    lines = ((one, queue.line_of(one.model)) for one in residents if one.is_open)
    return {one.model: line.oldest[0] for one, line in lines if line is not None}
