"""Estimates beside what processes take of a GPU: shapes of real models, loaded by a llama-server without a router.

formula    the formula on the header, with all that is added to it
engine     llama-fit-params, put right, with all that is added to it: what the router believes
loaded     what the driver says that the process holds when it is ready; served: after a prompt of 520 tokens
buffers    what llama-server says in its log of the buffers on that device
driver     served without the buffers: the context of CUDA, its kernels, and what it allocates besides
"""

from __future__ import annotations

import asyncio
import os
import re
import signal
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from llamarouter.core.asked import MIB
from llamarouter.core.buffer_lines import footprint_of_log
from llamarouter.core.footprint import HOST, Footprint
from llamarouter.host.devices.processes import held_by
from llamarouter.host.devices.roots import Roots
from llamarouter.host.engine import Engine
from llamarouter.host.estimator import Estimator
from llamarouter.host.footprint_cache import FootprintCache
from tests import further_shapes, real_shapes
from tests.estimates import environ_in, off, prompted, running
from tests.gpu.card import Card, is_gone, seconds_until, smi
from tests.gpu.report import Report
from tests.launches import launch_of

# Weights that are holes are there at once when read directly; by pages of the file, a kernel fills each with zeros.
_DIRECTLY = "--load-mode dio"
ROWS: list[tuple[Callable[..., Path], str]] = [
    (real_shapes.lfm2_1b, "-c 8192"),
    (real_shapes.llama3_8b, "-c 8192"),
    (real_shapes.llama3_8b, "-c 8192 -ctk q8_0 -ctv q8_0"),
    (real_shapes.llama3_8b, "-c 16384 -np 4"),
    (real_shapes.mamba_2b, "-c 8192"),
    (real_shapes.gemma3_27b, f"-c 8192 {_DIRECTLY}"),
    (real_shapes.llama3_70b, f"-c 8192 {_DIRECTLY}"),
    (further_shapes.gpt_oss_120b, f"-c 8192 {_DIRECTLY}"),
]
RATIO, SLACK = 0.05, 300 * MIB  # what an estimate may be off by: the larger of both
_LOADS = 60.0
_FREED = 10.0
_SAME_FREE = 32 * MIB
_KEPT_FREE = 1024 * MIB


@dataclass(frozen=True, slots=True)
class Weighed:
    """One shape under some flags. Bytes; None: not said."""

    name: str
    flags: str
    header: Footprint
    engine: Footprint
    device: str
    loaded: int
    served: int
    by_process: bool  # False: the driver does not name the process, and the whole card was looked at
    smi: int | None
    buffers: int
    host: int  # its own pages
    mapped: int
    pss: int
    seconds: float  # until it was ready
    gone: float | None  # seconds from a SIGKILL until the process had ended
    freed: float | None  # and until the driver showed its memory free

    @property
    def estimated(self) -> int:
        return _total(self.engine, self.device)

    @property
    def is_near(self) -> bool:
        return abs(self.estimated - self.served) <= max(RATIO * self.served, SLACK)


def weigh(report: Report, card: Card, engine: Engine, folder: Path, seconds: float, logs: Path | None) -> None:
    """Every row that fits the card and the time. `logs`: where what the processes have written is added."""
    end = time.monotonic() + seconds
    files = Files(folder)
    report.say("MiB; weights are zeros: nothing here says how fast anything is")
    found = []
    for make, flags in ROWS:
        if time.monotonic() > end:
            report.say(f"{make.__name__} {flags}: left out, no time is left")
            continue
        with report.trying(f"{make.__name__} {flags}"):
            path = files.of(make)
            estimated = estimates(path, flags, engine, card, folder)
            if _total(estimated[1], card.name) > card.free() - _KEPT_FREE:
                report.say(f"{make.__name__} {flags}: left out, it does not fit")
                continue
            found.append(weighed(make.__name__, path, flags, estimated, card, Path(engine.command[-1]), folder))
            report.say(_line(found[-1]))
        if logs is not None and (log := folder / "server.log").exists():
            with logs.open("a", encoding="utf-8") as file:
                file.write(f"== {make.__name__} {flags}\n{log.read_text(errors='replace')}\n")
            log.unlink()
    _show(report, found)
    _check(report, found)


class Files:
    """The shapes, each made once."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def of(self, make: Callable[..., Path]) -> Path:
        """The file of a shape, as long as a real one and nearly empty."""
        path = self._folder / f"{make.__name__}.gguf"
        return path if path.exists() else make(path, spoken=True)


def estimates(path: Path, flags: str, engine: Engine, card: Card, folder: Path) -> tuple[Footprint, Footprint]:
    """By the formula, and by the engine, as the router asks them."""
    estimator = Estimator(environ_in(folder), FootprintCache(None))
    launch, gpus = launch_of(f"-m {path} {flags}", engine.table), {card.name: card.free()}
    header = asyncio.run(estimator.at_hand(launch, engine, gpus))
    return header, asyncio.run(estimator.footprint_of(launch, engine, gpus))


def weighed(
    name: str,
    path: Path,
    flags: str,
    estimated: tuple[Footprint, Footprint],
    card: Card,
    server: Path,
    folder: Path,
) -> Weighed:
    """Load it as the router would, have it answer, and kill it."""
    before, began = card.free(), time.monotonic()
    placed = f"{flags} --device {card.name} --n-gpu-layers 999 --fit off --verbosity 4"
    with running(path, placed, folder, server, _LOADS) as (pid, listen):
        ready = time.monotonic() - began
        named = card.taken((pid,))
        loaded = before - card.free() if named is None else named
        prompted(listen)
        served = before - card.free() if named is None else card.taken((pid,)) or 0
        by_smi = smi().get(pid)
        host, pss = held_by(Roots(), pid), pss_of(pid)
        gone, freed = killed(pid, card, before)
    lines = (folder / "server.log").read_text(errors="replace").splitlines()
    logged = footprint_of_log(lines, file_bytes=os.path.getsize(path))
    return Weighed(
        name=name,
        flags=flags,
        header=estimated[0],
        engine=estimated[1],
        device=card.name,
        loaded=loaded,
        served=served,
        by_process=named is not None,
        smi=by_smi,
        buffers=0 if logged is None else _total(logged, card.name),
        host=host.own,
        mapped=host.mapped,
        pss=pss,
        seconds=ready,
        gone=gone,
        freed=freed,
    )


def killed(pid: int, card: Card, free_before: int) -> tuple[float | None, float | None]:
    """Seconds from its SIGKILL until it has ended, and until the card has as much free as before it came."""
    began = time.monotonic()
    os.kill(pid, signal.SIGKILL)
    gone: list[float] = []

    def is_free() -> bool:
        if not gone and is_gone(pid):
            gone.append(time.monotonic() - began)
        return card.free() >= free_before - _SAME_FREE

    freed = seconds_until(is_free, _FREED)
    seconds_until(lambda: is_gone(pid), _FREED)
    return (gone[0] if gone else time.monotonic() - began), freed


def pss_of(pid: int) -> int:
    """What a process holds of the host, pages that several share by their part."""
    text = Path(f"/proc/{pid}/smaps_rollup").read_text()
    return int(re.findall(r"^Pss: +(\d+) kB", text, re.MULTILINE)[0]) * 1024


def _total(footprint: Footprint, device: str) -> int:
    return footprint.totals().get(device, 0)


def _mib(size: int | None) -> str:
    return "-" if size is None else f"{size / MIB:.0f}"


def _ms(seconds: float | None) -> str:
    return "-" if seconds is None else f"{seconds * 1000:.0f}"


def _line(row: Weighed) -> str:
    return (
        f"  {row.name} {row.flags}: {_mib(row.estimated)} estimated, {_mib(row.loaded)} when ready after"
        f" {row.seconds:.1f} s, {_mib(row.served)} after a prompt"
    )


def _show(report: Report, rows: list[Weighed]) -> None:
    shape = ("shape", "options")
    sizes: tuple[str, ...] = (">formula", ">engine", ">loaded", ">served", ">nvidia-smi")
    report.table("estimates", (*shape, *sizes, ">formula off", ">engine off"), list(_estimate_cells(rows)))
    report.say("\nbeside the buffers: what CUDA takes of the card in the process, and what we believe that it takes")
    sizes = (">buffers", ">driver loaded", ">driver served", ">believed")
    report.table("driver", (*shape, *sizes, ">buffers off"), list(_driver_cells(rows)))
    report.say("\nof the host, and what happens after a SIGKILL (ms)")
    sizes = (">believed", ">own", ">mapped", ">PSS")
    report.table("host", (*shape, *sizes, ">ended", ">free", ">ready s"), list(_host_cells(rows)))


def _estimate_cells(rows: list[Weighed]) -> Iterator[tuple[str, ...]]:
    for row in rows:
        formula = _total(row.header, row.device)
        sizes = (formula, row.estimated, row.loaded, row.served, row.smi)
        shown = tuple(_mib(size) for size in sizes)
        yield row.name, row.flags, *shown, off(formula, row.served), off(row.estimated, row.served)


def _driver_cells(rows: list[Weighed]) -> Iterator[tuple[str, ...]]:
    for row in rows:
        believed = row.engine.needs[row.device].other if row.device in row.engine.needs else 0
        sizes = (row.buffers, row.loaded - row.buffers, row.served - row.buffers, believed)
        buffers = row.estimated - believed
        yield row.name, row.flags, *map(_mib, sizes), off(buffers, row.buffers) if row.buffers else "-"


def _host_cells(rows: list[Weighed]) -> Iterator[tuple[str, ...]]:
    for row in rows:
        sizes = (_total(row.engine, HOST), row.host, row.mapped, row.pss)
        yield row.name, row.flags, *map(_mib, sizes), _ms(row.gone), _ms(row.freed), f"{row.seconds:.1f}"


def _check(report: Report, rows: list[Weighed]) -> None:
    report.check("at least one shape fits", bool(rows), "none was loaded")
    for row in rows:
        what = f"{row.name} {row.flags}"
        said = f"{_mib(row.estimated)} MiB estimated, {_mib(row.served)} taken"
        report.check(f"{what}: the estimate is within 5% or 300 MiB", row.is_near, said)
        report.check(f"{what}: the engine answers", not row.engine.doubts, "; ".join(row.engine.doubts))
        report.check(f"{what}: the driver names the process", row.by_process, "the whole card was looked at")
        if row.smi is not None and row.by_process:
            near = abs(row.smi - row.served) <= 2 * MIB
            report.check(f"{what}: nvidia-smi says the same", near, f"{_mib(row.smi)} MiB, {_mib(row.served)} by us")
        freed = row.freed is not None and row.freed - (row.gone or 0.0) <= 2.0
        report.check(
            f"{what}: free within 2 s of its end", freed, f"ended {_ms(row.gone)} ms, free {_ms(row.freed)} ms"
        )
