"""Who gets room, and who has to make some: a frozen plan, made from what is there and carried out by others.

Room is a place (one of `--models-max`) and, where memory is looked at, bytes on the devices of one of the model's
placements. Every want is served in turn, the oldest first, from what the older ones have left:

    it fits now ---------------------------------------------------------------> start it
    it will fit when what is ending has ended ---------------------------------> wait; that room is its own
    idle models (or loads that nobody waits for) suffice ----------------------> evict the cheapest such set (`victims`)
    it has waited `max_wait`, and with busy ones it would fit -----------------> claim the least recently used of them:
                                                                                 they take no newcomers, drain, are
                                                                                 stopped; that room is its own
    else ----------------------------------------------------------------------> wait, and take nothing from anybody
    even with all gone that may ever go it would not fit ----------------------> refuse it

So a want whose room comes for certain, and one that has waited `max_wait`, has it before all younger ones; these may
take what is free beside it. One that waits for busy models has no right to anything before `max_wait`, or it would keep
free room empty for as long as somebody is busy.

Idle before busy, always: by plain least-recently-used a busy victim that drains becomes the newest and the choice
flips for ever. A claim stands until its room is needed no more; which of two claims is given back: the later one.

A *modest* want (of a model that would only fail again) never costs another its room: it comes after all others, and
is refused where neither free room nor some that is being freed is left for it.

A fresh model keeps its room for as long as it took to load, busy or idle: a client that asks one question after the
other leaves its model idle in between, and models in turns are to spend at most half of the time loading. A busy one
keeps it for up to four such times while somebody waits for it who came before the want: he goes before it.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from llamarouter.core.events import Sake, Scarce
from llamarouter.core.memory import Placement
from llamarouter.core.residents import Phase, Resident
from llamarouter.core.space import PLACES, Space, Spaces, fits, give, held_by, missing, take, without
from llamarouter.core.victims import by_use, cheapest, idle_victims, loss_of, may_go, spared
from llamarouter.core.wants import ANYWHERE, Want

__all__ = ["Plan", "Want", "idle_victims", "plan_places"]


@dataclass(frozen=True, slots=True)
class Plan:
    """What is to be done now. Every entry is a model."""

    start: tuple[str, ...] = ()
    evict: tuple[str, ...] = ()
    claim: tuple[str, ...] = ()
    keep: tuple[str, ...] = field(default=(), compare=False)  # claims that stand, though maybe for another one's sake
    release: tuple[str, ...] = ()  # claims that are needed no more
    refuse: tuple[str, ...] = ()  # modest wants for which there is no room
    hopeless: tuple[str, ...] = ()  # wants that would not fit even with all gone that may ever go
    stale: tuple[str, ...] = ()  # wants that fit by an appraisal that is too old to start by
    look_again: float | None = None  # when the plan may change although nothing happens
    placed: Mapping[str, Placement] = field(default_factory=dict, compare=False)  # how those of `start` are
    sakes: Mapping[str, Sake] = field(default_factory=dict, compare=False)  # of those of `evict`, `claim` and `keep`


def plan_places(
    wants: Sequence[Want],
    residents: Sequence[Resident],
    *,
    abandoned: Collection[str] = (),
    ahead: Mapping[str, float] | None = None,
    places: int | None,
    max_wait: float,
    now: float,
    devices: Spaces | None = None,
) -> Plan:
    """Share out `places` (None: without limit) and what there is of the `devices` (None: they are not looked at).

    `wants` in the order in which they have a right to it, modest last; `abandoned`: the models that load though nobody
    waits for them any more; `ahead`: by ready model, since when the first one waits for whom it has no room.
    """
    spaces = _spaces_of(residents, places, devices or Spaces())
    sharing = _Sharing(residents, abandoned, ahead or {}, spaces, max_wait, now)
    for want in wants:
        sharing.serve(want)
    return sharing.plan()


def _spaces_of(residents: Sequence[Resident], places: int | None, devices: Spaces) -> Spaces:
    """The devices, and the places as one more of them."""
    if places is None:
        return devices
    free = places - len(residents)
    stopping = sum(resident.phase is Phase.STOPPING for resident in residents)
    kept = sum(one.policy.pinned and one.leaving is None for one in residents)
    return Spaces(
        sure={PLACES: free, **devices.sure},
        firm={PLACES: free + stopping, **devices.firm},
        hope={PLACES: free + stopping, **devices.hope},
        most={PLACES: places - kept, **devices.most},
        known=None if devices.known is None else {PLACES: places - kept, **devices.known},
    )


class _Way(NamedTuple):
    """One placement of a want, and all that it takes."""

    placement: Placement
    needs: Mapping[str, int]


_A_PLACE = {PLACES: 1}
_ANY_WAY = [_Way(ANYWHERE[0], _A_PLACE)]


class _Sharing:
    """What is left, and what has been decided, while the wants are served one after the other."""

    def __init__(
        self,
        residents: Sequence[Resident],
        abandoned: Collection[str],
        ahead: Mapping[str, float],
        spaces: Spaces,
        max_wait: float,
        now: float,
    ) -> None:
        self._here = {resident.model for resident in residents}
        self._abandoned = abandoned
        self._ahead = ahead
        self._max_wait, self._now = max_wait, now
        self._sure: Space = dict(spaces.sure)
        # What there will be for certain, and what there may be, less what has been promised.
        self._firm: Space = dict(spaces.firm)
        self._later: Space = dict(spaces.hope)
        self._most, self._known = spaces.most, spaces.known
        loads: list[Resident] = []
        opened: list[Resident] = []
        draining: list[Resident] = []
        self._claimed: list[Resident] = []
        for one in residents:
            if one.phase is Phase.STARTING:
                loads.append(one)
            elif one.is_open:
                opened.append(one)
            elif one.is_draining:
                (self._claimed if one.is_claimed else draining).append(one)
        # Whom the wants can have: each goes to one of them.
        self._idle = [*(one for one in loads if one.model in abandoned), *idle_victims(opened, now=now)]
        self._going = [*draining, *self._claimed]
        self._busy = by_use(one for one in opened if one.in_flight and may_go(one, now))
        self._unripe = [one for one in (*loads, *opened) if not one.policy.pinned and one.model not in abandoned]
        self._opened = opened
        self._coming: list[Resident] = []  # what the older wants will be
        # What has been decided.
        self._start: dict[str, Placement] = {}
        self._evict: list[str] = []
        self._claim: list[str] = []
        self._needed: set[str] = set()  # of those that are claimed already
        self._sakes: dict[str, Sake] = {}
        self._refuse: list[str] = []
        self._hopeless: list[str] = []
        self._stale: list[str] = []
        self._waits: list[Want] = []
        self._full = False  # a want that takes a place and nothing else found nothing: nor will another one

    def plan(self) -> Plan:
        return Plan(
            start=tuple(self._start),
            evict=tuple(self._evict),
            claim=tuple(self._claim),
            keep=tuple(self._needed),
            release=tuple(one.model for one in self._claimed if one.model not in self._needed),
            refuse=tuple(self._refuse),
            hopeless=tuple(self._hopeless),
            stale=tuple(self._stale),
            look_again=self._look_again(),
            placed=self._start,
            sakes=self._sakes,
        )

    def serve(self, want: Want) -> None:
        """Decide what becomes of one want, now that all older ones have been served."""
        if not want.placements:  # what it needs is not known yet, but a place is among it
            self._promise(_A_PLACE, sure=want.model not in self._here)
            return
        if self._full and want.placements is ANYWHERE and not want.modest:
            self._waits.append(want)
            return
        ways = self._ways(want, self._most)
        if not ways:
            self._hopeless.append(want.model)
        elif not self._begins(want, ways):
            # Until somebody has looked what an end has freed, it may be another way than it has waited for: nothing is
            # started by that one yet, but it is nobody else's either.
            before = None if self._known is None else self._ways(want, self._known)
            self._must_wait(want, before or ways)

    @staticmethod
    def _ways(want: Want, most: Mapping[str, int]) -> list[_Way]:
        """The placements that may be had at all; a partial one only where no other may."""
        if want.placements is ANYWHERE:
            return _ANY_WAY if most.get(PLACES, 1) > 0 else []
        if most.get(PLACES, 1) <= 0:
            return []
        ways = [_Way(one, {PLACES: 1, **one.needs}) for one in want.placements if fits(one.needs, most)]
        return [way for way in ways if not way.placement.partial] or ways

    def _begins(self, want: Want, ways: Sequence[_Way]) -> bool:
        if want.model in self._here:
            return False
        for way in ways:
            if fits(way.needs, self._sure) and fits(way.needs, self._firm):
                self._promise(way.needs, sure=True)
                self._foresee(want, way)
                if want.fresh:
                    self._start[want.model] = way.placement
                else:
                    self._stale.append(want.model)
                return True
        return False

    def _must_wait(self, want: Want, ways: Sequence[_Way]) -> None:
        for way in ways:
            if fits(way.needs, self._later):
                self._promise(way.needs)
                if not want.modest:
                    self._waits.append(want)
                    self._foresee(want, way)
                return
        if want.modest:
            self._refuse.append(want.model)
            return
        self._waits.append(want)
        if self._frees(want, ways):
            return
        if self._now < want.since + self._max_wait or not self._claims(want, ways):
            self._full = want.placements is ANYWHERE

    def _frees(self, want: Want, ways: Sequence[_Way]) -> bool:
        """Evict the idle set that costs least, over all ways."""
        if not self._idle:
            return False
        found: list[tuple[tuple[float, float], int, list[Resident]]] = []
        for index, way in enumerate(ways):
            victims = cheapest(self._idle, missing(way.needs, self._later), self._abandoned, self._now)
            if victims is not None:
                found.append((loss_of(victims, self._abandoned, self._now), index, victims))
        if not found:
            return False
        _, index, victims = min(found, key=lambda one: one[:2])
        self._note_sake(want, ways[index], victims)
        self._use(victims)
        self._evict += [one.model for one in victims]
        self._promise(ways[index].needs)
        self._foresee(want, ways[index])
        return True

    def _claims(self, want: Want, ways: Sequence[_Way]) -> bool:
        """Take what is idle, going already, and busy, with the fewest new claims; else wait for what becomes ripe."""
        options: list[tuple[int, int, list[Resident]]] = []
        busy = [one for one in self._busy if not self._is_in_turn(one, want)]
        for index, way in enumerate(ways):
            chosen = self._enough([*self._idle, *self._going, *busy], way)
            if chosen is not None:
                options.append((sum(one in self._busy for one in chosen), index, chosen))
        claims = bool(options)
        if not options:
            for index, way in enumerate(ways):
                everybody = [*self._idle, *self._going, *self._unripe]
                chosen = self._enough(everybody, way)
                if chosen is not None:
                    options.append((0, index, chosen))
        if not options:
            return False  # older ones have been promised it
        _, index, chosen = min(options, key=lambda one: one[:2])
        if claims:
            self._claim += [one.model for one in chosen if one in self._busy]
        self._needed.update(one.model for one in chosen if one.is_claimed)
        self._note_sake(want, ways[index], chosen)
        firm = dict(self._firm)
        self._use(chosen)
        self._promise(ways[index].needs)
        if any(one in self._coming for one in chosen):
            # An older one has its turn first: what is to be left beside this one has to be left beside that one, too.
            self._firm = {device: min(size, self._firm[device]) for device, size in firm.items()}
        self._foresee(want, ways[index])
        return True

    def _note_sake(self, want: Want, way: _Way, victims: Iterable[Resident]) -> None:
        """Before anything is promised of them."""
        bytes_too = missing(way.needs, self._later).keys() - {PLACES}
        sake = Sake(want.model, Scarce.MEMORY if bytes_too else Scarce.PLACE)
        self._sakes.update((one.model, sake) for one in victims)

    def _is_in_turn(self, one: Resident, want: Want) -> bool:
        """Whether somebody came before the want who is yet to be served by a busy model, within its turn."""
        return self._now < one.turn_until and self._ahead.get(one.model, math.inf) < want.since

    def _enough(self, pool: Sequence[Resident], way: _Way) -> list[Resident] | None:
        """The first of a pool that suffice, without those that are not needed; None: not even all do."""
        lacking: Mapping[str, int] = missing(way.needs, self._later)
        if lacking.keys() == {PLACES}:  # one is as good as another
            return list(pool[: lacking[PLACES]]) if len(pool) >= lacking[PLACES] else None
        rest, chosen = lacking, []
        for one in pool:
            held = held_by(one)
            if rest and rest.keys() & held.keys():
                chosen.append(one)
                rest = without(rest, (held,))
        return None if rest else spared(chosen, lacking)

    def _use(self, residents: Iterable[Resident]) -> None:
        """What they hold is spoken for."""
        for one in residents:
            give(self._firm, held_by(one))
            give(self._later, held_by(one))
            for pool in (self._idle, self._going, self._busy, self._unripe):
                if one in pool:
                    pool.remove(one)

    def _promise(self, needs: Mapping[str, int], *, sure: bool = False) -> None:
        take(self._firm, needs)
        take(self._later, needs)
        if sure:
            take(self._sure, needs)

    def _foresee(self, want: Want, way: _Way) -> None:
        """What it will hold may be waited for as what the others hold: else a younger one could begin in front of those
        who do not fit beside it, for as long as it waits itself.
        """
        if want.placements is not ANYWHERE and not want.pinned:
            self._coming.append(Resident(want.model, self._now, needs=way.placement.needs))
            self._unripe.append(self._coming[-1])

    def _look_again(self) -> float | None:
        """Only what lies ahead counts: a time that is over would be looked at again and again."""
        if not self._waits:
            return None
        ends = (end for one in self._opened for end in (one.keeps_until, one.turn_until))
        times = [end for end in ends if end > self._now]
        for want in self._waits:  # the oldest first
            if want.since + self._max_wait > self._now:
                times.append(want.since + self._max_wait)
                break
        return min(times, default=None)
