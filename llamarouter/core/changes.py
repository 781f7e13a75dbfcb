"""What a look at the presets and folders has changed: from one catalogue to the next."""

from __future__ import annotations

from msgspec import Struct

from llamarouter.core.catalog import Catalog
from llamarouter.core.entry import Entry
from llamarouter.core.model import Skipped


class Changes(Struct, frozen=True):
    """The ids of models, in their order. `stale`: those whose child, should they have one, is not what it would be."""

    added: tuple[str, ...]
    changed: tuple[str, ...]
    removed: tuple[str, ...]
    stale: tuple[str, ...]
    replaced: tuple[str, ...]  # those with other files at the same paths: what failed before may be tried now
    warnings: tuple[Skipped, ...]  # all that hold now
    news: tuple[Skipped, ...]  # those that did not hold before

    def __str__(self) -> str:
        parts = (("added", self.added), ("changed", self.changed), ("removed", self.removed))
        return "; ".join(f"{word}: {', '.join(ids)}" for word, ids in parts if ids) or "nothing has changed"


def changes_between(before: Catalog, after: Catalog) -> Changes:
    """What is different in `after`; where a line moved in its file is no change."""
    old, new = before.entries, after.entries
    said = frozenset(before.skipped)
    return Changes(
        added=tuple(id for id in new if id not in old),
        changed=tuple(id for id in new if id in old and new[id] != old[id]),
        removed=tuple(id for id in old if id not in new),
        stale=tuple(id for id, entry in old.items() if _is_stale(entry, new.get(id))),
        replaced=tuple(id for id in new if id in old and new[id].model.stamp != old[id].model.stamp),
        warnings=after.skipped,
        news=tuple(each for each in after.skipped if each not in said),
    )


def _is_stale(before: Entry, now: Entry | None) -> bool:
    """Whether a child of the entry as it was must go; what has a problem has no launch."""
    return now is None or now.launch != before.launch
