"""The router's own process as the kernel counts it; Linux only, elsewhere there is little to say."""

from __future__ import annotations

import functools
import os
import resource
import time

from msgspec import Struct

_TICK = os.sysconf("SC_CLK_TCK")
_PAGE = os.sysconf("SC_PAGE_SIZE")


class OwnProcess(Struct, frozen=True):
    """Bytes and seconds; None: the system does not say."""

    cpu_seconds: float
    max_fds: int
    open_fds: int | None = None
    resident: int | None = None
    virtual: int | None = None
    started: float | None = None  # unix seconds


def own_process() -> OwnProcess:
    """As it is now. Takes some 0.1 ms, and more where thousands of files are open."""
    cpu, (soft, _) = time.process_time(), resource.getrlimit(resource.RLIMIT_NOFILE)
    try:
        with open("/proc/self/stat", "rb") as file:
            fields = file.read().rpartition(b")")[2].split()
        return OwnProcess(
            cpu_seconds=cpu,
            max_fds=soft,
            open_fds=len(os.listdir("/proc/self/fd")) - 1,  # one of them is the listing's own
            resident=int(fields[21]) * _PAGE,
            virtual=int(fields[20]),
            started=_booted() + int(fields[19]) / _TICK,
        )
    except (OSError, ValueError, IndexError, StopIteration):
        return OwnProcess(cpu_seconds=cpu, max_fds=soft)


@functools.cache
def _booted() -> float:
    """Unix seconds. `starttime` counts from it: taken once, it does not wander with the clock."""
    with open("/proc/stat", "rb") as file:
        return float(next(line.split()[1] for line in file if line.startswith(b"btime ")))
