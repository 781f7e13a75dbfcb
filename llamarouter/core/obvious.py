"""An obvious fit: where a rough estimate, taken generously, fits beside everything, nobody waits for a better one.

    rough x 1.5 + 512 MiB <= what is free and spoken for by nobody      -> it is started by rough x 1.15

The engine's own arithmetic takes a fifth of a second, which a cold request would wait for; it is asked once
nothing loads, for the next time. What the model really takes is weighed as soon as it is loaded.
"""

from __future__ import annotations

from collections.abc import Mapping

from msgspec.structs import replace

from llamarouter.core.footprint import Parts
from llamarouter.core.memory import Room
from llamarouter.core.scaling import PartsOf
from llamarouter.core.soft_room import Books

_TIMES, _MORE = 1.5, 512 << 20
_LIKELY = 1.15


def generously(parts_of: PartsOf) -> PartsOf:
    """The same needs, for sure not too small."""
    return lambda layout: _all(parts_of(layout), _TIMES, _MORE)


def likely(parts_of: PartsOf) -> PartsOf:
    """The same needs, hardly too small."""
    return lambda layout: _all(parts_of(layout), _LIKELY, 0)


def fits_beside_everything(needs: Mapping[str, int], rooms: Mapping[str, Room], books: Books) -> bool:
    """Whether there is room for it now, when all that loads has taken what it will."""
    return all(
        name in rooms and size <= _spare(rooms[name], books.loaded.get(name, 0), books.all.get(name, 0))
        for name, size in needs.items()
    )


def _spare(room: Room, loaded: int, booked: int) -> int:
    free = room.free - max(0, booked - loaded)
    return (free if room.budget is None else min(free, room.budget - booked)) - room.reserve


def _all(parts: Mapping[str, Parts] | None, times: float, more: int) -> Mapping[str, Parts] | None:
    if parts is None:
        return None
    return {
        name: replace(each, other=each.other + int(each.total * (times - 1)) + more) for name, each in parts.items()
    }
