"""A glance at places that were looked at before: one `stat` for each folder and file, and nothing is listed.

    folders, files, links of a look --glance_at--> Glance --holds--> whether looking again would find the same

A folder into which nothing came and from which nothing went has the times that it had. That can be relied on where the
file system is one of this machine that keeps such times, and where the times lie far enough back: in the tick of the
clock in which a folder was listed it can change once more without other times. Anywhere else there is no glance, and
who asks lists everything.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterable, Sequence

from msgspec import Struct

# Btrfs is missing because the devices of its files are not those that the table of mounts has; of a network, and of
# what a program serves (FUSE), the times of folders may be old, or made up.
_KEEP_TIMES = frozenset(("ext2", "ext3", "ext4", "xfs", "tmpfs", "f2fs", "zfs", "bcachefs", "overlay"))
_MOUNTS = "/proc/self/mountinfo"
# How long ago a folder must have changed to be relied on (ns): ext3 counts its times in seconds.
_SETTLED = 2_000_000_000

Mark = tuple[str, int, int, int]  # a file: its path, mtime and ctime in ns, size; zeroes where there is none
_Stamp = tuple[int, int, int, int]  # a folder: device, inode, mtime and ctime in ns


class Glance(Struct, frozen=True):
    """What was seen, in the order in which it is looked at again. `links`: links that lead to no folder."""

    folders: tuple[tuple[str, _Stamp | None], ...]
    files: tuple[Mark, ...]
    links: tuple[str, ...]

    def holds(self) -> bool:
        """Whether all of it is as it was. Written out: thousands of calls would cost as much as the kernel does."""
        look = os.stat
        for path, stamp in self.folders:
            try:
                found = look(path)
            except OSError:
                if stamp is not None:
                    return False
                continue
            if (found.st_dev, found.st_ino, found.st_mtime_ns, found.st_ctime_ns) != stamp:
                return False
        for path, mtime_ns, ctime_ns, size in self.files:
            try:
                found = look(path)
            except OSError:
                if ctime_ns:
                    return False
                continue
            if found.st_ctime_ns != ctime_ns or found.st_mtime_ns != mtime_ns or found.st_size != size:
                return False
        return not any(map(os.path.isdir, self.links))


def glance_at(folders: Iterable[str], files: Sequence[Mark], links: Iterable[str], begun_ns: int) -> Glance | None:
    """Note what a look has seen that began at this (unix) time; None where that would not tell of a change."""
    stamps: dict[str, _Stamp | None] = {}
    reliable = _reliable_devices()
    for path in folders:
        stamps[path] = stamp = _stamp_of(path)
        if stamp is None:
            continue
        device, _, mtime_ns, ctime_ns = stamp
        if device not in reliable or max(mtime_ns, ctime_ns) > begun_ns - _SETTLED:
            return None
    return Glance(tuple(stamps.items()), tuple(files), tuple(links))


def now_ns() -> int:
    """The time as files have it."""
    return time.time_ns()


def _stamp_of(path: str) -> _Stamp | None:
    try:
        found = os.stat(path)
    except OSError:
        return None
    return (found.st_dev, found.st_ino, found.st_mtime_ns, found.st_ctime_ns)


def _reliable_devices() -> frozenset[int]:
    """The devices of the file systems that keep the times of folders; none where there is no table of mounts."""
    try:
        with open(_MOUNTS, encoding="utf-8", errors="replace") as table:
            return frozenset(device for line in table if (device := _device_of(line)) is not None)
    except OSError:
        return frozenset()


def _device_of(line: str) -> int | None:
    """`36 35 98:0 / /mnt rw,noatime master:1 - ext3 /dev/root rw`: the device, if its file system keeps times."""
    words, _, kind = line.partition(" - ")
    if kind.partition(" ")[0] not in _KEEP_TIMES:
        return None
    major, _, minor = words.split(" ")[2].partition(":")
    return os.makedev(int(major), int(minor))
