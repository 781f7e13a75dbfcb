"""The lessons of loads, kept across restarts: `learnt.toml` of the state folder.

    learnt = LearntFootprints.read(state_dir(environ) / "learnt.toml")
    learnt.lessons.recall(...) .came_up(...) .fell_short(...) .load_seconds(...)      (`core.lessons`)
    await asyncio.to_thread(learnt.save)                                             after a load: it waits for the disk

Two routers may share the folder: what the other one has learnt meanwhile is kept; of one subject the word of whoever
wrote last holds.
What is in the file may be lost: one that cannot be read is no lesson at all. Paths are not in it, only the ids of
models, for people who look.
"""

from __future__ import annotations

import logging
import math
import os
import threading
import tomllib
from pathlib import Path
from typing import Any

import msgspec
import tomli_w

from llamarouter.core.lessons import PLACES_MAX, SUBJECTS_MAX, Lesson, Lessons, Place, Subject
from llamarouter.host.header_cache import open_plain
from llamarouter.host.state import write_atomically

log = logging.getLogger("llamarouter")

_VERSION = 1
_Stamp = tuple[int, int, int]
_LONGEST_LOAD = 86_400.0  # seconds; a fresh model keeps its place for as long as it took to load
_FILE_MAX = 16 << 20  # bytes; a longer file is not ours


class _Place(msgspec.Struct, forbid_unknown_fields=True):
    needs: dict[str, int]
    kinds: list[str] = []
    split: list[int] = []
    layers: int | None = None
    measured: bool = True


class _Subject(msgspec.Struct, forbid_unknown_fields=True):
    key: str
    model: str = ""
    loads: int = 0
    load_seconds: float | None = None
    places: list[_Place] = []


class _File(msgspec.Struct, forbid_unknown_fields=True):
    version: int
    subjects: list[_Subject] = []


class LearntFootprints:
    """The lessons, and the file that keeps them; `path` None: nothing is kept."""

    def __init__(self, path: Path | None, lessons: Lessons | None = None) -> None:
        self.path = path
        self.lessons = lessons or Lessons()
        self._saving = threading.Lock()
        self._seen: _Stamp | None = None  # of the file as we know it

    @classmethod
    def read(cls, path: Path | None) -> LearntFootprints:
        """What was kept; nothing where the file is not there, or is not ours."""
        seen = None if path is None else _stamp_of(path)
        learnt = cls(path, None if path is None else _lessons_of(path))
        learnt._seen = seen
        return learnt

    def save(self) -> None:
        """Write the file, if something was learnt since; a folder that cannot be written costs only the memory."""
        if self.path is None or not self.lessons.changed:
            return
        with self._saving:  # two threads would write what was learnt in the wrong order
            self.lessons.changed = False
            known = self._others() | dict(self.lessons.all())
            subjects = [_written(key, subject) for key, subject in [*known.items()][-SUBJECTS_MAX:]]
            text = tomli_w.dumps({"version": _VERSION, "subjects": subjects})
            try:
                write_atomically(self.path, text.encode())
            except OSError:
                return
            self._seen = _stamp_of(self.path)

    def _others(self) -> dict[str, Subject]:
        """What another router has written since we looked."""
        if self.path is None or _stamp_of(self.path) == self._seen:
            return {}
        return dict(_lessons_of(self.path).all())


def _stamp_of(path: Path) -> _Stamp | None:
    try:
        status = os.stat(path)
    except OSError:
        return None
    return status.st_ino, status.st_mtime_ns, status.st_size


def _lessons_of(path: Path) -> Lessons:
    try:
        with open(path, "rb", opener=open_plain) as file:
            if os.fstat(file.fileno()).st_size > _FILE_MAX:
                return Lessons()
            kept = msgspec.convert(tomllib.loads(file.read().decode()), _File)
    except (OSError, ValueError, msgspec.ValidationError, RecursionError):
        return Lessons()
    if kept.version != _VERSION:
        return Lessons()
    return Lessons({each.key: _subject_of(each, path) for each in kept.subjects[-SUBJECTS_MAX:]})


def _subject_of(kept: _Subject, path: Path) -> Subject:
    places = {
        Place(tuple(each.kinds), tuple(each.split), each.layers): Lesson(
            {role: max(0, size) for role, size in each.needs.items()}, each.measured
        )
        for each in kept.places[-PLACES_MAX:]
    }
    told = kept.load_seconds
    seconds = max(0.0, told) if told is not None and math.isfinite(told) else None
    if seconds is not None and seconds > _LONGEST_LOAD:
        log.warning("%s: a load of %s took %g seconds: that is not used", path, kept.model, seconds)
        seconds = None
    return Subject(kept.model, seconds, max(0, kept.loads), places)


def _written(key: str, subject: Subject) -> dict[str, Any]:
    seconds = {} if subject.load_seconds is None else {"load_seconds": round(subject.load_seconds, 3)}
    places = [
        {
            **({"kinds": list(place.kinds)} if place.kinds else {}),
            **({"split": list(place.split)} if place.split else {}),
            **({"layers": place.layers} if place.layers is not None else {}),
            **({"measured": False} if not lesson.measured else {}),
            "needs": dict(lesson.needs),
        }
        for place, lesson in subject.places.items()
    ]
    return {"key": key, "model": subject.model, "loads": subject.loads, **seconds, "places": places}
