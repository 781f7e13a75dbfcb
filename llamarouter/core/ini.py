"""INI presets, as text: sections of keys, each with its file and line. What a key means is said elsewhere."""

from __future__ import annotations

from dataclasses import dataclass

from llamarouter.core.model import Skipped


@dataclass(frozen=True, slots=True)
class Key:
    """`name = value`, and where it stands."""

    name: str
    value: str
    file: str
    line: int

    @property
    def where(self) -> str:
        return f"{self.file}:{self.line}"


@dataclass(frozen=True, slots=True)
class Section:
    """`[name]` with its keys in the order of the file; `problem` is its first line that cannot be read."""

    name: str
    keys: tuple[Key, ...]
    file: str
    line: int
    problem: Skipped | None = None


@dataclass(frozen=True, slots=True)
class Ini:
    """One file, or several laid over each other."""

    file: str
    sections: tuple[Section, ...]
    warnings: tuple[Skipped, ...] = ()


def parse_ini(text: str, file: str) -> Ini:
    """The sections of `text`; never raises: a bad line spoils its section alone."""
    raise NotImplementedError
