"""The GPU under test: by the router's own code, and by what NVIDIA's own program says of the same processes.

Card.found(engine, environ)     the first CUDA device that the engine lists and the driver knows
card.free(), card.taken(pids)   bytes now, by `llamarouter.host.devices`
smi()                           bytes by process, by nvidia-smi
"""

from __future__ import annotations

import subprocess
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from llamarouter.core.asked import MIB
from llamarouter.core.physical import Listed, Physical, matched
from llamarouter.host.devices import listing
from llamarouter.host.devices.drivers import Drivers
from llamarouter.host.devices.roots import Roots

_SECONDS = 10.0
_PACE = 0.005
_QUERY = ("nvidia-smi", "--query-compute-apps=pid,used_memory", "--format=csv,noheader,nounits")


class NoCardError(Exception):
    """There is no such GPU here. One line."""


@dataclass(slots=True)
class Card:
    """`name`: the engine's; `opening`: seconds that the first look took."""

    name: str
    listed: Listed
    first: Physical
    opening: float
    drivers: Drivers = field(repr=False)

    @classmethod
    def found(cls, engine: Path, environ: Mapping[str, str], roots: Roots | None = None) -> Card:
        """Raises `NoCardError`."""
        drivers = Drivers(roots or Roots())
        try:
            return cls._of(drivers, engine, environ)
        except NoCardError:
            drivers.close()
            raise

    @classmethod
    def _of(cls, drivers: Drivers, engine: Path, environ: Mapping[str, str]) -> Card:
        if not drivers.are_there:
            raise NoCardError("there is no GPU with a driver of NVIDIA's here")
        began = time.monotonic()
        answer = drivers.ask((), _SECONDS)
        opening = time.monotonic() - began
        if not any(card.driver == "nvidia" for card in answer.cards):
            raise NoCardError(f"there is no GPU of NVIDIA's here ({'; '.join(answer.problems) or 'no card'})")
        said = listing.ask((str(engine),), environ, _SECONDS)
        for name, card in matched(said.devices, answer.cards, environ).items():
            if card is not None and card.driver == "nvidia":
                listed = next(each for each in said.devices if each.name == name)
                return cls(name, listed, card, opening, drivers)
        raise NoCardError(f"{engine} lists no device of CUDA's ({said.problem or 'it was built for none'})")

    @property
    def total(self) -> int:
        return self.first.total

    def look(self) -> Physical:
        """The card as its driver sees it now. Raises `NoCardError` where that does not answer."""
        answer = self.drivers.ask((), _SECONDS)
        for card in answer.cards:
            if card.address == self.first.address:
                return card
        raise NoCardError(f"{self.name} does not answer: {'; '.join(answer.problems)}")

    def free(self) -> int:
        return self.look().free

    def taken(self, pids: Iterable[int]) -> int | None:
        """What these processes hold; None where the driver names none of them."""
        held = self.look().held
        found = [held[pid] for pid in pids if pid in held] if held is not None else []
        return sum(found) if found else None


def smi() -> dict[int, int]:
    """What nvidia-smi says of each process; nothing where it is not there."""
    try:
        done = subprocess.run(_QUERY, capture_output=True, text=True, timeout=_SECONDS, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return {}
    return smi_processes(done.stdout)


def smi_processes(text: str) -> dict[int, int]:
    """Bytes by process in `pid, MiB` lines; whatever else stands there (`[N/A]`) is left out."""
    held: dict[int, int] = {}
    for line in text.splitlines():
        pid, _, size = (part.strip() for part in line.partition(","))
        if pid.isdecimal() and size.isdecimal():
            held[int(pid)] = held.get(int(pid), 0) + int(size) * MIB
    return held


def seconds_until(predicate: Callable[[], object], seconds: float) -> float | None:
    """How long until it is true, looked at every 5 ms; None: not within so many seconds."""
    began = time.monotonic()
    pause = threading.Event()
    while not predicate():
        if time.monotonic() - began > seconds:
            return None
        pause.wait(_PACE)
    return time.monotonic() - began


def is_gone(pid: int) -> bool:
    """Whether a process has ended; whoever started it may not have looked yet."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return True
    return stat.rpartition(")")[2].split()[0] in ("Z", "X")
