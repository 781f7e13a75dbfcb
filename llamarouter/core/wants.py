"""Wants: the models that somebody waits for and that have no child that could serve, in the order of their right."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import NamedTuple

from llamarouter.core.cooldown import Cooldowns
from llamarouter.core.memory import Placement
from llamarouter.core.residents import Phase, Resident
from llamarouter.core.waiting import Queue

# Where memory is not looked at, a place is all that a model needs.
ANYWHERE = (Placement({}),)


class Want(NamedTuple):
    """A model that somebody waits for and that has no child, or only one that is being stopped."""

    model: str
    since: float
    modest: bool = False  # its last failure would happen again: only what nobody else wants is for it
    placements: tuple[Placement, ...] = ANYWHERE  # the preferred first; none: it is being appraised
    fresh: bool = True  # whether they were looked at just now: nothing starts by older ones
    pinned: bool = False  # where memory is looked at: once it is there, it goes for nobody


def wants_of(queue: Queue, residents: Mapping[str, Resident], cooldowns: Cooldowns, most: int | None) -> list[Want]:
    """The models that want a place, those first that have wanted one for longest; the modest last.

    Of those that are not modest only the first `most` (None: all).
    """
    modest = cooldowns.hopeless()
    firm: list[Want] = []
    for line in queue.eldest():
        if most is not None and len(firm) >= most:
            break
        if line.model not in modest and _has_no_child(residents.get(line.model)):
            firm.append(Want(line.model, line.mark[0]))
    late = (queue.line_of(model) for model in modest if _has_no_child(residents.get(model)))
    marks = sorted((line.mark, line.model) for line in late if line is not None)
    return [*firm, *(Want(model, mark[0], modest=True) for mark, model in marks)]


def _has_no_child(resident: Resident | None) -> bool:
    return resident is None or resident.phase is Phase.STOPPING


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
