"""Whether a process does anything: what the kernel counts for it, compared over time.

Linux only (`/proc`); elsewhere there is nothing to read, and only what a child writes shows that it lives.
"""

from __future__ import annotations

import contextlib
import os
from dataclasses import dataclass

_TICK = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True, slots=True)
class Vitals:
    """Counters of one process since its start."""

    cpu_seconds: float  # all threads, user and system
    read_bytes: int  # from files: by `read`, and by page faults of a mapped file that went to the disk
    stopped: bool  # by SIGSTOP or a debugger


def vitals_of(pid: int) -> Vitals | None:
    """The counters of `pid`; None where they cannot be read (it is gone, or this is not Linux)."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            # The second field is the name in parentheses, and may itself hold spaces and parentheses.
            fields = file.read().rpartition(b")")[2].split()
        read = 0
        # The io file of a process with other credentials is closed to us: then CPU and output must do.
        with contextlib.suppress(PermissionError), open(f"/proc/{pid}/io", "rb") as file:
            counters = dict(line.split(b": ") for line in file.read().splitlines())
            read = int(counters[b"rchar"]) + int(counters[b"read_bytes"])
        return Vitals((int(fields[11]) + int(fields[12])) / _TICK, read, fields[0] in (b"T", b"t"))
    except (OSError, ValueError, IndexError, KeyError):
        return None


def out_of_memory_kills() -> int:
    """How often the kernel has killed something for want of memory since boot (0 where it does not say)."""
    try:
        with open("/proc/vmstat", "rb") as file:
            return next((int(line.split()[1]) for line in file if line.startswith(b"oom_kill ")), 0)
    except OSError:
        return 0
