"""The models that lie here, and the downloads that were not finished."""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Iterator

from llamarouter.core.findings import Finding
from llamarouter.core.model_findings import Seen, Unfinished, model_findings, unfinished_findings
from llamarouter.host.folder_reader import FolderReader
from llamarouter.host.inventory import Inventory
from llamarouter.host.places import Places

_PARTIAL = (".lr-partial", ".incomplete", ".downloadInProgress", ".part")
_SAMPLE = 1 << 16  # bytes


def check_models(inventory: Inventory, preset: str | None) -> list[Finding]:
    """All of the inventory; files of the same size are looked into, at three places."""
    sizes: dict[int, int] = {}
    for entry in inventory.catalog.entries.values():
        sizes[entry.model.size] = sizes.get(entry.model.size, 0) + 1
    seen = []
    names: dict[tuple[int, int], str] = {}  # two hard links are one file, and take its room once
    for entry in inventory.catalog.entries.values():
        model = entry.model
        path = None if model.files is None else _one_name_of(os.path.realpath(model.files.model), names)
        twins = path is not None and model.size > 0 and sizes[model.size] > 1
        seen.append(
            Seen(
                id=model.id,
                source=model.source,
                path=path,
                size=model.size,
                problem=entry.problem or model.problem,
                removable=model.removable,
                sample=_sample(path) if twins and path is not None else "",
            )
        )
    findings = list(model_findings(seen, inventory.catalog.skipped, preset))
    return [*findings, *unfinished_findings(unfinished(inventory.places))]


def _one_name_of(path: str, names: dict[tuple[int, int], str]) -> str:
    try:
        there = os.stat(path)
    except OSError:
        return path
    return names.setdefault((there.st_dev, there.st_ino), path)


def unfinished(places: Places) -> Iterator[Unfinished]:
    """What a download has left: in the hub's cache, in the flat ones, in --models-dir."""
    folders = [*places.flat_caches, *([places.models_dir] if places.models_dir is not None else [])]
    folders += [os.path.join(entry.path, "blobs") for entry in _entries(places.hub_cache)]
    now = time.time()  # noqa: TID251 (beside the times of files)
    for folder in dict.fromkeys(folders):
        for entry in _entries(folder):
            if entry.name.endswith(_PARTIAL):
                try:
                    found = entry.stat()
                except OSError:
                    continue  # it was finished just now
                yield Unfinished(entry.path, found.st_size, max(0.0, now - found.st_mtime))


def _entries(folder: str) -> list[os.DirEntry[str]]:
    return list(FolderReader().entries(folder))


def _sample(path: str) -> str:
    """A hash over the beginning, the middle and the end: all of a file takes minutes."""
    digest = hashlib.sha256()
    try:
        with open(path, "rb") as file:
            size = os.fstat(file.fileno()).st_size
            for place in (0, size // 2, max(0, size - _SAMPLE)):
                file.seek(place)
                digest.update(file.read(_SAMPLE))
    except OSError:
        return ""
    return digest.hexdigest()
