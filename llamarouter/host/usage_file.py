"""What keys have used of their day, kept across restarts: `usage.toml` of the state folder.

It may be lost, and costs then a day's tokens at most; so one that cannot be read counts as nothing.
"""

from __future__ import annotations

import os
import tomllib
from collections.abc import Mapping
from pathlib import Path

import msgspec
import tomli_w

from llamarouter.host.header_cache import open_plain
from llamarouter.host.state import write_atomically

USAGE = "usage.toml"
_FILE_MAX = 4 << 20  # bytes


class _File(msgspec.Struct, forbid_unknown_fields=True):
    day: int  # since 1970, UTC
    tokens: dict[str, int]


class UsageFile:
    """One file of what was used."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def read(self) -> tuple[int, dict[str, int]]:
        """The day, and the tokens of that day by key."""
        try:
            with open(self.path, "rb", opener=open_plain) as file:
                if os.fstat(file.fileno()).st_size > _FILE_MAX:
                    return 0, {}
                kept = msgspec.convert(tomllib.loads(file.read().decode()), _File)
        except (OSError, ValueError, msgspec.ValidationError, RecursionError):
            return 0, {}
        return kept.day, {key: max(0, tokens) for key, tokens in kept.tokens.items()}

    def write(self, day: int, tokens: Mapping[str, int]) -> None:
        """Keep this instead of what was kept; a folder that cannot be written costs only the memory."""
        try:
            write_atomically(self.path, tomli_w.dumps({"day": day, "tokens": dict(tokens)}).encode())
        except OSError:
            return
