"""What is known of the models that want a place: the ways to place each, and since when.

    wanted -- asked --> in flight -- note --> known -- used (started), or forgotten (changed) --> unknown
                                               |-- older than `STANDS`, or the devices may have changed: asked again

Only the first `LOOK_AHEAD` wants are looked at: behind those nobody can hope for room yet. The devices are everybody's:
while somebody waits for bytes, one answer every `REFRESH` seconds, and one after each change, keeps all up to date; and
one every `HURRIED` seconds while a driver shows bytes of a child that has ended, for it may be late by a moment only.
"""

from __future__ import annotations

from collections.abc import Sequence

from msgspec import Struct
from msgspec.structs import replace

from llamarouter.core.events import Appraised
from llamarouter.core.memory import Placement
from llamarouter.core.policy import Policies
from llamarouter.core.wants import Want

LOOK_AHEAD = 8
STANDS = 2.0  # seconds: nothing starts by an older appraisal
REFRESH = 1.0  # seconds
HURRIED = 0.1  # seconds

# A load that died of memory needed more than was thought; so much more is asked for its second try.
_RAISE = 5, 4


class _Known(Struct, frozen=True):
    placements: tuple[Placement, ...]
    at: float


class Appraisals:
    """The last appraisal of each model that wants a place."""

    def __init__(self) -> None:
        self._in_flight: set[str] = set()
        self._void: set[str] = set()  # of those: the model has changed since it was asked for
        self._known: dict[str, _Known] = {}
        self._second: set[str] = set()  # models whose load died of memory: this is their second try
        self._answered_at = float("-inf")
        self._answered = ""  # about which model the last answer was
        self._changed = False  # a child has come up or gone since the last question

    def ask(self, model: str) -> bool:
        """Whether the question is to be put: it is not in flight already."""
        if model in self._in_flight:
            return False
        self._in_flight.add(model)
        self._changed = False
        return True

    def note(self, event: Appraised, now: float) -> bool:
        """An answer; False: it is one about a model that is another one now."""
        self._in_flight.discard(event.model)
        self._answered_at, self._answered = now, event.model
        if event.model in self._void:
            self._void.discard(event.model)
            return False
        if event.placements:
            self._known[event.model] = _Known(event.placements, now)
        return True

    def consider(self, wants: Sequence[Want], policies: Policies, now: float) -> list[Want]:
        """The first wants with what is known of them; the modest behind them find no room."""
        return [self._known_of(want, policies.of(want.model).pinned, now) for want in wants[:LOOK_AHEAD]]

    def is_last(self, model: str) -> bool:
        """Whether the last look at the devices was for this one. A need that is all there is at one moment may be a
        page too much at the next: nobody is refused for that."""
        return model == self._answered

    def used(self, model: str) -> None:
        """The model was started by it."""
        self._known.pop(model, None)

    def forget(self, model: str) -> None:
        """The model is another one now."""
        self.used(model)
        self.settled(model)
        if model in self._in_flight:
            self._void.add(model)

    def devices_changed(self) -> None:
        self._changed = True

    def is_due(self, now: float, *, lagging: bool = False) -> bool:
        """Whether the devices are to be looked at again, if somebody waits for bytes: not with an answer on its way."""
        due = self.due_at(lagging=lagging)
        return due is not None and (self._changed or now >= due)

    def due_at(self, *, lagging: bool = False) -> float | None:
        """When they are to be looked at again; None: an answer is on its way."""
        return None if self._in_flight else self._answered_at + (HURRIED if lagging else REFRESH)

    def try_again(self, model: str) -> None:
        """Its load died of memory, and it is to be tried once more."""
        self._second.add(model)

    def is_second(self, model: str) -> bool:
        return model in self._second

    def settled(self, model: str) -> None:
        """Its load has ended in another way."""
        self._second.discard(model)

    def _known_of(self, want: Want, pinned: bool, now: float) -> Want:
        known = self._known.get(want.model)
        if known is None:
            return Want(want.model, want.since, want.modest, placements=())
        placements = known.placements
        if want.model in self._second:  # with more room where that is to be had, else as before
            placements = (*(_raised(one) for one in placements), *placements)
        return Want(want.model, want.since, want.modest, placements, now < known.at + STANDS, pinned)


def _raised(placement: Placement) -> Placement:
    more, of = _RAISE
    return replace(placement, needs={device: -(-size * more // of) for device, size in placement.needs.items()})
