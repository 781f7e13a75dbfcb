"""Where models may lie, after the environment; and a signature of those places that is cheap to take.

Signatures are compared: equal means that looking again would find the same. No file is opened for one.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Mapping
from itertools import islice

from msgspec import Struct

from llamarouter.core.ids import REPO_PREFIX, SUFFIX
from llamarouter.host.folder_reader import DEPTH_MAX, ENTRIES_MAX, FolderReader, is_folder
from llamarouter.host.models_folder import check_folder
from llamarouter.host.state import home_of


class Places(Struct, frozen=True):
    """Where to look; absolute paths. Only `models_dir` has to exist."""

    models_dir: str | None
    hub_cache: str
    flat_caches: tuple[str, ...]


_Mark = tuple[str, int, int]  # path, mtime in ns, size


class Signature(Struct, frozen=True):
    """What the places looked like."""

    marks: tuple[_Mark, ...]  # sorted


def places_of(environ: Mapping[str, str], models_dir: str | None) -> Places:
    """The hub's cache is where the first of `LLAMA_CACHE HF_HUB_CACHE HUGGINGFACE_HUB_CACHE HF_HOME XDG_CACHE_HOME
    HOME` says (`common/hf-cache.cpp`, build b11434); the flat one may be in `LLAMA_CACHE` and in the user's cache.
    """
    home = home_of(environ)
    candidates = (
        environ.get("LLAMA_CACHE"),
        environ.get("HF_HUB_CACHE"),
        environ.get("HUGGINGFACE_HUB_CACHE"),
        _below(environ.get("HF_HOME"), "hub"),
        _below(environ.get("XDG_CACHE_HOME"), "huggingface/hub"),
    )
    hub = next((place for place in candidates if place), os.path.join(home, ".cache/huggingface/hub"))
    flat = (
        environ.get("LLAMA_CACHE"),
        _below(environ.get("XDG_CACHE_HOME"), "llama.cpp"),
        os.path.join(home, ".cache/llama.cpp"),
    )
    return Places(
        models_dir=_absolute(models_dir) if models_dir else None,
        hub_cache=_absolute(hub),
        flat_caches=tuple(dict.fromkeys(_absolute(place) for place in flat if place)),
    )


def signature_of(places: Places) -> Signature:
    """Look at folders, and at times and sizes of the GGUFs that people copy into them.

    Raises `UsageError` where `places.models_dir` is not a folder that can be listed.
    """
    marks: list[_Mark] = []
    if places.models_dir is not None:
        check_folder(places.models_dir)
        for folder in FolderReader().tree(places.models_dir):
            for entry in folder.files:
                _mark_file(entry, marks)
    for place in places.flat_caches:
        _mark_files(place, marks)
    for entry in _scan(places.hub_cache):
        if entry.name.startswith(REPO_PREFIX):
            # A ref is overwritten in place by some programs.
            marks.extend(map(_mark_of, _scan(os.path.join(entry.path, "refs"))))
            _mark_names(os.path.join(entry.path, "snapshots"), marks, DEPTH_MAX + 1)
            _mark_folder(os.path.join(entry.path, "blobs"), marks)
    marks.sort()
    return Signature(tuple(marks))


def _mark_files(folder: str, marks: list[_Mark]) -> None:
    for entry in _scan(folder):
        _mark_file(entry, marks)


def _mark_file(entry: os.DirEntry[str], marks: list[_Mark]) -> None:
    """A file is marked with its size: one that is still being copied is complete some day, with no change of names."""
    if entry.name.endswith((SUFFIX, ".json")):
        marks.append(_mark_of(entry))


def _mark_names(folder: str, marks: list[_Mark], depth: int) -> None:
    """In the hub's cache a file's name appears when it is complete."""
    for entry in _scan(folder):
        if entry.name.endswith(SUFFIX):
            marks.append((entry.path, 0, 0))
        elif depth and is_folder(entry, follow=False):
            marks.append((entry.path, 0, 0))
            _mark_names(entry.path, marks, depth - 1)


def _mark_folder(path: str, marks: list[_Mark]) -> None:
    """A folder is marked with its time: of the blobs, so that one which was broken is seen to be replaced."""
    with contextlib.suppress(OSError):
        marks.append((path, os.stat(path).st_mtime_ns, 0))


def _mark_of(entry: os.DirEntry[str]) -> _Mark:
    try:
        status = entry.stat()
    except OSError:
        return (entry.path, 0, 0)
    return (entry.path, status.st_mtime_ns, status.st_size)


def _scan(folder: str) -> list[os.DirEntry[str]]:
    try:
        with os.scandir(folder) as entries:
            return list(islice(entries, ENTRIES_MAX))
    except OSError:
        return []


def _below(base: str | None, name: str) -> str | None:
    return os.path.join(base, name) if base else None


def _absolute(path: str) -> str:
    return os.path.abspath(os.path.expanduser(path))
