"""What the kernel says of a process: the CPU time that it took, and the memory that it holds."""

from __future__ import annotations

import os
from pathlib import Path

_TICKS = os.sysconf("SC_CLK_TCK")


def cpu_of(pid: int) -> float:
    """Seconds of user and system time, without those of its children."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / _TICKS


def kernel_of(pid: int) -> float:
    """Those of them that were system time: seconds in the kernel."""
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[12]) / _TICKS


def memory_of(pid: int) -> float:
    """Megabytes that are resident now."""
    return _megabytes(pid, "VmRSS")


def peak_of(pid: int) -> float:
    """The most megabytes that were resident since the start, or since `forget_peak`."""
    return _megabytes(pid, "VmHWM")


def forget_peak(pid: int) -> None:
    """Have the peak begin anew at what is resident now."""
    Path(f"/proc/{pid}/clear_refs").write_text("5")


def children_of(pid: int) -> list[int]:
    """The processes that a process has started, and not reaped yet."""
    tasks = Path(f"/proc/{pid}/task").iterdir()
    return [int(child) for task in tasks for child in (task / "children").read_text().split()]


def _megabytes(pid: int, name: str) -> float:
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        key, _, value = line.partition(":")
        if key == name:
            return int(value.split()[0]) * 1024 / 1e6
    raise SystemExit(f"bench: /proc/{pid}/status has no {name}")
