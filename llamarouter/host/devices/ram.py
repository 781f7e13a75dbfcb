"""The machine's own memory as a device: `Host`.

    total   what the machine has, or the limit of the container (cgroup, the tightest above us)
    free    what the kernel calls available, less the pages of files that our children have mapped
    held    of each child: its own pages, and those of its files

The kernel calls mapped pages available, for it can drop them. For a model they are its weights, and not free.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from pathlib import PurePosixPath

from llamarouter.core.devices import Device
from llamarouter.core.footprint import HOST
from llamarouter.host.devices.processes import Held, held_by
from llamarouter.host.devices.roots import Roots

_NO_LIMIT = 1 << 60  # cgroup v1 says a number near 2^63 where there is none


def host_device(roots: Roots, families: Mapping[int, tuple[int, ...]]) -> Device:
    """Host memory now; `families` are our children with what they have started. Microseconds; never blocks."""
    total, available = _memory(roots)
    for limit, used in _limits(roots):
        total, available = min(total, limit), min(available, max(0, limit - used))
    held = {pid: sum((held_by(roots, each) for each in family), Held()) for pid, family in families.items()}
    mapped = sum(each.mapped for each in held.values())
    shown, mappings = (
        {pid: each.total for pid, each in held.items()},
        {pid: each.mapped for pid, each in held.items()},
    )
    # Children that map one file count its pages each: what is too much is taken off again.
    excess = max(0, mapped - available)
    for pid, each in held.items():
        less = min(excess, each.mapped)
        shown[pid] -= less
        excess -= less
    free = max(0, available - mapped)
    return Device(name=HOST, description="memory", total=total, free=free, held=shown, mapped=mappings)


def _memory(roots: Roots) -> tuple[int, int]:
    fields = dict(line.split(":", 1) for line in roots.text(roots.proc, "meminfo").splitlines() if ":" in line)
    total, available = (_kib(fields.get(name, "")) for name in ("MemTotal", "MemAvailable"))
    if not total:  # not Linux
        page = os.sysconf("SC_PAGE_SIZE")
        total = page * os.sysconf("SC_PHYS_PAGES")
        return total, total
    return total, available


def _kib(text: str) -> int:
    words = text.split()
    return int(words[0]) * 1024 if words and words[0].isdecimal() else 0


def _limits(roots: Roots) -> Iterable[tuple[int, int]]:
    """(limit, used without what can be dropped) of our cgroup and of those above it, where they have one."""
    for line in roots.text(roots.proc, "self", "cgroup").splitlines():
        _, controllers, path = [*line.split(":", 2), "", ""][:3]
        if controllers == "":
            folder, names = roots.cgroup, ("memory.max", "memory.current", "inactive_file", "active_file")
        elif "memory" in controllers.split(","):
            folder = f"{roots.cgroup}/memory"
            names = ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file", "total_active_file")
        else:
            continue
        # Inside a container the path may be one of outside: then the top is what is ours.
        for group in (PurePosixPath(path.lstrip("/")), *PurePosixPath(path.lstrip("/")).parents):
            found = _limit(roots, f"{folder}/{group}", names)
            if found is not None:
                yield found


def _limit(roots: Roots, folder: str, names: tuple[str, str, str, str]) -> tuple[int, int] | None:
    limit = roots.number(folder, names[0])
    used = roots.number(folder, names[1])
    if limit is None or used is None or limit >= _NO_LIMIT:
        return None
    droppable = 0
    for line in roots.text(folder, "memory.stat").splitlines():
        name, _, number = line.partition(" ")
        if name in names[2:] and number.isdecimal():
            droppable += int(number)
    return limit, max(0, used - droppable)
