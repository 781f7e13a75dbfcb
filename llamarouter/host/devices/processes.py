"""What processes hold of the machine's memory, and whom they have started (`/proc`).

A model's weights that are pages of their file count as held: a kernel that drops them makes the model read them again
from the disk, at a thousandth of the speed.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

from msgspec import Struct

from llamarouter.host.devices.roots import Roots

_HELD = re.compile(r"^(RssAnon|RssFile|RssShmem|VmLck):\s*(\d+)", re.MULTILINE)
_FAMILY_MAX = 64  # members; a child is one process, with its wrapper two


class Held(Struct, frozen=True):
    """Bytes of RAM that one process, or several, hold. `mapped`: pages of files, which count as free for the kernel."""

    own: int = 0
    mapped: int = 0

    @property
    def total(self) -> int:
        return self.own + self.mapped

    def __add__(self, other: Held) -> Held:
        return Held(self.own + other.own, self.mapped + other.mapped)


def held_by(roots: Roots, pid: int) -> Held:
    """What one process holds; nothing where it is gone, or this is not Linux."""
    text = roots.text(roots.proc, str(pid), "status")
    fields = {name: int(number) * 1024 for name, number in _HELD.findall(text)}
    mapped = fields.get("RssFile", 0)
    # Locked pages cannot be dropped: the kernel does not count them as available.
    locked = min(mapped, fields.get("VmLck", 0))
    return Held(fields.get("RssAnon", 0) + fields.get("RssShmem", 0) + locked, mapped - locked)


def families(roots: Roots, pids: Iterable[int]) -> dict[int, tuple[int, ...]]:
    """Each process with all that it has started, and they have, itself first."""
    return {pid: _family(roots, pid) for pid in pids}


def _family(roots: Roots, pid: int) -> tuple[int, ...]:
    found = [pid]
    for each in found:
        if len(found) >= _FAMILY_MAX:
            break
        text = roots.text(roots.proc, str(each), "task", str(each), "children")
        found += [int(word) for word in text.split() if word.isdecimal() and int(word) not in found]
    return tuple(found)
