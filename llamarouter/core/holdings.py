"""Holdings: who holds what of each device, as far as it can be known, and so what our children may still take.

    sure = min(budget - ended, total - others - unseen) - ours - reserve        what may be taken now
    firm = the same when what is ending has ended: children that are being stopped, and those that are gone
    hope = the same if the bytes are nobody's that may be nobody's
    known = the same with nothing left of ours but what is pinned
    most = known, and nothing left either of what an ended child may have held beyond the books

`ours` is what the living hold, each from start to end as it was appraised or weighed, whatever it has taken yet;
`others` what the device's use leaves unexplained.

Two things make that uncertain, and both count as others' until it is known better:
- a child that loads has taken some of its bytes; where the driver does not say whose bytes are whose, they look like
  somebody else's until it is ready;
- a driver may show the bytes of a child that has ended for a while. They are held (as *ended*), on each device until a
  look finds them free there, at most for `lag` seconds after the end, and then until the next look (it is asked for,
  and comes within as much again); `unseen` are those since whose end nobody looked. A device that is prompt shows
  nothing of the dead: what it shows is others'.

A child may hold more than our books say; that is as good as others'. When it has ended, a look from before its end
still shows it: until there is a new one nobody can say that there will be no room (only `most` allows for that).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from msgspec import Struct, field

from llamarouter.core.memory import Room
from llamarouter.core.residents import Phase, Resident
from llamarouter.core.space import Space, Spaces


class _Ended(Struct):
    """A child that is gone, and since when."""

    resident: Resident
    at: float
    before: Mapping[str, int]  # what others held, by device, as it was known then
    needs: Mapping[str, int]  # what it held, of those devices that may show it still
    unseen: bool = True  # nobody has looked at the devices since

    def is_in_look_of(self, at: float) -> bool:
        """Whether it lived when somebody looked."""
        return self.unseen and self.resident.started_at <= at


class _View(Struct, frozen=True):
    """One device as it was seen, and what of its use is not explained by our children."""

    room: Room
    others: int
    loading: int = 0  # of `others`, what may be that of our children that load
    beyond: int = 0  # of `others`, what may be that of our children, though our books know nothing of it

    @property
    def limit(self) -> int:
        return self.room.total if self.room.budget is None else min(self.room.budget, self.room.total)


class Holdings(Struct):
    """The devices as they were last seen, and the ends of children since."""

    lag: float
    seen_at: float = float("-inf")
    _views: dict[str, _View] = field(default_factory=dict)
    _ended: list[_Ended] = field(default_factory=list)

    @property
    def rooms(self) -> dict[str, Room]:
        """The devices as they were last seen."""
        return {device: view.room for device, view in self._views.items()}

    def saw(self, rooms: Mapping[str, Room], residents: Iterable[Resident], at: float) -> None:
        """Somebody looked at the devices, at time `at`. What is older than what is known already says nothing."""
        if at < self.seen_at:
            return
        self.seen_at = at
        self._explain(rooms, residents)
        for one in self._ended:
            one.unseen = at < one.at
            if not one.unseen:
                one.needs = self._shown_of(one)
        self._ended = [one for one in self._ended if one.needs]

    def weighed(self, residents: Iterable[Resident]) -> None:
        """The books say something else of a child than when somebody looked: it holds another part of what was seen."""
        self._explain(self.rooms, residents)

    def ended(self, resident: Resident, now: float) -> None:
        """A child is gone."""
        if any(resident.needs.values()):
            before = {device: view.others - view.loading for device, view in self._views.items()}
            self._ended.append(_Ended(resident, now, before, resident.needs))

    def spaces(self, residents: Iterable[Resident], now: float) -> Spaces:
        """What there is of each device that has been seen."""
        self._ended = [one for one in self._ended if now < self._forgiven_at(one)]
        ours: Space = {}
        stopping: Space = {}
        pinned: Space = {}
        for resident in residents:
            _add(ours, resident.needs)
            if resident.phase is Phase.STOPPING:
                _add(stopping, resident.needs)
            elif resident.policy.pinned and resident.leaving is None:
                _add(pinned, resident.needs)
        ended: Space = {}
        unseen: Space = {}
        seen_alive: Space = {}
        for one in self._ended:
            _add(ended, one.needs)
            if one.unseen:
                _add(unseen, one.needs)
            if one.is_in_look_of(self.seen_at):
                _add(seen_alive, one.needs)
        sure: Space = {}
        firm: Space = {}
        hope: Space = {}
        known: Space = {}
        most: Space = {}
        for device, view in self._views.items():
            held, gone = ours.get(device, 0), ended.get(device, 0)
            hidden = unseen.get(device, 0)
            # Of what others hold, this much may turn out to be nobody's.
            phantom = min(view.others, view.loading + gone - hidden)
            reserve, limit = view.room.reserve, view.limit
            seen = view.room.total - view.others
            sure[device] = seen - hidden - held - reserve
            if view.room.budget is not None:
                sure[device] = min(sure[device], view.room.budget - gone - held - reserve)
            coming = stopping.get(device, 0) - held - reserve
            firm[device] = min(limit, seen) + coming
            hope[device] = min(limit, seen + phantom) + coming
            staying = reserve + pinned.get(device, 0)
            known[device] = most[device] = min(limit, seen + phantom) - staying
            if seen_alive.get(device):
                phantom = min(view.others, phantom + view.beyond)
                most[device] = min(limit, seen + phantom) - staying
        return Spaces(sure, firm, hope, most, known if seen_alive else None)

    def next_change(self) -> float | None:
        """When bytes that a driver still shows stop counting; None: there are none."""
        return min((self._forgiven_at(one) for one in self._ended), default=None)

    @property
    def lagging(self) -> bool:
        """Whether a driver still shows bytes of a child that has ended, as far as is known."""
        return bool(self._ended)

    def _explain(self, rooms: Mapping[str, Room], residents: Iterable[Resident]) -> None:
        since_ended = (one.resident for one in self._ended if self.seen_at < one.at)  # they lived then
        held, loading = _held_at((*residents, *since_ended), self.seen_at)
        self._views = {
            device: _view_of(room, held.get(device, 0), loading.get(device, 0)) for device, room in rooms.items()
        }

    def _forgiven_at(self, one: _Ended) -> float:
        """Until when its bytes count. By an older look they are others', and a model would be placed beside them."""
        by = one.at + self.lag
        return by if self.seen_at >= by else by + self.lag

    def _shown_of(self, one: _Ended) -> Mapping[str, int]:
        """What devices still seem to hold of an ended child: where half of it or more is unexplained."""
        return {device: size for device, size in one.needs.items() if size and self._is_shown(one, device, size)}

    def _is_shown(self, one: _Ended, device: str, size: int) -> bool:
        view = self._views.get(device)
        if view is None or view.room.prompt:
            return False
        return view.others - one.before.get(device, view.others) >= size / 2


def _held_at(residents: Iterable[Resident], at: float) -> tuple[Space, Space]:
    """What those held who were ready at that time, and what those may have held who were not."""
    held: Space = {}
    loading: Space = {}
    for resident in residents:
        was_ready = resident.slots > 0 and resident.ready_at < at
        if was_ready or resident.started_at <= at:  # else it had nothing yet
            _add(held if was_ready else loading, resident.needs)
    return held, loading


def _view_of(room: Room, held: int, loading: int) -> _View:
    used = max(0, room.total - room.free)
    if room.ours is not None:  # what exceeds our books is as good as others'
        others = max(0, used - min(room.ours, held + loading))
        return _View(room, others, beyond=max(0, room.ours - held - loading))
    others = max(0, used - held)
    return _View(room, others, min(others, loading), beyond=others)


def _add(space: Space, needs: Mapping[str, int]) -> None:
    for device, size in needs.items():
        space[device] = space.get(device, 0) + size
