"""Lists folders for discovery: sorted, bounded over a whole search, and with a note for all that is left out.

Nothing here raises for what lies in a folder. A name that no client could ask for (not UTF-8, or with control
characters) is left out with a note; hidden ones are left out in silence.
"""

from __future__ import annotations

import os

from llamarouter.core.model import Skipped

ENTRIES_MAX = 10_000  # entries looked at in one search, over all its folders
DEPTH_MAX = 8  # folders below a snapshot


class FolderReader:
    """One search: what may still be looked at, and what was left out."""

    def __init__(self, entries_max: int = ENTRIES_MAX) -> None:
        self.skipped: list[Skipped] = []
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
                        self.skip(folder, "too many files; the rest is left out")
                        break
                    self._left -= 1
                    if self._usable(entry):
                        found.append(entry)
        except (FileNotFoundError, NotADirectoryError):
            return []
        except OSError as error:
            self.skip(folder, f"cannot be read ({(error.strerror or str(error)).lower()})")
        found.sort(key=lambda entry: entry.name)
        return found

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


def printable(path: str) -> str:
    """A path that can be written to a terminal and into JSON."""
    if path.isprintable():
        return path
    return "".join(char if char.isprintable() else ascii(char)[1:-1] for char in path)
