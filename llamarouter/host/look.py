"""A look at the places where models may lie, that is cheap to take and to take again.

    look_at(places) -> Look
    Look.again()    -> what it looks like now, where that is the same; None: something has changed

The same means that searching again would find the same. No file is opened for it.
"""

from __future__ import annotations

import os
from collections.abc import Iterable

from msgspec import Struct

from llamarouter.core.ids import REPO_PREFIX, SUFFIX
from llamarouter.host.folder_reader import DEPTH_MAX, FolderReader, is_folder
from llamarouter.host.glance import Glance, Mark, glance_at, now_ns
from llamarouter.host.models_folder import check_folder
from llamarouter.host.places import Places


class Look(Struct, frozen=True):
    """What the places looked like."""

    places: Places
    marks: tuple[Mark, ...]  # sorted
    glance: Glance | None  # None: it takes a whole look to tell whether something has changed

    def again(self) -> Look | None:
        """What it looks like now, where nothing has changed. Raises `UsageError` as `look_at` does."""
        if self.glance is not None and self.glance.holds():
            return self
        now = look_at(self.places)
        return now if now.marks == self.marks else None


def look_at(places: Places) -> Look:
    """Look at folders, and at times and sizes of the GGUFs in them.

    Raises `UsageError` where `places.models_dir` is not a folder that can be listed.
    """
    begun_ns = now_ns()
    walk = _Walk()
    if places.models_dir is not None:
        check_folder(places.models_dir)
        walk.models_folder(places.models_dir)
    walk.flat_caches(places.flat_caches)
    walk.hub_cache(places.hub_cache)
    marks = tuple(sorted((*walk.files, *walk.others)))
    return Look(places, marks, glance_at(walk.folders, walk.files, walk.links, begun_ns))


class _Walk:
    """What was seen on the way. `others`: marks of what is no file, or of which the name alone counts."""

    def __init__(self) -> None:
        self.folders: list[str] = []
        self.links: list[str] = []  # those that lead to no folder: one may lie there some day
        self.files: list[Mark] = []
        self.others: list[Mark] = []
        self._reader = FolderReader()

    def models_folder(self, top: str) -> None:
        reader = FolderReader()
        for folder in reader.tree(top):
            self.folders.append(folder.path)
            for entry in folder.files:
                if not self._file(entry) and entry.is_symlink():
                    self.links.append(entry.path)
        self.folders += reader.avoided
        # Of one whose name is that of a file there is a note.
        self.others += (_named(f"{folder}/") for folder in self.folders)
        self._note(reader)

    def flat_caches(self, places: Iterable[str]) -> None:
        self._reader = FolderReader()
        for place in places:
            for entry in self._scan(place):
                self._file(entry)
        self._note(self._reader)

    def hub_cache(self, place: str) -> None:
        self._reader = FolderReader()
        for entry in self._scan(place):
            if entry.name.startswith(REPO_PREFIX):
                self._repository(entry.path)
        self._note(self._reader)

    def _note(self, reader: FolderReader) -> None:
        self.others += (_named(str(note)) for note in reader.skipped)

    def _repository(self, path: str) -> None:
        for ref in self._scan(f"{path}/refs"):  # overwritten in place by some programs
            self.files.append(_mark_of(ref))
        snapshots = self._scan(f"{path}/snapshots")
        for entry in snapshots:
            if is_folder(entry):
                # The newest counts where no ref leads to one.
                self.others.append(_mark_of(entry) if len(snapshots) > 1 else _named(f"{entry.path}/"))
                self._snapshot(entry.path, DEPTH_MAX)
            elif entry.is_symlink():
                self.links.append(entry.path)

    def _snapshot(self, folder: str, depth: int) -> None:
        for entry in self._scan(folder):
            if is_folder(entry, follow=False):
                if depth:
                    self._snapshot(entry.path, depth - 1)
            elif entry.name.endswith(SUFFIX):
                self.files.append(_mark_of(entry))

    def _file(self, entry: os.DirEntry[str]) -> bool:
        """A file is marked with its size: one that is still being copied is complete some day, under the same name.

        False for one that is nothing to us.
        """
        wanted = entry.name.endswith((SUFFIX, ".json"))
        if wanted:
            self.files.append(_mark_of(entry))
        return wanted

    def _scan(self, folder: str) -> list[os.DirEntry[str]]:
        self.folders.append(folder)
        return self._reader.entries(folder)


def _mark_of(entry: os.DirEntry[str]) -> Mark:
    try:
        found = entry.stat()
    except OSError:
        return _named(entry.path)
    return entry.path, found.st_mtime_ns, found.st_ctime_ns, found.st_size


def _named(path: str) -> Mark:
    return path, 0, 0, 0
