"""Space: what is left of each thing that is scarce, in its own unit, and the arithmetic with it.

Scarce are the bytes of each device and, where `--models-max` says so, the places: one more device with one unit for
each child. A device that is not named has no bound.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from msgspec import Struct, field

from llamarouter.core.residents import Resident

PLACES = "places"  # no device of llama.cpp's is called so: they begin with a capital letter

Space = dict[str, int]
_INFINITE = float("inf")


class Spaces(Struct, frozen=True):
    """What our children may still take of each device; bytes, below zero where they hold more than they may."""

    sure: Mapping[str, int] = field(default_factory=dict)  # now
    firm: Mapping[str, int] = field(default_factory=dict)  # when what is ending has ended, if all the rest is others'
    hope: Mapping[str, int] = field(default_factory=dict)  # the same, if what may be nobody's is nobody's
    most: Mapping[str, int] = field(default_factory=dict)  # when everything of ours is gone that may ever go
    known: Mapping[str, int] | None = None  # the same without what an end may have freed unseen; None: there is none


def fits(needs: Mapping[str, int], space: Mapping[str, int]) -> bool:
    for device, size in needs.items():  # noqa: SIM110 (three times as quick as `all`, and asked most of all)
        if size and space.get(device, _INFINITE) < size:
            return False
    return True


def take(space: Space, needs: Mapping[str, int]) -> None:
    for device, size in needs.items():
        if device in space:
            space[device] -= size


def give(space: Space, needs: Mapping[str, int]) -> None:
    for device, size in needs.items():
        if device in space:
            space[device] += size


def missing(needs: Mapping[str, int], space: Mapping[str, int]) -> Space:
    """What `space` lacks, by device; empty: it fits."""
    return {device: size - space[device] for device, size in needs.items() if size and space.get(device, size) < size}


def held_by(resident: Resident) -> Mapping[str, int]:
    """What is free when it is gone."""
    return {PLACES: 1, **resident.needs}


def without(lacking: Mapping[str, int], freed: Iterable[Mapping[str, int]]) -> Space:
    """What is still lacking when `freed` have been given."""
    rest = dict(lacking)
    for held in freed:
        for device in rest:
            rest[device] -= held.get(device, 0)
    return {device: size for device, size in rest.items() if size > 0}
