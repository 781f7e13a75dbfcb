"""Looking at one child, while it loads and while it has work: is it stuck?

What is seen comes from the kernel, from the child's own lines, and from `/slots`; what it means is `core.stall`'s
to say. A child that wakes from a sleep loads once more, with requests inside: then it is watched as a load.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
from typing import Protocol

from llamarouter.core.child_protocol import Address
from llamarouter.core.stall import BusyWatch, LoadWatch
from llamarouter.host import probe
from llamarouter.host.child_process import ChildProcess
from llamarouter.host.vitals import vitals_of

_PROBE_WITHIN = 10.0
_LOOK_AT_LOAD_EVERY = 1.0
_LOOK_EVERY = 5.0  # at a child that has work


class Work(Protocol):
    """Who knows what is going on inside a child."""

    def leases(self) -> int:
        """Requests inside the child now."""
        ...

    def silence(self) -> float:
        """Seconds since the last sign of life of any answer of a request inside; 0.0 if none is inside."""
        ...


class Watching:
    """One child. Limits are seconds."""

    def __init__(
        self,
        child: ChildProcess,
        address: Address,
        api_key: str | None,
        work: Work,
        *,
        load_stall: float,
        busy_stall: float,
    ) -> None:
        self._child = child
        self._address = address
        self._api_key = api_key
        self._work = work
        self._load_stall = load_stall
        self._busy_stall = busy_stall
        self._clock = asyncio.get_running_loop().time
        self._busy = BusyWatch(busy_stall)
        self._load: LoadWatch | None = None
        self._value = 0.0  # of the load, from 0 to 1

    @property
    def look_every(self) -> float:
        """How often to look, as things are."""
        if self._load is not None:
            return min(_LOOK_AT_LOAD_EVERY, self._load_stall / 4)
        return min(_LOOK_EVERY, self._busy_stall / 4)

    def load_is_at(self, value: float) -> None:
        """It loads, or wakes, and is so far."""
        if self._load is None:
            self._load = LoadWatch(self._load_stall, self._clock())
        self._value = value

    def load_is_over(self) -> None:
        """It answers."""
        self._load = None
        self._busy.moved()

    def stuck_loading(self) -> str | None:
        """What is wrong with a load; None while it moves."""
        assert self._load is not None
        vitals = vitals_of(self._child.pid)
        return self._load.stuck(
            self._clock(),
            output=self._child.output,
            progress=self._value,
            read_bytes=vitals.read_bytes if vitals else None,
            cpu_seconds=vitals.cpu_seconds if vitals else None,
        )

    async def stuck(self) -> str | None:
        """What is wrong with a child that was ready once; None if nothing is."""
        if self._load is not None:
            return self.stuck_loading()
        if self._work.leases() == 0 and self._is_cut_off():
            return "its socket was removed: nobody can reach it any more"
        if self._is_heard():
            self._busy.moved()
            return None
        return await self._stuck_at_work()

    def _is_heard(self) -> bool:
        return self._work.leases() == 0 or self._work.silence() < self._busy_stall

    def _is_cut_off(self) -> bool:
        """Whether somebody has cleaned the runtime folder away under a living child."""
        return isinstance(self._address, str) and not os.path.lexists(self._address)

    async def _stuck_at_work(self) -> str | None:
        seconds = min(_PROBE_WITHIN, self._busy_stall)
        slots: bytes | None = None
        with contextlib.suppress(probe.ProbeError):
            slots = (await probe.get(self._address, "/slots", api_key=self._api_key, seconds=seconds)).body
        if self._child.exited.is_set() or self._is_heard() or self._load is not None:
            self._busy.moved()
            return None
        vitals = vitals_of(self._child.pid)
        return self._busy.stuck(self._clock(), self._work.silence(), slots, vitals.cpu_seconds if vitals else None)
