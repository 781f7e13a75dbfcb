"""The memory of the machine as the router looks at it: its devices, what models need of them, what children hold.

    devices, footprints --> Appraiser <--asked by-- Supervisor <--told by-- Scales <-- the same looks at the devices

Where nobody looks (`--no-memory-check`) the supervisor has no appraiser, and only `--models-max` counts.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Protocol, Self

from msgspec import Struct
from msgspec.structs import asdict

from llamarouter.core.as_planned import has_whole_context, is_as_planned
from llamarouter.core.budget import Budgets
from llamarouter.core.buffer_lines import footprint_of_log
from llamarouter.core.devices import Survey, View
from llamarouter.core.entry import Entry
from llamarouter.core.errors import ModelNotFound
from llamarouter.core.exits import Exit
from llamarouter.core.explain import Explanation
from llamarouter.core.memory import Room
from llamarouter.core.model import Skipped
from llamarouter.core.pins_together import Misfit, Pin, misfit_of
from llamarouter.core.rooms import rooms_of, totals_of
from llamarouter.core.soft_room import Books
from llamarouter.host.child_log import lines_of_process
from llamarouter.server.appraiser import Appraiser, Footprints, Subject
from llamarouter.server.child import Child, Stage
from llamarouter.server.learning import Learning
from llamarouter.server.owed import Owed
from llamarouter.server.planning import Plan, plan_of
from llamarouter.server.scales import Scales, facts_of, note_shortfalls
from llamarouter.server.shelf import Shelf
from llamarouter.server.supervisor import Supervisor
from llamarouter.server.unknown_devices import unknown_devices

log = logging.getLogger("llamarouter")

_RECALLED = 64  # models that were loaded before, the last ones


class Devices(Protocol):
    """The devices of the machine: `host.devices.machine`."""

    def at_once(self, pids: Iterable[int] = ()) -> Survey | None: ...

    async def survey(self, pids: Iterable[int] = ()) -> Survey: ...

    def view(self, command: Sequence[str], environ: Mapping[str, str] | None = None) -> View | None: ...

    async def listed(self, command: Sequence[str], environ: Mapping[str, str] | None = None) -> None: ...

    def forget_engine(self, command: Sequence[str]) -> None: ...

    async def __aenter__(self) -> object: ...

    async def __aexit__(self, *_: object) -> None: ...


class Figures(Struct, frozen=True):
    """The devices as they were seen last; `held`: what models hold of them by the books. Bytes; `age`: seconds."""

    rooms: Mapping[str, Room]
    held: Mapping[str, int]
    stale: frozenset[str]
    age: float


class Memory:
    """What is known of the memory; `attach` it to the supervisor before anything is asked."""

    def __init__(
        self, shelf: Shelf, devices: Devices, footprints: Footprints, budgets: Budgets, learning: Learning
    ) -> None:
        self._shelf = shelf
        self._learning = learning
        self._devices = devices
        self._footprints = footprints
        self._budgets = budgets
        self._supervisor: Supervisor | None = None
        self._seen: Survey | None = None  # by whoever looked last, for who does not wait
        self._seeing = False
        self._subjects: dict[str, Subject] = {}  # as they were found last: each look needs several times what they say
        self._owed = Owed(self._is_quiet)
        self.appraiser = Appraiser(
            find=self._find,
            devices=devices,
            footprints=footprints,
            budgets=budgets,
            pids=self._pids,
            books=self._books,
            on_survey=self._weigh,
            owed=self._owed,
            learning=learning,
        )
        self._scales: Scales | None = None

    def attach(self, supervisor: Supervisor) -> None:
        """Look at the children of this supervisor."""
        self._supervisor = supervisor
        self._scales = Scales(supervisor.children, supervisor.weighed)

    async def __aenter__(self) -> Self:
        await self._devices.__aenter__()
        return self

    async def __aexit__(self, *_: object) -> None:
        try:
            await self._learning.keep()  # also what was no news
        finally:
            await self._devices.__aexit__(None, None, None)

    async def begin(self) -> None:
        """The first look at the devices. What was said of them and cannot be is in the log; and what models took before
        this router was started is known from now on, not only once they are asked for."""
        await self._see()
        for contradiction in () if self._seen is None else self._contradictions(self._seen):
            log.warning("%s", contradiction)
        await self._footprints.prepare(self._shelf.inventory.engine_of(None))
        for model in list(self._learning.load_seconds())[-_RECALLED:]:
            await self.appraiser.recall(model)

    def ready(self, child: Child) -> None:
        """A child has come up: say what it has less of than it was to have, weigh it, and learn what it took."""
        if (subject := self._find(child.model)) is not None:
            note_shortfalls(child, subject.entry)
        if self._supervisor is not None:
            self._supervisor.errands.begin(self._look(child))

    def failed(self, child: Child, end: Exit, lines: Sequence[str]) -> None:
        """A child has ended that nobody had asked to; `lines`: its log."""
        if self._supervisor is None:
            return
        self._supervisor.errands.begin(self._owed.settle())
        if not end.memory or child.placement is None:
            return
        load = self.appraiser.load_of(child.model, child.placement)
        if load is None:
            return
        most = {name: room.most for name, room in rooms_of(load.survey, self._budgets, ()).items()}
        self._learning.fell_short(load, lines_of_process(lines, child.pid), most)
        self._supervisor.errands.begin(self._learning.keep())

    def load_seconds(self) -> Mapping[str, float]:
        """How long the loads of each model take, as far as that was learnt."""
        return self._learning.load_seconds()

    async def misfit_of(self, pinned: Sequence[str]) -> Misfit | None:
        """The first of these models that does not fit together with those before it."""
        seen = [await self.appraiser.appraise(model) for model in pinned]
        rooms = rooms_of(await self._devices.survey(self._pids()), self._budgets, self._pids()) if seen else {}
        pins = [Pin(each.model, each.placements) for each in seen]
        return misfit_of(pins, {name: room.most for name, room in rooms.items()})

    def forget_engine(self, command: Sequence[str]) -> None:
        """Another one lies at the path of an engine: it may use other devices, and call them otherwise."""
        self._devices.forget_engine(command)

    async def unknown_devices(self) -> tuple[Skipped, ...]:
        """Devices that somebody has named and that the model's engine does not have: a line for each place."""
        inventory = self._shelf.inventory
        return await unknown_devices(inventory.catalog.entries.values(), inventory.engine_of, self._devices)

    async def plan(self, entry: Entry, explain: Callable[[Entry], Explanation]) -> Plan:
        """What would happen to a request for the model of `entry` now."""
        if self._supervisor is None:
            raise RuntimeError("no supervisor")
        appraised = await self.appraiser.appraise(entry.id, exactly=True)
        child = self._supervisor.children.get(entry.id)
        key = entry.launch.engine_key if entry.launch is not None else None
        return plan_of(
            entry,
            appraised,
            self._supervisor.scheduler,
            footprint=self.appraiser.footprint_of(entry.id),
            living=None if child is None else child.placement,
            table=self._shelf.inventory.engine_of(key).table,
            explain=explain,
            now=asyncio.get_running_loop().time(),
        )

    async def state(self) -> dict[str, Any]:
        """The devices, what may be held of them, and what is."""
        survey = await self._devices.survey(self._pids())
        self._weigh(survey)
        rooms = rooms_of(survey, self._budgets, self._pids())
        booked = self._books().all
        return {
            "devices": [
                {
                    "name": name,
                    "description": survey.devices[name].description,
                    **asdict(room),
                    "booked": booked.get(name, 0),
                    "stale": survey.devices[name].stale,
                }
                for name, room in rooms.items()
            ],
            "models": {model: dict(held) for model, held in self._held().items()},
            "problems": [*survey.problems, *(str(each) for each in self._contradictions(survey))],
            "age": max(0.0, time.monotonic() - survey.at),
        }

    def figures(self) -> Figures | None:
        """What is known of the devices without waiting for one; older figures are asked for anew meanwhile.

        None: they were never looked at.
        """
        survey = self._devices.at_once(self._pids())
        if survey is None:
            survey = self._seen
            if self._supervisor is not None and not self._seeing:
                self._seeing = True
                self._supervisor.errands.begin(self._see())
        if survey is None:
            return None
        self._seen = survey
        stale = frozenset(name for name, device in survey.devices.items() if device.stale)
        rooms = rooms_of(survey, self._budgets, self._pids())
        return Figures(rooms, self._books().all, stale, max(0.0, time.monotonic() - survey.at))

    async def _see(self) -> None:
        try:
            self._seen = await self._devices.survey(self._pids())
        finally:
            self._seeing = False

    def _contradictions(self, survey: Survey) -> Iterable[object]:
        return self._budgets.problems(totals_of(survey))

    # --- the children -----------------------------------------------------------------------------------------------

    def _is_quiet(self) -> bool:
        """Whether no model loads."""
        children = {} if self._supervisor is None else self._supervisor.children
        return not any(child.stage is Stage.LOADING and not child.stopping for child in children.values())

    def _find(self, model: str) -> Subject | None:
        try:
            entry = self._shelf.entry(model)
        except ModelNotFound:
            self._subjects.pop(model, None)
            return None
        engine = self._shelf.inventory.engine_of(entry.launch.engine_key if entry.launch is not None else None)
        subject = self._subjects.get(entry.id)
        if subject is not None and subject.is_of(entry, engine):
            return subject
        subject = Subject.of(entry, engine)
        if subject is None:
            self._subjects.pop(entry.id, None)
        else:
            self._subjects[entry.id] = subject
        return subject

    async def _look(self, child: Child) -> None:
        survey = await self._devices.survey(self._pids())
        self._weigh(survey)
        if self._learn(child, survey):
            self._weigh(survey)
            await self._learning.keep()
        await self._owed.settle()

    def _learn(self, child: Child, survey: Survey) -> bool:
        """Whether there was news of a child to be learnt: it lives, and has all that it was started with."""
        supervisor, ready, subject = self._supervisor, child.ready, self._find(child.model)
        if supervisor is None or subject is None or supervisor.children.get(child.model) is not child:
            return False
        header = subject.entry.model.header
        if ready is None or child.stopping or child.placement is None or child.pid is None:
            return False
        planned = ("--fit", "off") in child.placement.options and is_as_planned(child.launch, header, facts_of(ready))
        # What it takes with a shorter context than it was to have says nothing of the whole one.
        planned = planned and has_whole_context(subject.launch, header, facts_of(ready))
        load = self.appraiser.load_of(child.model, child.placement, survey) if planned else None
        if load is None:
            return False
        lines = supervisor.lives.ring_of(child.model).lines_of_process(child.pid)
        logged = footprint_of_log(lines, file_bytes=subject.entry.model.size)
        totals = {} if logged is None else logged.totals()
        news = self._learning.came_up(load, pid=child.pid, logged=totals, seconds=ready.load_seconds)
        child.learnt = self._learning.taken(load)
        return news

    def _weigh(self, survey: Survey) -> None:
        self._seen = survey
        if self._scales is not None:
            self._scales.weigh(survey)

    def _pids(self) -> tuple[int, ...]:
        children = {} if self._supervisor is None else self._supervisor.children
        return tuple(child.pid for child in children.values() if child.pid is not None)

    def _held(self) -> Mapping[str, Mapping[str, int]]:
        return {} if self._supervisor is None else self._supervisor.scheduler.held()

    def _books(self) -> Books:
        loaded: dict[str, int] = {}
        everything: dict[str, int] = {}
        children = {} if self._supervisor is None else self._supervisor.children
        for model, held in self._held().items():
            child = children.get(model)
            for name, size in held.items():
                everything[name] = everything.get(name, 0) + size
                if child is not None and child.ready is not None:
                    loaded[name] = loaded.get(name, 0) + size
        return Books(loaded, everything)
