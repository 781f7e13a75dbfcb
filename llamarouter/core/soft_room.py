"""How strictly the room of a device is meant: nothing is refused here that llama-server, started by hand, would serve.

    Host, weights that are pages of their file   the kernel reads them again: they make others go, they refuse nothing
    Host, the rest, without the operator's word  memory can be swapped: likewise, up to all that the machine has
    the reserve that nobody asked for            others go for it; alone, a model may take it
    --memory-budget, --memory-reserve            are meant as they are written

So a need that is only softly too large is cut down to what there is: everything else goes for it, and it is tried.
"""

from __future__ import annotations

from collections.abc import Mapping

from msgspec import Struct, field

from llamarouter.core.footprint import HOST, Parts
from llamarouter.core.memory import Room


class Books(Struct, frozen=True):
    """What our children hold by device, as the scheduler has it: those that are loaded, and all."""

    loaded: Mapping[str, int] = field(default_factory=dict)
    all: Mapping[str, int] = field(default_factory=dict)


class SoftRoom(Struct, frozen=True):
    """One device. `loaded`, `booked`: what our children hold of it, by the books; `strict`: the operator's word."""

    room: Room
    loaded: int = 0
    booked: int = 0
    strict: bool = False

    @property
    def capacity(self) -> int:
        """What our children may hold together there, beside what others hold now."""
        return max(0, min(self.room.most, self._beside_others - self.room.reserve))

    @property
    def limit(self) -> int:
        """What a model may need that is alone there and gets all that can be given."""
        return self.capacity if self.strict else max(self.capacity, self._beside_others)

    @property
    def _beside_others(self) -> int:
        # What a driver says of ours beyond the books counts as others', as it does for the scheduler.
        ours = self.loaded if self.room.ours is None else min(self.room.ours, self.booked)
        return min(self.room.total, self.room.free + ours)


def eased(needs: Mapping[str, Parts], rooms: Mapping[str, SoftRoom]) -> dict[str, int]:
    """Bytes by device: what a model needs, or all that there is where it makes do with that."""
    return {
        name: _eased(name, parts, rooms[name]) if name in rooms else parts.total
        for name, parts in needs.items()
        if parts.total
    }


def _eased(name: str, parts: Parts, soft: SoftRoom) -> int:
    capacity = soft.capacity
    if parts.total <= capacity:
        return parts.total
    firm = parts.unmapped if name == HOST else parts.total
    limit = soft.room.total if name == HOST and not soft.strict else soft.limit
    return capacity if firm <= limit else firm
