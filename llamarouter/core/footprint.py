"""What a model holds of each device: its footprint, and who says so.

    the process was looked at > the engine's own arithmetic > the log of a past load > a formula on the header
    MEASURED                    ENGINE                        LOG                      HEADER

Devices are called as llama.cpp calls them (`CUDA0`, `ROCm0`, `Vulkan0`, `MTL0`); the machine's own memory is `Host`.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping

from msgspec import Struct, field
from msgspec.structs import replace

HOST = "Host"


class Source(enum.Enum):
    """Who says what a model needs, the most trustworthy first."""

    MEASURED = "measured"  # what its process was seen to take
    ENGINE = "engine"  # llama-fit-params
    LOG = "log"  # the buffer lines of a past load
    HEADER = "header"  # a coarse formula


class Parts(Struct, frozen=True, kw_only=True):
    """What one device holds of a model, in bytes."""

    weights: int = 0
    kv: int = 0  # keys and values, the states of recurrent layers, and the buffer of the outputs
    compute: int = 0
    projector: int = 0  # its weights and its graph
    other: int = 0  # what nobody has split: a draft model, what a measurement found beyond the known buffers
    mapped: int = 0  # of the weights: pages of their file, which the kernel may drop and read again

    @property
    def total(self) -> int:
        return self.weights + self.kv + self.compute + self.projector + self.other

    @property
    def unmapped(self) -> int:
        """What is taken for good: all but weights that are pages of a file."""
        return self.total - self.mapped

    def as_other(self) -> Parts:
        """The same where it belongs to something else in the process, a draft for example."""
        return Parts(other=self.total)

    def __add__(self, other: Parts) -> Parts:
        """Both together."""
        return Parts(
            weights=self.weights + other.weights,
            kv=self.kv + other.kv,
            compute=self.compute + other.compute,
            projector=self.projector + other.projector,
            other=self.other + other.other,
            mapped=self.mapped + other.mapped,
        )


class Footprint(Struct, frozen=True, kw_only=True):
    """What a model needs. `doubts`: why nobody better was asked, or what is left out, in a line each."""

    needs: Mapping[str, Parts]  # by device
    source: Source
    # Bytes of host memory that prompts may come to fill later (`--cache-ram`); None: all that there is.
    prompt_cache_limit: int | None = 0
    # Of the weights, bytes of the output, which is the last of the layers; None: nobody knows.
    output: int | None = None
    doubts: tuple[str, ...] = field(default=())

    def totals(self) -> dict[str, int]:
        """Bytes by device; nothing of devices that hold nothing."""
        return {device: parts.total for device, parts in self.needs.items() if parts.total}

    def with_doubt(self, *doubts: str) -> Footprint:
        """The same, with something more to be said of it."""
        return replace(self, doubts=(*self.doubts, *doubts))


def together(*needs: Mapping[str, Parts]) -> dict[str, Parts]:
    """What several hold side by side, device by device."""
    sums: dict[str, Parts] = {}
    for each in needs:
        for device, parts in each.items():
            sums[device] = sums[device] + parts if device in sums else parts
    return sums
