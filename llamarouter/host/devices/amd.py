"""AMD's cards, from what the kernel shows of them in `/sys` and `/proc`: memory, and who holds how much of it.

    /sys/class/drm/card0/device/mem_info_vram_total, _used      the memory of a card
    /proc/PID/fdinfo/*   drm-pdev, drm-memory-vram              what a process draws or computes with
    /sys/class/kfd/kfd/proc/PID/vram_GPUID                      what a process computes with (ROCm)

The two views of a process overlap: the larger one is taken.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable
from pathlib import Path

from llamarouter.core.physical import Physical
from llamarouter.host.devices.roots import Roots

_VENDOR = "0x1002"
_CARD = re.compile(r"card\d+")
_VRAM = ("drm-resident-vram", "drm-memory-vram", "drm-total-vram")  # the first that is there


def cards(roots: Roots, pids: Iterable[int]) -> list[Physical]:
    """All cards, by their PCI addresses, and what these processes hold of each."""
    processes = tuple(pids)
    drawn = {pid: _drawn(roots, pid) for pid in processes}
    ids = _kfd_ids(roots)
    found = []
    for card in Path(roots.sys, "class", "drm").glob("card*"):
        device = card / "device"
        total = roots.number(str(device), "mem_info_vram_total")
        used = roots.number(str(device), "mem_info_vram_used")
        ours = _CARD.fullmatch(card.name) and roots.text(str(device), "vendor").strip() == _VENDOR
        if not ours or total is None or used is None:
            continue
        address = os.path.basename(os.path.realpath(device))
        held = {}
        for pid in processes:
            size = max(drawn[pid].get(address, 0), _computed(roots, pid, ids.get(address)))
            if size:
                held[pid] = size
        name = roots.text(str(device), "product_name").strip()
        free = max(0, total - used)
        found.append(Physical(driver="amd", address=address, name=name, total=total, free=free, held=held))
    return sorted(found, key=lambda each: each.address)


def _drawn(roots: Roots, pid: int) -> dict[str, int]:
    """Bytes of video memory by PCI address; a client that has several descriptors counts once."""
    clients: dict[tuple[str, str], int] = {}
    try:
        names = os.listdir(f"{roots.proc}/{pid}/fdinfo")
    except OSError:
        return {}
    for name in names:
        text = roots.text(roots.proc, str(pid), "fdinfo", name)
        if "drm-pdev:" not in text:
            continue
        fields = {key: value.strip() for key, _, value in (line.partition(":") for line in text.splitlines())}
        size = next((_size_of(fields[key]) for key in _VRAM if key in fields), 0)
        clients[fields["drm-pdev"], fields.get("drm-client-id", name)] = size
    held: dict[str, int] = {}
    for (address, _), size in clients.items():
        held[address] = held.get(address, 0) + size
    return held


def _size_of(text: str) -> int:
    number, _, unit = text.partition(" ")
    power = {"": 0, "KiB": 10, "MiB": 20}.get(unit.strip())
    return int(number) << power if number.isdecimal() and power is not None else 0


def _kfd_ids(roots: Roots) -> dict[str, int]:
    """The number that ROCm's driver gives a card, by its PCI address."""
    found = {}
    for node in Path(roots.sys, "class", "kfd", "kfd", "topology", "nodes").glob("*"):
        gpu = roots.number(str(node), "gpu_id")
        fields = dict(line.split(" ", 1) for line in roots.text(str(node), "properties").splitlines() if " " in line)
        if not gpu or not fields.get("location_id", "").isdecimal():
            continue  # a CPU is a node, too
        place, domain = int(fields["location_id"]), int(fields.get("domain", "0"))
        found[f"{domain:04x}:{place >> 8 & 0xFF:02x}:{place >> 3 & 0x1F:02x}.{place & 7:x}"] = gpu
    return found


def _computed(roots: Roots, pid: int, gpu: int | None) -> int:
    if gpu is None:
        return 0
    return roots.number(roots.sys, "class", "kfd", "kfd", "proc", str(pid), f"vram_{gpu}") or 0
