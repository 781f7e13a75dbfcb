"""The machine's own memory as a device: `Host`.

    total   what the machine has, or the limit of the container (cgroup, the tightest above us)
    free    what the kernel calls available, less the pages of files that our children have mapped
    held    of each child: its own pages, and those of its files

The kernel calls mapped pages available, for it can drop them. For a model they are its weights, and not free.
"""

from __future__ import annotations

import functools
import os
import re
from collections.abc import Iterable, Mapping
from pathlib import PurePosixPath

from llamarouter.core.devices import Device
from llamarouter.core.footprint import HOST
from llamarouter.host.devices.processes import Held, held_by
from llamarouter.host.devices.roots import Roots

_NO_LIMIT = 1 << 60  # cgroup v1 says a number near 2^63 where there is none
_MEMORY = re.compile(r"^(MemTotal|MemAvailable): *(\d+)", re.MULTILINE)

_Names = tuple[str, str, str, str]  # of the files with limit and use, of the numbers of what can be dropped


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
    fields = dict(_MEMORY.findall(roots.text(roots.proc, "meminfo")))
    total, available = (int(fields.get(name, 0)) * 1024 for name in ("MemTotal", "MemAvailable"))
    if not total:  # not Linux
        page = os.sysconf("SC_PAGE_SIZE")
        total = page * os.sysconf("SC_PHYS_PAGES")
        return total, total
    return total, available


def _limits(roots: Roots) -> Iterable[tuple[int, int]]:
    """(limit, used without what can be dropped) of our cgroup and of those above it, where they have one."""
    for folder, names in _groups(roots.text(roots.proc, "self", "cgroup"), roots.cgroup):
        found = _limit(roots, folder, names)
        if found is not None:
            yield found


@functools.lru_cache(maxsize=8)
def _groups(cgroup: str, root: str) -> tuple[tuple[str, _Names], ...]:
    """The folders of our groups and of those above, and what their files are called; the same for the same `cgroup`."""
    found = []
    for line in cgroup.splitlines():
        _, controllers, path = [*line.split(":", 2), "", ""][:3]
        if controllers == "":
            folder, names = root, ("memory.max", "memory.current", "inactive_file", "active_file")
        elif "memory" in controllers.split(","):
            folder = f"{root}/memory"
            names = ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file", "total_active_file")
        else:
            continue
        # Inside a container the path may be one of outside: then the top is what is ours.
        group = PurePosixPath(path.lstrip("/"))
        found += [(f"{folder}/{each}", names) for each in (group, *group.parents)]
    return tuple(found)


def _limit(roots: Roots, folder: str, names: _Names) -> tuple[int, int] | None:
    limit = roots.number(folder, names[0])
    if limit is None or limit >= _NO_LIMIT:
        return None
    used = roots.number(folder, names[1])
    if used is None:
        return None
    droppable = 0
    for line in roots.text(folder, "memory.stat").splitlines():
        name, _, number = line.partition(" ")
        if name in names[2:] and number.isdecimal():
            droppable += int(number)
    return limit, max(0, used - droppable)
