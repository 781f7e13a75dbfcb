"""Footprints that were asked for, kept between starts: of the same files, flags, engine and devices, the same answer.

The key is made by who asks. The kept file is derived: one that cannot be read, or is of another version, is an empty
cache; a folder that cannot be written costs the next start a fraction of a second for each model.
"""

from __future__ import annotations

import os
from pathlib import Path

import msgspec

from llamarouter.core.footprint import Footprint
from llamarouter.host.header_cache import open_plain
from llamarouter.host.state import write_atomically

VERSION = 2
ENTRIES_MAX = 2_000  # the longest unused are forgotten first
FILE_MAX = 8 << 20  # bytes; a longer file is not ours


class _Kept(msgspec.Struct):
    version: int
    footprints: dict[str, Footprint]


class FootprintCache:
    """Footprints by key; `path` is the file to keep them in, or None to keep them in memory alone."""

    def __init__(self, path: str | os.PathLike[str] | None, *, entries_max: int = ENTRIES_MAX) -> None:
        self._path = None if path is None else Path(path)
        self._entries_max = entries_max
        self._entries = {} if self._path is None else _load(self._path)
        self._dirty = False

    def get(self, key: str) -> Footprint | None:
        """What was kept under the key; it counts as used."""
        footprint = self._entries.pop(key, None)
        if footprint is not None:
            self._entries[key] = footprint  # at the end: the longest unused are at the front
        return footprint

    def put(self, key: str, footprint: Footprint) -> None:
        """Keep it, and forget the longest unused ones."""
        self._entries.pop(key, None)
        self._entries[key] = footprint
        for oldest in list(self._entries)[: max(0, len(self._entries) - self._entries_max)]:
            del self._entries[oldest]
        self._dirty = True

    def save(self) -> None:
        """Write the file, if something is new."""
        if not self._dirty or self._path is None:
            return
        self._dirty = False
        try:
            write_atomically(self._path, msgspec.json.encode(_Kept(VERSION, dict(self._entries))))
        except OSError:
            return


def _load(path: Path) -> dict[str, Footprint]:
    try:
        with open(path, "rb", opener=open_plain) as file:
            if os.fstat(file.fileno()).st_size > FILE_MAX:
                return {}
            kept = msgspec.json.decode(file.read(), type=_Kept)
    except (OSError, msgspec.DecodeError, RecursionError):
        return {}
    return kept.footprints if kept.version == VERSION else {}
