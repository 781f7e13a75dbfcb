"""Bytes on devices: what a model would hold, what a device has, and what may be held of it together.

    capacity = min(budget or total, total - what others hold) - reserve          (never negative)

Device names are llama.cpp's own ("CUDA0", "ROCm0", "Vulkan0", "MTL0"); `HOST` is the RAM of the machine.
"""

from __future__ import annotations

from collections.abc import Mapping

from msgspec import Struct

HOST = "Host"


class Placement(Struct, frozen=True):
    """One way to put a model on the devices: what it would hold on each, and what its child is told."""

    needs: Mapping[str, int]  # bytes by device
    options: tuple[tuple[str, ...], ...] = ()  # ours, over the launch's: ("--fit", "off"), ("-ngl", "20") ...
    # Some layers stay in host RAM although a GPU is there and nobody asked for that: taken only where no other
    # placement could ever fit.
    partial: bool = False
    label: str = ""  # for people: "CUDA1", "CUDA0+CUDA1", "CUDA0, 20 of 33 layers"


class Room(Struct, frozen=True):
    """One device as it was seen at some moment; bytes."""

    total: int
    free: int  # as the driver says: what other programs use is off already
    ours: int | None = None  # what the driver attributes to our children; None: it does not say
    budget: int | None = None  # what our children may hold together; None: all of it
    reserve: int = 0  # what is never to be held
    prompt: bool = False  # what a process held is free as soon as it is gone: no driver is late

    @property
    def most(self) -> int:
        """What our children could hold if nobody else held anything."""
        return max(0, (self.total if self.budget is None else min(self.budget, self.total)) - self.reserve)
