"""Whether a process does anything: what the kernel counts for it, compared over time.

Linux only (`/proc`); elsewhere there is nothing to read, and only what a child writes shows that it lives.
"""

from __future__ import annotations

import contextlib
import functools
import os

from msgspec import Struct

_TICK = os.sysconf("SC_CLK_TCK")


class Vitals(Struct, frozen=True):
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


def out_of_memory_kills(counters: tuple[str, ...] | None = None) -> int:
    """How often the kernel has killed something for want of memory since boot, on the machine and within our own limit.

    0 where it does not say. In a container the machine's counter may be out of sight, and that of the own group not.
    `counters`: other files than those.
    """
    return sum(_counted(path) for path in counters or ("/proc/vmstat", *_own_memory_groups()))


def memory_groups(cgroup: str, root: str = "/sys/fs/cgroup") -> tuple[str, ...]:
    """The files with the counter of a group, by what `/proc/PID/cgroup` says of it: of version 2, or of version 1."""
    found = []
    for line in cgroup.splitlines():
        _, controllers, path = line.split(":", 2)
        if not controllers:
            # Within a container its own group is the root, and the path is that of the machine.
            found += [f"{root}{path.rstrip('/')}/memory.events", f"{root}/memory.events"]
        elif "memory" in controllers.split(","):
            found += [f"{root}/memory{path.rstrip('/')}/memory.oom_control", f"{root}/memory/memory.oom_control"]
    return tuple(next(([path] for path in found if os.path.exists(path)), []))


def _counted(path: str) -> int:
    try:
        with open(path, "rb") as file:
            return next((int(line.split()[1]) for line in file if line.startswith(b"oom_kill ")), 0)
    except (OSError, ValueError):
        return 0


@functools.cache
def _own_memory_groups() -> tuple[str, ...]:
    try:
        with open("/proc/self/cgroup", encoding="utf-8") as file:
            return memory_groups(file.read())
    except (OSError, ValueError):
        return ()
