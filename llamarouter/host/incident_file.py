"""The failures of models, kept for the next start: a file of JSON lines in the state folder, one a failure.

A failure costs one appended line. The file is written anew, without what is forgotten, when it has grown. It may be
lost, and two routers may write to it: a line that cannot be read is left out.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Self

import msgspec

from llamarouter.core.incidents import Incident, Incidents
from llamarouter.host.state import write_atomically

NAME = "failures.jsonl"
_GROWTH = 1 << 20  # bytes that may be appended before it is written anew
_MOST = 64 << 20  # bytes: a longer file is not ours


class IncidentFile:
    """One file, or none to keep them in (`path` None). Not for two threads at once."""

    def __init__(self, path: Path | None) -> None:
        self._path = path
        self._appended = 0

    @classmethod
    def within(cls, folder: str | os.PathLike[str] | None) -> Self:
        """The one of a state folder."""
        return cls(None if folder is None else Path(folder, NAME))

    def read(self) -> list[Incident]:
        """What is kept, in the order in which it happened; nothing where there is nothing that can be read."""
        if self._path is None:
            return []
        try:
            if self._path.stat().st_size > _MOST:
                return []
            lines = self._path.read_bytes().splitlines()
        except OSError:
            return []
        found = []
        for line in lines:
            with contextlib.suppress(msgspec.DecodeError, UnicodeDecodeError):
                found.append(msgspec.json.decode(line, type=Incident))
        return found

    def append(self, news: Iterable[Incident], known: Incidents) -> None:
        """Keep `news`; `known`: everything that is to be kept, for when the file is written anew. Raises OSError."""
        if self._path is None:
            return
        text = _text_of(news)
        self._appended += len(text)
        if self._appended > _GROWTH:
            self._appended = 0
            write_atomically(self._path, _text_of(known.all()))
            return
        self._path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        with open(self._path, "ab", opener=_private) as file:
            file.write(text)


def _private(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)


def _text_of(incidents: Iterable[Incident]) -> bytes:
    return b"".join(msgspec.json.encode(incident) + b"\n" for incident in incidents)
