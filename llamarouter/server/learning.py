"""What loads teach: the lessons at work between those who ask what models need and the children that show it.

    subject(launch, engine, stamp)         what a lesson is about: the launch as it was written, without its place
    parts_of(subject, survey, estimated)   the estimates of all layouts, each as the lessons of that place have it
    is_known(subject, survey, layout)      True: measured; False: raised after it was too little; None: an estimate
    load_seconds()                         how long the loads of each model take
    came_up(...)                           a load that came up as planned was looked at
    taken(load) -> bytes by device         what such a load is known to take
    fell_short(...) -> bytes by device     a load died of memory
    keep()                                 write what is new

Whose survey it is: `Survey.seen_by(view)`, with the names that the model's engine has for the devices.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterable, Mapping, Sequence

from msgspec import Struct

from llamarouter.core.devices import Survey
from llamarouter.core.footprint import Parts
from llamarouter.core.launch import Launch
from llamarouter.core.lessons import (
    Lesson,
    Lessons,
    corrected,
    impossible_in,
    place_of,
    starved_of,
    subject_of,
    weighed,
)
from llamarouter.core.memory import Placement
from llamarouter.core.memory_flags import Said, memory_key
from llamarouter.core.placement import Layout, layout_of
from llamarouter.core.scaling import PartsOf
from llamarouter.host.engine import Engine
from llamarouter.host.learnt_footprints import LearntFootprints

log = logging.getLogger("llamarouter")


class Load(Struct, frozen=True, kw_only=True):
    """A load, as far as there is something to learn of it."""

    model: str
    subject: str
    placement: Placement
    survey: Survey
    parts: Mapping[str, Parts]  # that were estimated for its layout


class Learning:
    """The lessons, asked and added to."""

    def __init__(self, learnt: LearntFootprints) -> None:
        self._learnt = learnt
        self._lessons: Lessons = learnt.lessons

    def subject(self, launch: Launch, engine: Engine, stamp: Iterable[int]) -> str:
        """What a lesson of this launch is about. `stamp`: that of its files."""
        flags = memory_key(Said(launch.flags, engine.table))
        own = (f"{name}={value}" for name, value in launch.environment().items())
        return subject_of(stamp, flags, (*engine.command, engine.build, *own))

    def parts_of(self, subject: str, survey: Survey, estimated: PartsOf) -> PartsOf:
        """The estimates, corrected where there is a lesson."""

        def parts_of(layout: Layout) -> Mapping[str, Parts] | None:
            parts = estimated(layout)
            lesson = self._lesson(subject, survey, layout)
            return parts if parts is None or lesson is None else corrected(parts, lesson.at(layout))

        return parts_of

    def is_known(self, subject: str, survey: Survey, layout: Layout) -> bool | None:
        """Whether there is a lesson of this layout, and one of a load that came up."""
        lesson = self._lesson(subject, survey, layout)
        return None if lesson is None else lesson.measured

    def _lesson(self, subject: str, survey: Survey, layout: Layout) -> Lesson | None:
        """What is known; what somebody has written into the file that cannot be is said once, and forgotten."""
        place = place_of(layout, survey)
        lesson = self._lessons.recall(subject, place)
        wrong = None if lesson is None else impossible_in(lesson, layout, survey)
        if wrong is None:
            return lesson
        log.warning("%s: %s needs %s: that is not used", self._learnt.path, self._lessons.model_of(subject), wrong)
        self._lessons.forget(subject, place)
        return None

    def load_seconds(self) -> dict[str, float]:
        """How long the loads of each model take, as it was started last."""
        return self._lessons.load_seconds()

    def came_up(self, load: Load, *, pid: int, logged: Mapping[str, int], seconds: float) -> bool:
        """A load that has all that was planned; whether it is news. `logged`: what its log says that it holds."""
        survey = load.survey
        names = {router: name for name, router in survey.view.names.items()}
        seen = {names.get(name, name): device for name, device in survey.devices.items()}
        layout = layout_of(load.placement)
        needs = weighed(load.parts, seen, pid, logged)
        return self._lessons.came_up(load.subject, place_of(layout, survey), layout, needs, seconds, load.model)

    def taken(self, load: Load) -> dict[str, int] | None:
        """What is known now of such a load, by the device whose memory it is; None: it is an estimate."""
        layout = layout_of(load.placement)
        if not self.is_known(load.subject, load.survey, layout):
            return None
        parts = self.parts_of(load.subject, load.survey, lambda _: load.parts)(layout) or {}
        return load.survey.needs({name: each.total for name, each in parts.items()})

    def fell_short(self, load: Load, lines: Sequence[str], most: Mapping[str, int]) -> dict[str, int]:
        """A load that died of memory, with the lines of its log. `most`: what can be had of each device at all."""
        layout = layout_of(load.placement)
        parts = self.parts_of(load.subject, load.survey, lambda _: load.parts)(layout) or {}
        planned = {name: each.total for name, each in parts.items()}
        by_name = {name: most[memory] for name in planned if (memory := load.survey.memory_of(name)) in most}
        return self._lessons.fell_short(
            load.subject,
            place_of(layout, load.survey),
            layout,
            planned,
            starved=starved_of(lines, planned),
            most=by_name,
            model=load.model,
        )

    async def keep(self) -> None:
        """Write what is new; the disk is waited for in a thread."""
        await asyncio.to_thread(self._learnt.save)
