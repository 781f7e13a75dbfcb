"""Which models are loaded at the start, and in which order: pinned ones first, then those of the highest priority."""

from __future__ import annotations

from collections.abc import Iterable

from llamarouter.core.entry import Entry


def loads_at_start(entries: Iterable[Entry], places: int) -> tuple[list[str], list[str]]:
    """The ids of those to load, and of those for which there is no place. `places`: 0, without limit."""
    wanted = [entry for entry in entries if entry.load_on_startup]
    wanted.sort(key=lambda entry: (not entry.policy.pinned, -entry.policy.priority))
    ids = [entry.id for entry in wanted]
    return ids[: places or None], ids[places:] if places else []
