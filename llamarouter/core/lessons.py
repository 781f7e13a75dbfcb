"""What loads have taught: what a model really took in a place, how long it took to load, what was too little.

    subject_of(files, flags, engine)        what a lesson is about: of anything else it says nothing
    place_of(layout, survey)                where: the kinds of its GPUs, not their numbers, so that what was seen on
                                            one card holds for its twin
    weighed(parts, ...)                     what a child was seen to hold           -> Lessons.came_up
    starved_of(log lines)                   the devices that had too little         -> Lessons.fell_short
    Lessons.recall(...) -> corrected(parts) the estimate as the lesson has it

**The rule**: a need grows at once, to what was seen, and falls by a tenth a load at most. So one load that happened to
take little (pages not read yet) does not make room that the next one lacks; and what a load died of is remembered,
also after the next one that came up.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Mapping

from msgspec import Struct, field
from msgspec.structs import replace

from llamarouter.core.devices import Device, Survey
from llamarouter.core.footprint import HOST, Parts
from llamarouter.core.placement import Layout

SUBJECTS_MAX = 2_000  # the longest unused are forgotten first
PLACES_MAX = 16  # of one subject
FALL = 0.9  # of what was known is the least that a load can teach
_MORE = 1.15  # what a device ran out with is taken for so much too little, and
_AT_LEAST = 256 << 20  # bytes for at least so much
_SAME = 0.05  # of what a model takes is no difference worth telling
_NEWEST = 0.4  # the weight of the newest load among all
_BUFFER = re.compile(r"allocate (?P<name>[A-Za-z]+\d*)(?:_\w+)? buffer")
_ON_DEVICE = re.compile(r"on device (?P<index>\d+)|device (?P<other>\d+): cudaMalloc")
_CPU = frozenset({"CPU", "Host"})


class Place(Struct, frozen=True):
    """The kinds of a layout's GPUs in its order, its split and its layers."""

    kinds: tuple[str, ...] = ()
    split: tuple[int, ...] = ()
    layers: int | None = None


class Lesson(Struct, frozen=True):
    """Bytes by role: `0`, `1` ... for the GPUs of the place in its order, otherwise the device's name."""

    needs: Mapping[str, int]
    measured: bool = True  # False: all that is known is what was too little

    def at(self, layout: Layout) -> dict[str, int]:
        """By the names of a layout's devices."""
        names = {str(index): name for index, name in enumerate(layout.devices)}
        return {names.get(role, role): size for role, size in self.needs.items()}


class Subject(Struct, frozen=True):
    """All that is known of one subject. `model`: its id when it was loaded last, for people."""

    model: str = ""
    load_seconds: float | None = None
    loads: int = 0
    places: Mapping[Place, Lesson] = field(default_factory=dict)


class Lessons:
    """All lessons, by subject, the longest unused first."""

    def __init__(self, subjects: Mapping[str, Subject] | None = None) -> None:
        self._subjects = dict(subjects or {})
        self.changed = False

    def all(self) -> list[tuple[str, Subject]]:
        """As they are now."""
        return list(self._subjects.items())

    def model_of(self, subject: str) -> str:
        """Which model a subject was when it was loaded last."""
        return self._subjects[subject].model

    def recall(self, subject: str, place: Place) -> Lesson | None:
        """What is known of a subject in a place."""
        known = self._subjects.get(subject)
        return None if known is None else known.places.get(place)

    def forget(self, subject: str, place: Place) -> None:
        """What is known of a subject in a place cannot be so."""
        known = self._subjects[subject]
        places = {each: lesson for each, lesson in known.places.items() if each != place}
        self._subjects[subject] = replace(known, places=places)
        self.changed = True

    def load_seconds(self) -> dict[str, float]:
        """How long the loads of each model take, the newest ones weighing most; as it was started last."""
        return {each.model: each.load_seconds for each in self._subjects.values() if each.load_seconds is not None}

    def came_up(
        self,
        subject: str,
        place: Place,
        layout: Layout,
        held: Mapping[str, int] | None,
        seconds: float,
        model: str = "",
    ) -> bool:
        """A load came up as planned, in `seconds`, and holds so many bytes by device (None: nobody can say).

        Returns whether that is news; as a rule a model takes what it took before.
        """
        known = self._subjects.pop(subject, Subject())
        before = known.places.get(place)
        places = known.places
        if held is not None:
            floor = {} if before is None else before.needs
            seen = _by_role(held, layout)
            needs = {role: max(size, int(floor.get(role, 0) * FALL)) for role, size in seen.items()}
            places = _with(places, place, Lesson(needs))
        news = not known.loads or not _is_like(before, places.get(place))
        average = seconds if known.load_seconds is None else known.load_seconds
        self._put(
            subject,
            replace(
                known,
                model=model or known.model,
                load_seconds=average + _NEWEST * (seconds - average),
                loads=known.loads + 1,
                places=places,
            ),
        )
        return news

    def fell_short(
        self,
        subject: str,
        place: Place,
        layout: Layout,
        planned: Mapping[str, int],
        *,
        starved: Iterable[str] = (),
        most: Mapping[str, int],
        model: str = "",
    ) -> dict[str, int]:
        """A load died of memory with what was `planned`; returns what it is thought to need now.

        `starved`: the devices that had too little; none: it is not known which, so all had. `most`: what can be had
        of each at all (`Room.most`): a lesson makes others go, and never says that a model cannot be loaded.
        """
        known = self._subjects.pop(subject, Subject())
        before = known.places.get(place)
        of = set(starved) & planned.keys() or planned.keys()
        raised = dict(planned)
        for name in of:
            more = max(int(planned[name] * _MORE), planned[name] + _AT_LEAST)
            raised[name] = max(planned[name], min(more, most.get(name, more)))
        lesson = Lesson(_by_role(raised, layout), measured=before is not None and before.measured)
        places = _with(known.places, place, lesson)
        self._put(subject, replace(known, model=model or known.model, places=places))
        return raised

    def _put(self, subject: str, known: Subject) -> None:
        self._subjects[subject] = known
        for oldest in list(self._subjects)[: max(0, len(self._subjects) - SUBJECTS_MAX)]:
            del self._subjects[oldest]
        self.changed = True


def impossible_in(lesson: Lesson, layout: Layout, survey: Survey) -> str | None:
    """What a lesson says that no load can have shown, in words: more bytes of a device than it has. `survey`: as it is
    seen by the model's engine."""
    for name, size in lesson.at(layout).items():
        device = survey.devices.get(survey.memory_of(name))
        if device is not None and size > device.total:
            return f"{size} bytes of {name}, which has {device.total}"
    return None


def subject_of(files: Iterable[object], flags: Iterable[str], engine: Iterable[str]) -> str:
    """`files`: what tells a file from its next version (`Model.stamp`); `flags`: those that decide what it holds
    (`memory_key`); `engine`: its command and build, and the environment that the model has of its own."""
    text = "\x1e".join("\x1f".join(map(str, part)) for part in (files, flags, engine))
    return hashlib.sha256(text.encode("utf-8", "surrogateescape")).hexdigest()[:32]


def place_of(layout: Layout, survey: Survey) -> Place:
    """Where a layout is. `survey`: as it is seen by the model's engine (`Survey.seen_by`)."""
    kinds = []
    for name in layout.devices:
        device = survey.devices.get(survey.view.names.get(name, name))
        kinds.append(f"{device.description} {device.total >> 20} MiB" if device is not None else name)
    return Place(tuple(kinds), layout.split, layout.layers)


def weighed(
    parts: Mapping[str, Parts], seen: Mapping[str, Device], pid: int, logged: Mapping[str, int]
) -> dict[str, int] | None:
    """What a child holds, by device, from all that was seen of it; None where too little was.

    `parts`: as estimated; `seen`: the devices by the same names, once it has loaded; `logged`: what its log says that
    it has allocated. A driver counts its own context in, the log what is not used yet: the larger one holds.
    """
    found = {}
    for name in {*parts, *seen, *logged} - {HOST}:
        held = seen[name].held_by((pid,)) if name in seen and not seen[name].shares_host else None
        planned = parts[name].total if name in parts else 0
        if not held and planned and name not in logged:
            return None
        found[name] = max(held or 0, logged.get(name, 0))
    host = seen.get(HOST)
    own = None if host is None else host.held_by((pid,))
    if host is None or own is None:
        return None
    # Pages of files come as they are read, and will all have been read one day.
    mapped = host.mapped.get(pid, 0)
    there = parts.get(HOST, Parts())
    found[HOST] = max(own - mapped + max(mapped, there.mapped), logged.get(HOST, 0))
    return {name: size for name, size in found.items() if size}


def corrected(parts: Mapping[str, Parts], needs: Mapping[str, int]) -> dict[str, Parts]:
    """The parts of an estimate, so that they add up to what was learnt: what is more is `other`, what is less is taken
    from what was guessed at most."""
    result = {name: each for name, each in parts.items() if name not in needs}
    for name, size in needs.items():
        each = parts.get(name, Parts())
        short = each.total - size
        if short <= 0:
            result[name] = replace(each, other=each.other - short)
            continue
        for part in ("other", "compute", "projector", "kv", "weights"):
            taken = min(short, getattr(each, part))
            each = replace(each, **{part: getattr(each, part) - taken})
            short -= taken
        result[name] = replace(each, mapped=min(each.mapped, each.weights))
    return result


def starved_of(lines: Iterable[str], devices: Iterable[str]) -> frozenset[str]:
    """Which of the devices a log says could not give what was asked of them; empty: it does not say."""
    names = tuple(devices)
    found = set()
    for line in lines:
        if (buffer := _BUFFER.search(line)) is not None:
            found.add(HOST if buffer["name"] in _CPU else buffer["name"])
        elif (device := _ON_DEVICE.search(line)) is not None:
            index = device["index"] or device["other"]
            found |= {name for name in names if name != HOST and name.rstrip("0123456789") + index == name}
    return frozenset(found & {*names, HOST})


def _is_like(before: Lesson | None, after: Lesson | None) -> bool:
    if before is None or after is None:
        return before is after
    same = before.measured == after.measured and before.needs.keys() == after.needs.keys()
    return same and all(abs(size - before.needs[role]) <= _SAME * size for role, size in after.needs.items())


def _by_role(needs: Mapping[str, int], layout: Layout) -> dict[str, int]:
    roles = {name: str(index) for index, name in enumerate(layout.devices)}
    return {roles.get(name, name): size for name, size in needs.items()}


def _with(places: Mapping[Place, Lesson], place: Place, lesson: Lesson) -> dict[Place, Lesson]:
    kept = {each: known for each, known in places.items() if each != place}
    return dict([*kept.items()][-(PLACES_MAX - 1) :]) | {place: lesson}
