"""A machine of virtual GPUs: what a survey says of the ledger in which fake children book their bytes.

A model says in its environment what is expected of it and what its child then takes:

    lr-env = EXPECTED=600 FAKE_VRAM_BYTES=700
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

from llamarouter.core.devices import Device, Survey, View
from llamarouter.core.footprint import HOST, Footprint, Parts, Source
from llamarouter.core.launch import Launch
from llamarouter.host.engine import Engine
from tests.virtual_gpu import VirtualGpus

GIB = 1 << 30


@dataclass
class VirtualMachine:
    """The devices of a ledger, and a host with plenty. `tells`: whether the driver says whose bytes are whose."""

    gpus: VirtualGpus
    quick: bool = True  # whether a survey costs nothing
    tells: bool = True
    surveys: int = 0
    gate: asyncio.Event = field(default_factory=asyncio.Event)
    forgotten: list[tuple[str, ...]] = field(default_factory=list)  # engines at whose paths others lie

    def __post_init__(self) -> None:
        self.gate.set()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        pass

    def at_once(self, pids: Iterable[int] = ()) -> Survey | None:
        return self._look(pids) if self.quick else None

    async def survey(self, pids: Iterable[int] = ()) -> Survey:
        await self.gate.wait()
        return self._look(pids)

    def view(self, command: Sequence[str], environ: Mapping[str, str] | None = None) -> View | None:
        return View({name: name for name in self.gpus.devices()})

    async def listed(self, command: Sequence[str], environ: Mapping[str, str] | None = None) -> None:
        pass

    def forget_engine(self, command: Sequence[str]) -> None:
        self.forgotten.append(tuple(command))

    def _look(self, pids: Iterable[int]) -> Survey:
        self.surveys += 1
        devices = {
            name: Device(
                name=name,
                description="virtual",
                total=each["total"],
                free=each["free"],
                held=each["held"] if self.tells else None,
            )
            for name, each in self.gpus.devices().items()
        }
        host = Device(name=HOST, total=64 * GIB, free=60 * GIB, held=dict.fromkeys(pids, 0))
        return Survey(devices={**devices, HOST: host}, at=time.monotonic())


class Expected:
    """What is expected of models: whatever their environment says."""

    def __init__(self) -> None:
        self.asked = 0
        self.leisurely: list[bool] = []  # of each question
        self.gate = asyncio.Event()
        self.gate.set()

    async def footprint_of(
        self, launch: Launch, engine: Engine, gpus: Mapping[str, int], *, leisurely: bool = False
    ) -> Footprint:
        self.asked += 1
        self.leisurely.append(leisurely)
        await self.gate.wait()
        return self._said(launch, gpus, Source.ENGINE)

    async def prepare(self, engine: Engine) -> None:
        pass

    async def at_hand(self, launch: Launch, engine: Engine, gpus: Mapping[str, int]) -> Footprint:
        return self._said(launch, gpus, Source.HEADER)

    def _said(self, launch: Launch, gpus: Mapping[str, int], source: Source) -> Footprint:
        said = launch.environment()
        expected = int(said.get("EXPECTED") or said["FAKE_VRAM_BYTES"])
        needs = {next(iter(gpus), HOST): Parts(weights=expected)}
        return Footprint(needs=needs, source=source)


def virtual_machine(
    folder: Path, total: int, *, others: int = 0, lag: float = 0.0, tells: bool = True
) -> VirtualMachine:
    """A machine with one GPU, `CUDA0`."""
    gpus = VirtualGpus(str(folder / "gpus.json"))
    gpus.add("CUDA0", total, others=others, lag=lag)
    return VirtualMachine(gpus, tells=tells)
