"""A shorter context, for a model of which nobody has said how long it is to be and that would never fit with all of it.

llama-server's own `--fit` does the same, against what is free at that moment and whatever the operator's budget is.
Here it is reckoned beforehand: keys and values grow with the context, everything else is taken as it is.
"""

from __future__ import annotations

from collections.abc import Mapping

from msgspec.structs import replace

from llamarouter.core.footprint import HOST, Parts
from llamarouter.core.soft_room import SoftRoom

# As llama-server's `--fit-ctx`: what is shorter is no use.
LEAST = 4096
_STEP = 256  # llama.cpp rounds up to it


def context_that_fits(whole: int, needs: Mapping[str, Parts], rooms: Mapping[str, SoftRoom]) -> int | None:
    """The tokens, of `whole` ones with which it has these needs; None: not even the least of them fit."""
    least = min(LEAST, whole)
    # Where no cache lies no context makes a difference: an encoder has none, nor has a host that holds experts alone.
    if not all(_holds(name, parts, rooms[name]) for name, parts in needs.items() if name in rooms and not parts.kv):
        return None
    within = [
        _tokens(whole, parts, rooms[name].capacity) for name, parts in needs.items() if name in rooms and parts.kv
    ]
    tokens = min([whole, *within])
    if tokens >= least:
        return whole if tokens == whole else max(least, tokens // _STEP * _STEP)
    firm = with_context(needs, least, whole)
    return least if all(_holds(name, parts, rooms[name]) for name, parts in firm.items() if name in rooms) else None


def with_context(needs: Mapping[str, Parts], tokens: int, whole: int) -> dict[str, Parts]:
    """The needs with so many tokens instead of `whole` ones."""
    return {name: replace(parts, kv=parts.kv * tokens // whole) for name, parts in needs.items()}


def _tokens(whole: int, parts: Parts, capacity: int) -> int:
    rest = capacity - (parts.total - parts.kv)
    if parts.kv <= rest:
        return whole
    return whole * max(0, rest) // parts.kv


def _holds(name: str, parts: Parts, soft: SoftRoom) -> bool:
    """Whether it would be served with that: the kernel drops pages of files, and reads them again."""
    return (parts.unmapped if name == HOST else parts.total) <= soft.limit
