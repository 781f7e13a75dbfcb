"""Which idle models go for one that needs room: the set that suffices and whose loss costs least.

    cost = (load seconds + 1) / (idle seconds + 1)

What took long to load is dear, what nobody has asked for in a long time is cheap; what is large goes where it spares
several small ones, since only what is missing has to be freed. No model goes where those of lower priority suffice.
Where nothing but a place is missing, bytes say nothing and the least recently used one goes. Nobody goes in vain: if
even all do not suffice, none does, and no set holds one without which it would suffice too.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Mapping, Sequence

from llamarouter.core.residents import Resident
from llamarouter.core.space import PLACES, held_by, without

# Up to so many candidates every set is looked at (2 to their power, at worst); beyond, a good one is found.
_EXACT = 10


def idle_victims(residents: Iterable[Resident], *, now: float) -> list[Resident]:
    """The idle ones that may go, the least recently used first. `now`: infinity spares no fresh one."""
    return by_use(one for one in residents if one.is_open and not one.in_flight and may_go(one, now))


def by_use(residents: Iterable[Resident]) -> list[Resident]:
    """The order in which they go: the lowest priority first, then the least recently used."""
    return sorted(residents, key=lambda one: (one.policy.priority, one.idle_since))


def may_go(resident: Resident, now: float) -> bool:
    return not resident.policy.pinned and now >= resident.keeps_until


def cost_of(resident: Resident, now: float) -> float:
    """What it costs to lose an idle model, in loads a second that may have to be done again."""
    learnt = resident.policy.load_seconds
    load = resident.load_seconds if learnt is None else learnt
    return (load + 1.0) / (max(0.0, now - resident.idle_since) + 1.0)


def loss_of(victims: Iterable[Resident], abandoned: Collection[str], now: float) -> tuple[float, float]:
    """What their loss weighs: the highest priority among them, then the costs together."""
    losses = [_loss(one, abandoned, now) for one in victims]
    return max(rank for rank, _ in losses), sum(cost for _, cost in losses)


def _loss(resident: Resident, abandoned: Collection[str], now: float) -> tuple[float, float]:
    if resident.model in abandoned:
        return -math.inf, 0.0
    return resident.policy.priority, cost_of(resident, now)


def cheapest(
    candidates: Sequence[Resident], lacking: Mapping[str, int], abandoned: Collection[str], now: float
) -> list[Resident] | None:
    """Those of `candidates` (in the order of use) that go for what is lacking; None: not even all suffice."""
    losses = {one.model: _loss(one, abandoned, now) for one in candidates}
    useful = [one for one in candidates if lacking.keys() & held_by(one).keys()]
    for rank in sorted({losses[one.model][0] for one in useful}):
        allowed = [one for one in useful if losses[one.model][0] <= rank]
        if without(lacking, map(held_by, allowed)):
            continue
        if lacking.keys() == {PLACES}:
            return allowed[: lacking[PLACES]]
        costs = {one.model: losses[one.model][1] for one in allowed}
        allowed.sort(key=lambda one: costs[one.model])
        chosen = _exact(allowed, lacking, costs) if len(allowed) <= _EXACT else allowed
        return spared(chosen, lacking)
    return None


def spared(chosen: Iterable[Resident], lacking: Mapping[str, int]) -> list[Resident]:
    """`chosen` without those that need not go; the last ones are spared first."""
    kept = list(chosen)
    for one in reversed(tuple(kept)):
        others = [other for other in kept if other is not one]
        if not without(lacking, map(held_by, others)):
            kept = others
    return kept


def _exact(candidates: Sequence[Resident], lacking: Mapping[str, int], costs: Mapping[str, float]) -> list[Resident]:
    """The set of least cost that suffices (all of them do); of equal ones the first that is found."""
    best, found = math.inf, list(candidates)
    agenda: list[tuple[int, float, tuple[Resident, ...], Mapping[str, int]]] = [(0, 0.0, (), lacking)]
    while agenda:
        index, cost, chosen, rest = agenda.pop()
        if cost >= best:
            continue
        if not rest:
            best, found = cost, list(chosen)
        elif index < len(candidates):
            one = candidates[index]
            agenda.append((index + 1, cost, chosen, rest))
            agenda.append((index + 1, cost + costs[one.model], (*chosen, one), without(rest, (held_by(one),))))
    return found
