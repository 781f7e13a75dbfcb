"""Who gets a place, and who has to give one up: a frozen plan, made from what is there and carried out by others.

    a model wants a place -- one is free --------------------------------> start it
                          -- enough are being freed already -------------> wait
                          -- a load has nobody left who waits for it ----> evict it
                          -- all places are held by pinned models -------> refuse it, with their names
                          -- somebody is idle ---------------------------> evict the least recently used of them
                          -- all are busy, and it has waited `max_wait` -> claim the least recently used of them:
                                                                           it takes no newcomers, drains, is stopped
Idle before busy, always: by plain least-recently-used a busy victim that drains becomes the newest and the choice
flips for ever. A pinned model never goes. Where priorities differ, the lowest of those that may go comes first, used
recently or not: a priority spares nobody who is the last to be had, so nobody starves for it. A claim stands until its
place is needed no more; which of two claims is given back: the later one.

A *modest* want (of a model that would only fail again) never costs another its place: it comes after all others, and
is refused where neither a free place nor one that is being freed is left for it.

A fresh model keeps its place for as long as it took to load, busy or idle: a client that asks one question after the
other leaves its model idle in between, and models in turns are to spend at most half of the time loading.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass

from llamarouter.core.cooldown import Cooldowns
from llamarouter.core.residents import Phase, Resident
from llamarouter.core.waiting import Queue


@dataclass(frozen=True, slots=True)
class Want:
    """A model that somebody waits for and that has no child, or only one that is being stopped."""

    model: str
    since: float
    modest: bool = False  # its last failure would happen again: only what nobody else wants is for it


@dataclass(frozen=True, slots=True)
class Plan:
    """What is to be done about the places now. Every entry is a model."""

    start: tuple[str, ...] = ()
    evict: tuple[str, ...] = ()
    claim: tuple[str, ...] = ()
    release: tuple[str, ...] = ()  # claims that are needed no more
    refuse: tuple[str, ...] = ()  # modest wants for which there is no place
    hopeless: tuple[str, ...] = ()  # wants while pinned models hold every place
    look_again: float | None = None  # when the plan may change although nothing happens


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


def plan_places(
    wants: Sequence[Want],
    residents: Sequence[Resident],
    *,
    abandoned: Collection[str] = (),
    places: int | None,
    max_wait: float,
    now: float,
) -> Plan:
    """Share out `places` (None: without limit). `wants` in the order in which they have a right to one, modest last.

    `abandoned`: the models that load though nobody waits for them any more.
    """
    kept = sum(one.policy.pinned and one.leaving is None for one in residents)
    if places is not None and kept >= places:
        return Plan(hopeless=tuple(want.model for want in wants))
    here = {resident.model for resident in residents}
    absent = [want for want in wants if want.model not in here]
    free = len(absent) if places is None else max(0, places - len(residents))
    start = [want.model for want in absent[:free]]
    started = set(start)

    # What is left over wants the places that become free, and so do those whose old child is still being stopped.
    unserved = [want for want in wants if want.model not in started]
    stopping = sum(resident.phase is Phase.STOPPING for resident in residents)
    open_ones = [resident for resident in residents if resident.is_open]
    firm = [want for want in unserved if not want.modest]
    modest = [want.model for want in unserved if want.modest]
    shortfall = len(firm) - stopping
    spare = [resident for resident in residents if resident.phase is Phase.STARTING and resident.model in abandoned]
    evict = [*spare, *idle_victims(open_ones, now=now)][: max(0, shortfall)]

    overdue = sum(now >= want.since + max_wait for want in firm)
    draining = sum(_leaves(resident) and not resident.is_claimed for resident in residents)
    needed = max(0, overdue - stopping - len(evict) - draining)
    claimed = [resident.model for resident in residents if resident.is_claimed]
    victims = [one for one in open_ones if one not in evict and _may_go(one, now)]
    claim = _by_use(victims)[: max(0, needed - len(claimed))]
    return Plan(
        start=tuple(start),
        evict=tuple(one.model for one in evict),
        claim=tuple(one.model for one in claim),
        release=tuple(claimed[needed:]),
        refuse=tuple(modest[max(0, -shortfall) :]),
        look_again=_look_again(firm, open_ones, max_wait=max_wait, now=now),
    )


def idle_victims(residents: Iterable[Resident], *, now: float) -> list[Resident]:
    """The idle ones that may go, the least recently used first. `now`: infinity spares no fresh one."""
    return _by_use(one for one in residents if one.is_open and not one.in_flight and _may_go(one, now))


def _by_use(residents: Iterable[Resident]) -> list[Resident]:
    return sorted(residents, key=lambda one: (one.policy.priority, one.idle_since))


def _may_go(resident: Resident, now: float) -> bool:
    return not resident.policy.pinned and now >= resident.keeps_until


def _leaves(resident: Resident) -> bool:
    """Whether it still serves, and will be stopped then."""
    return resident.phase is Phase.READY and resident.leaving is not None


def _look_again(
    unserved: Sequence[Want], open_ones: Sequence[Resident], *, max_wait: float, now: float
) -> float | None:
    """Only what lies ahead counts: a time that is over would be looked at again and again."""
    if not unserved:
        return None
    times = [want.since + max_wait for want in unserved] + [one.keeps_until for one in open_ones]
    return min((time for time in times if time > now), default=None)
