"""Lists folders for discovery: sorted, bounded over a whole search, and with a note for all that is left out.

Nothing here raises for what lies in a folder. A name that no client could ask for (not UTF-8, or with control
characters) is left out with a note; hidden ones are left out in silence.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Iterator, Sequence
from pathlib import Path

from msgspec import Struct

from llamarouter.core.model import Skipped

ENTRIES_MAX = 50_000  # entries looked at in one search, over all its folders
DEPTH_MAX = 32  # folders below a snapshot, or below --models-dir: more than anybody sorts models into

_TOO_MANY = "too many files; the rest is left out"
_Identity = tuple[int, int]  # device and inode


class Folder(Struct, frozen=True):
    """One folder of a tree."""

    path: str
    inside: str  # its path in the tree; empty for the top
    files: Sequence[os.DirEntry[str]]  # all that is no folder, by name

    @property
    def depth(self) -> int:
        return self.inside.count("/") + 1 if self.inside else 0


class FolderReader:
    """One search: what may still be looked at, and what was left out."""

    def __init__(self, entries_max: int = ENTRIES_MAX) -> None:
        self.skipped: list[Skipped] = []
        self.avoided: list[str] = []  # the folders of trees that were not looked at
        self._left = entries_max
        self._noted: set[str] = set()

    def skip(self, where: str, reason: str) -> None:
        """Note a file or folder, once."""
        if where not in self._noted:
            self._noted.add(where)
            self.skipped.append(Skipped(printable(where), reason))

    def entries(self, folder: str) -> list[os.DirEntry[str]]:
        """What lies in a folder, by name; empty where it is not there or cannot be read."""
        found: list[os.DirEntry[str]] = []
        try:
            with os.scandir(folder) as entries:
                for entry in entries:
                    if self._left == 0:
                        self.skip(folder, _TOO_MANY)
                        break
                    self._left -= 1
                    if self._usable(entry):
                        found.append(entry)
        except (FileNotFoundError, NotADirectoryError):
            return []
        except OSError as error:
            self.skip(folder, f"cannot be read ({(error.strerror or str(error)).lower()})")
        if len(found) > 1:
            found.sort(key=lambda entry: entry.name)
        return found

    def tree(self, top: str) -> Iterator[Folder]:
        """A folder and all below it, the nearer ones first, so that a bound cuts off the farthest.

        Links to folders are followed after everything else; no folder is looked at twice, nor one that holds `top`.
        """
        folders: deque[tuple[str, str]] = deque([(top, "")])
        links: deque[tuple[str, str]] = deque()
        visited: list[str] = []
        seen: set[_Identity] | None = None  # only links lead to what was seen: without one, nobody has to know
        while folders or links:
            if not folders and seen is None:
                real = Path(top).resolve()
                known = (*map(str, (real, *real.parents)), *visited)
                seen = {each for place in known if (each := _identity(place)) is not None}
            path, inside = (folders or links).popleft()
            if inside and not self._enters(path, inside, seen):
                self.avoided.append(path)
                continue
            if self._left == 0:
                self.skip(top, _TOO_MANY)
                return
            visited.append(path)
            files = []
            for entry in self.entries(path):
                if not is_folder(entry):
                    files.append(entry)
                    continue
                below = f"{inside}/{entry.name}" if inside else entry.name
                (links if entry.is_symlink() else folders).append((entry.path, below))
            yield Folder(path, inside, files)

    def _enters(self, path: str, inside: str, seen: set[_Identity] | None) -> bool:
        """Whether a folder of a tree is to be looked at, with a note where it is not."""
        if seen is not None:
            identity = _identity(path)
            if identity is None:
                return False
            if identity in seen:
                self.skip(path, "a link to a folder that is looked at already, or that holds this one")
                return False
            seen.add(identity)
        if inside.count("/") >= DEPTH_MAX:
            self.skip(path, "too deep; left out")
            return False
        return True

    def files_below(self, folder: str, depth: int = DEPTH_MAX) -> list[str]:
        """The paths below a folder, relative to it, of all that is no folder. Links to folders are not followed."""
        found: list[str] = []
        for entry in self.entries(folder):
            if not is_folder(entry, follow=False):
                found.append(entry.name)
            elif depth:
                found += [f"{entry.name}/{path}" for path in self.files_below(entry.path, depth - 1)]
            else:
                self.skip(entry.path, "too deep; left out")
        return found

    def _usable(self, entry: os.DirEntry[str]) -> bool:
        if entry.name.startswith("."):
            return False
        if not entry.name.isprintable():
            self.skip(entry.path, "its name cannot be an id (not UTF-8, or with control characters)")
            return False
        return True


def is_folder(entry: os.DirEntry[str], *, follow: bool = True) -> bool:
    """Like `entry.is_dir`, but a loop of links is no folder instead of an error."""
    try:
        return entry.is_dir(follow_symlinks=follow)
    except OSError:
        return False


def _identity(path: str) -> _Identity | None:
    try:
        status = os.stat(path)
    except OSError:
        return None
    return status.st_dev, status.st_ino


def printable(path: str) -> str:
    """A path that can be written to a terminal and into JSON."""
    if path.isprintable():
        return path
    return "".join(char if char.isprintable() else ascii(char)[1:-1] for char in path)
