"""How long a model stays, in a cell of a table."""

from __future__ import annotations

from llamarouter.cli.models import Row
from llamarouter.cli.output import duration_of


def stay_of(row: Row) -> str:
    """What its preset, the command line and `lr pin` say; empty where nobody says anything."""
    said = [
        ("at start", row.load_on_startup),
        ("pinned", row.pinned),
        (f"ends after {duration_of(row.ttl)} idle", row.ttl is not None and not row.pinned),
        (f"priority {row.priority}", row.priority != 0),
    ]
    return ", ".join(words for words, holds in said if holds)


def end_of(row: Row) -> str:
    """When a loaded one ends by itself."""
    if row.pinned:
        return "pinned"
    if row.expires_in is not None:
        return f"in {duration_of(row.expires_in)}"
    return "-" if row.ttl is None else f"{duration_of(row.ttl)} idle"
