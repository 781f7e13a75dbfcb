"""What there is to put models on: the devices of this machine, as they were seen at one moment.

    host.devices.Machine.survey() -> Survey { "CUDA0": Device, "CUDA1": Device, "Host": Device }

Devices are called as llama.cpp calls them (`CUDA0`, `ROCm0`, `Vulkan0`, `MTL0`); the machine's own memory is `Host`
and always there. A GPU without memory of its own (an integrated one) takes from `Host`: `memory_of` says where.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from msgspec import Struct, field
from msgspec.structs import replace

from llamarouter.core.footprint import HOST


class Device(Struct, frozen=True, kw_only=True):
    """One device. Bytes; `free`: as its driver says, whoever has taken the rest."""

    name: str
    description: str = ""  # "NVIDIA GeForce RTX 4090"
    total: int
    free: int
    # Bytes by process id, of the processes that the driver names; None: it names none at all.
    held: Mapping[int, int] | None = None
    mapped: Mapping[int, int] = field(default_factory=dict)  # of what is held: pages of files, likewise
    shares_host: bool = False  # an integrated GPU: its memory is the machine's own
    stale: bool = False  # it did not answer: these are the figures of an earlier survey, without what was ours

    @property
    def is_gpu(self) -> bool:
        return self.name != HOST

    def held_by(self, pids: Iterable[int]) -> int | None:
        """What these processes hold together; None where the driver does not say, or names none of them.

        Inside a container a driver names processes by the numbers that they have outside.
        """
        wanted = set(pids)
        if not wanted or (self.stale and self.held is not None):
            return 0  # of one that does not answer it is free what was not others'
        if self.held is None or wanted.isdisjoint(self.held):
            return None
        return sum(size for pid, size in self.held.items() if pid in wanted)


class View(Struct, frozen=True):
    """The GPUs as one engine in one environment calls them, in its order, each with the router's name for it.

    Another build names a card otherwise (`Vulkan0`), and CUDA_VISIBLE_DEVICES numbers them anew.
    """

    names: Mapping[str, str] = field(default_factory=dict)

    @property
    def gpus(self) -> tuple[str, ...]:
        return tuple(self.names)


class Survey(Struct, frozen=True, kw_only=True):
    """All devices at one moment. `at`: seconds of the monotonic clock; `problems`: what did not answer, a line each."""

    devices: Mapping[str, Device]
    at: float = 0.0
    problems: tuple[str, ...] = field(default=())
    view: View = field(default_factory=View)  # whose names `memory_of` takes besides the router's

    @property
    def gpus(self) -> tuple[str, ...]:
        """The names of those that are no plain memory, in llama.cpp's order."""
        return tuple(name for name, device in self.devices.items() if device.is_gpu)

    def memory_of(self, name: str) -> str:
        """Whose memory a device takes: its own, or the machine's."""
        name = self.view.names.get(name, name)
        device = self.devices.get(name)
        return HOST if device is not None and device.shares_host else name

    def seen_by(self, view: View) -> Survey:
        """The same, for the names of one engine."""
        return replace(self, view=view)

    def needs(self, totals: Mapping[str, int]) -> dict[str, int]:
        """Bytes by the memory that they are taken from: those of an integrated GPU are the machine's."""
        needs: dict[str, int] = {}
        for name, size in totals.items():
            memory = self.memory_of(name)
            needs[memory] = needs.get(memory, 0) + size
        return needs
