"""Who answers to which name: aliases, the names of folders, and what llama-server would have called a section.

    entries by id -> with_folder_names -> without_conflicts -> hide_duplicates     (each a step of the catalogue)
    names_of(entries) -> the entry for every name that a client may say

An id goes before an alias, the first alias before a later one; what is left out is a warning, never an error.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

from msgspec.structs import replace

from llamarouter.core.entry import Entry
from llamarouter.core.ids import collapsed_id
from llamarouter.core.model import Skipped, Source


def names_of(entries: Mapping[str, Entry]) -> dict[str, Entry]:
    """Ids, aliases, and the ids of llama-server for sections whose tag it would have cut, unless they are ambiguous."""
    names = {alias: entry for entry in entries.values() for alias in entry.aliases} | dict(entries)
    collapsed: dict[str, Entry | None] = {}
    for id, entry in entries.items():
        if entry.model.source is Source.PRESET and (short := collapsed_id(id)) not in names:
            collapsed[short] = None if short in collapsed else entry
    return names | {short: entry for short, entry in collapsed.items() if entry is not None}


def with_folder_names(entries: Mapping[str, Entry]) -> dict[str, Entry]:
    """Where a folder of --models-dir holds several models, its own name means the one with shards, else the last.

    (llama-server takes one of them in the order of the directory, which nobody can know.)
    """
    chosen: dict[str, str] = {}
    for id, entry in sorted(entries.items()):
        folder = entry.model.folder
        if folder is None or folder in entries:
            continue
        before = chosen.get(folder)
        if before is None or not _has_shards(entries[before]):
            chosen[folder] = id
    result = dict(entries)
    for folder, id in chosen.items():
        if folder not in entries[id].aliases:
            result[id] = replace(entries[id], aliases=(*entries[id].aliases, folder))
    return result


def _has_shards(entry: Entry) -> bool:
    return entry.model.files is not None and bool(entry.model.files.shards)


def without_conflicts(
    entries: Mapping[str, Entry], origins: Mapping[str, str], warn: Callable[[Skipped], None]
) -> dict[str, Entry]:
    """Entries whose aliases mean one model each. `origins`: the line where the aliases of an id are written."""
    owners: dict[str, str] = {}
    result = {}
    for id, entry in entries.items():
        kept = []
        for alias in entry.aliases:
            owner = alias if alias in entries else owners.setdefault(alias, id)
            if owner == id:
                kept.append(alias)
            else:
                reason = f"alias {alias!r} of [{id}] is left out: it already means the model {owner!r}"
                warn(Skipped(origins.get(id, f"[{id}]"), reason))
        result[id] = replace(entry, aliases=tuple(kept)) if len(kept) < len(entry.aliases) else entry
    return result


def hide_duplicates(entries: Mapping[str, Entry], deduplicating: Iterable[str]) -> list[Entry]:
    """Entries of the cache whose files a deduplicating section uses are hidden."""
    used = {path for id in deduplicating for path in _paths_of(entries[id])}
    return [
        replace(entry, hidden=True)
        if entry.model.source is Source.CACHE and entry.model.files is not None and entry.model.files.model in used
        else entry
        for entry in entries.values()
    ]


def _paths_of(entry: Entry) -> set[str]:
    """The model file and the draft that an entry is started with."""
    flags = entry.launch.flags if entry.launch is not None else ()
    return {value for flag in flags if flag.option in ("--model", "--model-draft") for value in flag.values}
