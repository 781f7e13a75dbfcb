"""Virtual GPUs: a ledger in a file, which fake children book their bytes in and a test's survey reads.

    {"CUDA0": {"total": 8000, "others": 0, "lag": 0.0, "held": {"4711": 600}, "gone": {"4710": [500, 12.3]}}}

Nothing but the standard library: `fake_llama_server.py` runs with `-S -E`. The bytes of a process that has died are
free `lag` seconds after somebody has first seen that it is gone, as with drivers that take their time.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import time
from collections.abc import Iterator
from typing import Any


class VirtualGpus:
    """The devices of one ledger."""

    def __init__(self, path: str) -> None:
        self.path = path

    def add(self, device: str, total: int, *, others: int = 0, lag: float = 0.0) -> None:
        """Put a device in, or change it: what other programs hold of it, and how late its driver is."""
        with self._open() as ledger:
            before = ledger.get(device, {"held": {}, "gone": {}})
            ledger[device] = {**before, "total": total, "others": others, "lag": lag}

    def devices(self) -> dict[str, Any]:
        """Every device as it is now: total, free, and what each living process holds of it."""
        with self._open() as ledger:
            return {
                name: {
                    "total": one["total"],
                    "free": _free(one),
                    "held": {int(pid): held for pid, held in one["held"].items()},
                }
                for name, one in ledger.items()
            }

    def take(self, device: str, wanted: int) -> bool:
        """Book bytes for this process; False where there are not so many."""
        with self._open() as ledger:
            one = ledger[device]
            if wanted > _free(one):
                return False
            one["held"][str(os.getpid())] = wanted
            return True

    @contextlib.contextmanager
    def _open(self) -> Iterator[dict[str, Any]]:
        with open(self.path, "a+b") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            file.seek(0)
            ledger = json.loads(file.read() or b"{}")
            for one in ledger.values():
                _bury(one)
            yield ledger
            file.truncate(0)
            file.write(json.dumps(ledger).encode())


def _bury(one: dict[str, Any]) -> None:
    now = time.monotonic()
    for pid in [pid for pid in one["held"] if not _is_alive(pid)]:
        one["gone"][pid] = [one["held"].pop(pid), now]
    for pid, (_, since) in tuple(one["gone"].items()):
        if now >= since + one["lag"]:
            del one["gone"][pid]


def _free(one: dict[str, Any]) -> int:
    free: int = one["total"] - one["others"] - sum(one["held"].values()) - sum(held for held, _ in one["gone"].values())
    return free


def _is_alive(pid: str) -> bool:
    """Whether a process runs: a zombie holds no memory."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            return file.read().rpartition(b")")[2].split()[0] not in (b"Z", b"X")
    except (FileNotFoundError, ProcessLookupError):
        return False
