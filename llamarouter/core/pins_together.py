"""Whether all pinned models can be in memory at once: pinned ones never go, so those that come last would find no room.

the placements of each, what may be held of each device -> misfit_of -> the first that has no room, and why
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from msgspec import Struct

from llamarouter.core.memory import Placement
from llamarouter.core.sizes import said

# So many placements are tried at most; where that does not settle it, nothing is said.
_TRIES = 5_000


class Pin(Struct, frozen=True):
    """A pinned model, and the ways in which it may be placed, the preferred first."""

    model: str
    placements: tuple[Placement, ...]

    @property
    def whole(self) -> tuple[Placement, ...]:
        """The ways that leave nothing in host memory unasked, if there are any."""
        return tuple(each for each in self.placements if not each.partial) or self.placements


class Misfit(Struct, frozen=True):
    """A pinned model for which those before it leave no room; bytes of the device on which it lacks most."""

    model: str
    device: str
    needs: int
    left: int
    most: int
    before: tuple[str, ...]

    def __str__(self) -> str:
        has = f"{self.device} has {said(self.most)} for models"
        if self.left < self.most:
            has = f"the other pinned ones ({', '.join(self.before)}) leave {said(self.left)} of {said(self.most)}"
        return (
            f"{self.model} is pinned and needs {said(self.needs)} on {self.device}, and {has}: they do not fit together"
        )


def misfit_of(pins: Sequence[Pin], most: Mapping[str, int]) -> Misfit | None:
    """The first of `pins` that does not fit together with those before it. `most`: what may be held of each device."""
    left: Mapping[str, int] = most
    for count in range(1, len(pins) + 1):
        search = _Search(pins[:count])
        rest = search.room_left(most)
        if search.tries > _TRIES:
            return None
        if rest is None:
            pin = pins[count - 1]
            needs = pin.whole[0].needs
            device = max(needs, key=lambda name: needs[name] - left.get(name, needs[name]))
            before = tuple(each.model for each in pins[: count - 1])
            return Misfit(pin.model, device, needs[device], left[device], most[device], before)
        left = rest
    return None


class _Search:
    """All ways to place some pinned models together."""

    def __init__(self, pins: Sequence[Pin]) -> None:
        self._pins = pins
        self.tries = 0

    def room_left(self, room: Mapping[str, int], index: int = 0) -> Mapping[str, int] | None:
        """What the first way that is found leaves; None: there is none, or it takes too long to find."""
        if index == len(self._pins):
            return room
        for placement in self._pins[index].whole:
            self.tries += 1
            if self.tries > _TRIES:
                return None
            # A device that nobody looks at holds anything.
            rest = {name: size - placement.needs.get(name, 0) for name, size in room.items()}
            if min(rest.values(), default=0) >= 0 and (found := self.room_left(rest, index + 1)) is not None:
                return found
        return None
