"""What NVIDIA's driver says, and how long it takes to say it: names, sizes, and the memory of who has been killed."""

from __future__ import annotations

import asyncio
import statistics
import time
from collections.abc import Callable
from pathlib import Path

from llamarouter.core.asked import MIB
from llamarouter.core.devices import Survey
from llamarouter.host.devices.machine import Machine
from llamarouter.host.engine import Engine
from tests.estimates import environ_in, running
from tests.gpu.card import Card, smi
from tests.gpu.report import Report
from tests.gpu.weighing import killed
from tests.tiny_gguf import write_llama

_LOOKS = 50
_KILLS = 5
_LONGEST_LOOK = 0.1  # seconds: what a decision may wait for


def look(report: Report, card: Card, engine: Engine, folder: Path) -> None:
    """Everything that is asked of a driver beside what models take."""
    tiny = write_llama(folder / "tiny.gguf")
    _names(report, card, asyncio.run(_survey(engine, folder)))
    flags = f"-c 256 --device {card.name} --n-gpu-layers 999 --fit off"
    rows = [("nobody", *_looked(report, "nobody", lambda: card.taken(())))]
    times = []
    for number in range(_KILLS):
        free = card.free()
        with running(tiny, flags, folder, Path(engine.command[-1])) as (pid, _):
            if number == 0:
                _one_process(report, card, pid, free)
                rows.append(("one process", *_looked(report, "one process", lambda pid=pid: card.taken((pid,)))))
            times.append(killed(pid, card, free))
    report.table("looks", ("looks with", ">median ms", ">longest ms"), rows)
    ended = [gone for gone, _ in times if gone is not None]
    freed = [freed for _, freed in times if freed is not None]
    report.say(f"first look of a process of ours: {card.opening * 1000:.0f} ms, with its start")
    report.say(f"after a SIGKILL (ms): ended {_all(ended)}; free {_all(freed)}")
    report.figures["kills"] = {"ended": ended, "free": freed}
    late = [freed - (gone or 0.0) for gone, freed in times if freed is not None]
    said = f"{_all(late)} ms after its end"
    report.check("what was killed is free within 2 s", len(freed) == _KILLS and max(late) <= 2.0, said)


async def _survey(engine: Engine, folder: Path) -> Survey:
    """As the router looks."""
    async with Machine(engine.command, environ_in(folder)) as machine:
        return await machine.survey()


def _names(report: Report, card: Card, survey: Survey) -> None:
    device = survey.devices.get(card.name)
    rows = [
        ("the driver", card.first.address, card.first.name, _mib(card.first.total), _mib(card.look().free)),
        ("the engine", card.listed.name, card.listed.description, _mib(card.listed.total), _mib(card.listed.free)),
    ]
    if device is not None:
        rows.append(("the router", device.name, device.description, _mib(device.total), _mib(device.free)))
    report.table("names", ("who says it", "name", "description", ">total MiB", ">free MiB"), rows)
    report.check("the router has the engine's name for the card", device is not None, f"{survey.gpus}")
    report.check("no device complains", not survey.problems, "; ".join(survey.problems))
    if device is not None:
        near = abs(device.total - card.listed.total) <= 0.06 * device.total
        report.check("engine and driver mean a card of one size", near, f"{card.listed.total}, {device.total} bytes")


def _one_process(report: Report, card: Card, pid: int, free_before: int) -> None:
    """The least that a process takes: a model of less than a megabyte."""
    taken, by_smi = card.taken((pid,)), smi().get(pid)
    less = free_before - card.free()
    said = f"{_mib(taken)} MiB by process, {_mib(less)} less free, nvidia-smi {_mib(by_smi)}"
    report.say(f"a process with a model of 0.6 MB: {said}")
    report.figures["a tiny model"] = {"taken": taken, "less_free": less, "smi": by_smi}
    report.check("the driver names the process", taken is not None, said)
    if taken is not None:
        report.check("what it takes is what is less free", abs(less - taken) <= 64 * MIB, said)


def _looked(report: Report, who: str, ask: Callable[[], object]) -> tuple[str, str]:
    times = []
    for _ in range(_LOOKS):
        began = time.monotonic()
        ask()
        times.append(time.monotonic() - began)
    median, longest = statistics.median(times), max(times)
    report.check(f"a look takes less than 100 ms ({who})", median < _LONGEST_LOOK, f"{median * 1000:.1f} ms")
    return f"{median * 1000:.1f}", f"{longest * 1000:.1f}"


def _all(seconds: list[float]) -> str:
    return ", ".join(f"{each * 1000:.0f}" for each in sorted(seconds)) or "never"


def _mib(size: int | None) -> str:
    return "-" if size is None else f"{size / MIB:.0f}"
