"""GPUs as their drivers know them, and which of them llama.cpp means by `CUDA0`, `ROCm1` or `Vulkan0`.

    --list-devices text -> listed_of -> Listed ("CUDA0", "NVIDIA GeForce RTX 4090", total, free)
    drivers             ->              Physical (PCI address, name, total, free, by process), by PCI address
    both                -> matched   -> {"CUDA0": Physical}

An engine has its own order: CUDA puts the fastest first unless CUDA_DEVICE_ORDER=PCI_BUS_ID says otherwise, and
CUDA_VISIBLE_DEVICES picks some of them. So a name is given to the first card, in the order that these variables make,
which is of the same kind by its name, else by its size; equal cards are in the order of their PCI addresses, in CUDA
too. With MIG a card is replaced by its instances, each with memory of its own.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from msgspec import Struct
from msgspec.structs import replace

_LISTED = re.compile(r"\s*(?P<name>[A-Za-z]+[0-9]*): (?P<what>.*) \((?P<total>\d+) MiB, (?P<free>\d+) MiB free\)\s*")
# Which drivers are behind the devices of a backend; of another backend: any.
_DRIVERS = {"CUDA": "nvidia", "ROCm": "amd"}
_VISIBLE = {
    "nvidia": ("CUDA_VISIBLE_DEVICES",),
    "amd": ("ROCR_VISIBLE_DEVICES", "HIP_VISIBLE_DEVICES"),
}
# What an engine and a driver say of the size of one card: the driver's count holds what it keeps for itself.
_SAME_SIZE = 0.06
_MIB = 1 << 20


class Listed(Struct, frozen=True):
    """A device as the engine lists it. Bytes."""

    name: str
    description: str
    total: int
    free: int

    @property
    def backend(self) -> str:
        return self.name.rstrip("0123456789")


class Physical(Struct, frozen=True, kw_only=True):
    """A card, or an instance of one, as its driver sees it. Bytes."""

    driver: str  # nvidia, amd
    address: str  # PCI: "0000:65:00.0"; of an instance with its place behind it
    name: str = ""
    uuid: str = ""  # "GPU-...", "MIG-..."
    total: int
    free: int
    held: Mapping[int, int] | None = None  # by process; None: the driver does not say
    unified: bool = False  # it has no memory of its own


def listed_of(text: str) -> tuple[Listed, ...]:
    """The devices in the output of `--list-devices` that have memory; one with a backend of no GPU has none."""
    found = (_LISTED.fullmatch(line) for line in text.partition("Available devices:")[2].splitlines())
    return tuple(
        Listed(each["name"], each["what"], int(each["total"]) * _MIB, int(each["free"]) * _MIB)
        for each in found
        if each is not None and int(each["total"])
    )


def matched(
    listed: Sequence[Listed], physical: Sequence[Physical], environ: Mapping[str, str]
) -> dict[str, Physical | None]:
    """By the engine's name, the card that it means; None: no driver knows of it.

    A card that two backends of one build name is left to the first, as llama.cpp does it.
    """
    order = _in_order_of(physical, environ)
    taken: dict[str, str] = {}  # the backend that has it, by address
    found: dict[str, Physical | None] = {}
    for each in listed:
        driver = _DRIVERS.get(each.backend)
        fitting = [card for card in order if driver in (None, card.driver) and _is_like(each, card)]
        free = [card for card in fitting if card.address not in taken]
        if free:
            card = max(free, key=lambda card: _likeness(each, card))  # of equals the first
            taken[card.address] = each.backend
            found[each.name] = card
        elif not any(taken[card.address] != each.backend for card in fitting):
            found[each.name] = _integrated(each, [card for card in order if driver in (None, card.driver)], taken)
    return found


def _integrated(listed: Listed, order: Sequence[Physical], taken: dict[str, str]) -> Physical | None:
    """An integrated GPU: the engine counts the memory of the machine in, the driver what was set aside for it."""
    for card in order:
        if card.driver == "amd" and card.address not in taken and 2 * card.total < listed.total:
            taken[card.address] = listed.backend
            return replace(card, unified=True)
    return None


def named_without_engine(physical: Sequence[Physical], environ: Mapping[str, str]) -> dict[str, Physical]:
    """What llama.cpp would call the cards, where the engine cannot be asked: a build for each driver is assumed."""
    names: dict[str, Physical] = {}
    for backend, driver in _DRIVERS.items():
        cards = [card for card in _visible(physical, driver, environ) if card.driver == driver]
        names |= {f"{backend}{at}": card for at, card in enumerate(cards)}
    return names


def _is_like(listed: Listed, card: Physical) -> bool:
    if _same_name(listed, card):
        return True
    return abs(listed.total - card.total) <= _SAME_SIZE * max(listed.total, card.total)


def _likeness(listed: Listed, card: Physical) -> int:
    """A name says more than a size, and the whole name more than a part: there is a 4090, and a 4090 D."""
    if card.name.casefold() == listed.description.casefold():
        return 2
    return 1 if _same_name(listed, card) else 0


def _same_name(listed: Listed, card: Physical) -> bool:
    return bool(card.name) and card.name.casefold() in listed.description.casefold()


def _in_order_of(physical: Sequence[Physical], environ: Mapping[str, str]) -> list[Physical]:
    """Those that the variables let through, in their order; the others behind, for they may be numbered otherwise."""
    first = [card for driver in _VISIBLE for card in _visible(physical, driver, environ)]
    return first + [card for card in physical if card not in first]


def _visible(physical: Sequence[Physical], driver: str, environ: Mapping[str, str]) -> list[Physical]:
    """The cards of a driver that its variables leave, in the order of these variables."""
    cards = [card for card in physical if card.driver == driver]
    if driver == "nvidia" and any(card.uuid.startswith("MIG-") for card in cards) and not _said(driver, environ):
        # Of all instances CUDA shows a process the first, and no whole card besides.
        cards = [card for card in cards if card.uuid.startswith("MIG-")][:1]
    for variable in _VISIBLE[driver]:
        if variable in environ:
            cards = _chosen(cards, environ[variable])
    return cards


def _said(driver: str, environ: Mapping[str, str]) -> bool:
    return any(variable in environ for variable in _VISIBLE[driver])


def _chosen(cards: list[Physical], text: str) -> list[Physical]:
    """Numbers or the beginnings of UUIDs, by commas; what follows the first that means nothing is not read."""
    chosen: list[Physical] = []
    for word in (part.strip() for part in text.split(",")):
        if word.isdecimal():
            found = cards[int(word) : int(word) + 1]
        else:
            found = [card for card in cards if word and card.uuid.startswith(word)]
        if len(found) != 1:
            break
        chosen += found
    return chosen
