"""The appraiser: asks the devices and whoever knows what models need, and says where one may be placed.

    at_once(model)   the answer, where the devices were read just now and the model's footprint is known
    appraise(model)  the same after asking; never fails: whoever does not answer is gone without

What it says is `core.appraisal`'s word; here is only who is asked, and what is remembered of that.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from typing import Protocol

from msgspec import Struct
from msgspec.structs import replace

from llamarouter.core.appraisal import Case, appraise
from llamarouter.core.budget import Budgets
from llamarouter.core.devices import Survey, View
from llamarouter.core.entry import Entry
from llamarouter.core.events import Appraised
from llamarouter.core.footprint import Footprint, Source
from llamarouter.core.launch import Launch
from llamarouter.core.memory import Placement
from llamarouter.core.obvious import fits_beside_everything, generously, likely
from llamarouter.core.placed import placed
from llamarouter.core.placement import Layout, layout_of
from llamarouter.core.scaling import PartsOf, scaled_parts
from llamarouter.core.soft_room import Books
from llamarouter.core.whole_context import context_to_tell
from llamarouter.host.engine import Engine
from llamarouter.host.learnt_footprints import LearntFootprints
from llamarouter.server.learning import Learning, Load
from llamarouter.server.owed import Owed

# The files of the state folder in which footprints are kept: what was reckoned, and what loads have taught.
FOOTPRINTS = "footprints.json"
LEARNT = "learnt.toml"

_RAISED = "a load ran out of memory with less"


class Devices(Protocol):
    """The devices of the machine: `host.devices.machine`."""

    def at_once(self, pids: Iterable[int] = ()) -> Survey | None: ...

    async def survey(self, pids: Iterable[int] = ()) -> Survey: ...

    def view(self, command: Sequence[str], environ: Mapping[str, str] | None = None) -> View | None: ...

    async def listed(self, command: Sequence[str], environ: Mapping[str, str] | None = None) -> None: ...


class Footprints(Protocol):
    """Who says what a launch takes: `host.estimator`."""

    async def footprint_of(
        self, launch: Launch, engine: Engine, gpus: Mapping[str, int], *, leisurely: bool = False
    ) -> Footprint: ...

    async def prepare(self, engine: Engine) -> None: ...

    async def at_hand(self, launch: Launch, engine: Engine, gpus: Mapping[str, int]) -> Footprint: ...


# Its launch, its files as they are, and the command and the build of its engine.
_Identity = tuple[Launch, tuple[int, ...], tuple[str, ...]]


class Subject(Struct, frozen=True):
    """A model that can be started."""

    entry: Entry
    launch: Launch
    engine: Engine
    context: int | None  # that its child is to be told

    @classmethod
    def of(cls, entry: Entry, engine: Engine) -> Subject | None:
        """None: it cannot be started."""
        if entry.launch is None:
            return None
        context = context_to_tell(entry.launch, entry.model.header, engine.table)
        return cls(entry, entry.launch, engine, context)

    def is_of(self, entry: Entry, engine: Engine) -> bool:
        """Whether it would be made of these: nothing has changed."""
        return self.entry is entry and self.engine is engine

    def whole(self) -> Launch:
        """The launch with that context."""
        if self.context is None:
            return self.launch
        told = Placement({}, (("--ctx-size", str(self.context)),))
        return placed(self.launch, told, self.engine.table)

    @property
    def identity(self) -> _Identity:
        """What is said of one says nothing of another."""
        return self.launch, self.entry.model.stamp, (*self.engine.command, self.engine.build)


class _Known(Struct, frozen=True):
    """A footprint, and of what: of anything else it says nothing."""

    footprint: Footprint
    identity: _Identity
    gpus: tuple[str, ...]


class _Told(Struct, frozen=True):
    """What was said last of a model, of which launch, files and engine, and of which devices."""

    identity: _Identity
    footprint: Footprint
    estimated: PartsOf
    survey: Survey
    about: str  # what a lesson of it is about
    layout: Layout  # the preferred one


class Appraiser:
    """What is known of the models' needs, and whom to ask for the rest."""

    def __init__(
        self,
        *,
        find: Callable[[str], Subject | None],
        devices: Devices,
        footprints: Footprints,
        budgets: Budgets,
        pids: Callable[[], tuple[int, ...]],
        books: Callable[[], Books],
        on_survey: Callable[[Survey], None] = lambda _: None,
        owed: Owed | None = None,
        learning: Learning | None = None,
    ) -> None:
        """`find`: what a model is started with; None: it cannot be. `pids`: of all children; `books`: what they hold,
        as the scheduler has it; `on_survey`: who else looks at the devices whenever somebody does; `owed`: asks
        what nobody waits for.
        """
        self._find = find
        self._devices = devices
        self._footprints = footprints
        self._budgets = budgets
        self._pids = pids
        self._books = books
        self._on_survey = on_survey
        self._owed = owed
        self._learning = learning or Learning(LearntFootprints(None))
        self._known: dict[str, _Known] = {}
        self._told: dict[str, _Told] = {}

    def at_once(self, model: str) -> Appraised | None:
        """The answer, if nothing has to be waited for."""
        subject = self._find(model)
        if subject is None:
            return _not_looked_at(model)
        survey, view = self._devices.at_once(self._pids()), self._view(subject)
        if survey is None or view is None:
            return None
        self._on_survey(survey)
        footprint = self._known_of(subject, view.gpus)
        return None if footprint is None else self._appraised(subject, survey.seen_by(view), view.gpus, footprint)

    async def appraise(self, model: str, *, exactly: bool = False) -> Appraised:
        """The answer; by a rough estimate where that is good enough, unless it is to be known `exactly`."""
        subject = self._find(model)
        if subject is None:
            return _not_looked_at(model)
        survey, gpus = await self._seen_by(subject)
        footprint = self._known_of(subject, gpus)
        if footprint is None and not exactly and (obvious := await self._obvious(subject, survey, gpus)) is not None:
            return obvious
        footprint = footprint or await self._ask(subject, survey, gpus)
        return self._appraised(subject, survey, gpus, footprint)

    async def recall(self, model: str) -> None:
        """Know of a model what can be known without asking the engine, which would take turns with those who load."""
        if (subject := self._find(model)) is not None:
            survey, gpus = await self._seen_by(subject)
            self._appraised(subject, survey, gpus, await self._at_hand(subject, survey, gpus))

    async def _seen_by(self, subject: Subject) -> tuple[Survey, tuple[str, ...]]:
        """The devices as the model's engine sees them, and its GPUs."""
        survey = await self._devices.survey(self._pids())
        self._on_survey(survey)
        if (view := self._view(subject)) is None:
            await self._devices.listed(subject.engine.command, subject.launch.environment())
            view = self._view(subject)
        return (survey, survey.gpus) if view is None else (survey.seen_by(view), view.gpus)

    async def _at_hand(self, subject: Subject, survey: Survey, gpus: tuple[str, ...]) -> Footprint:
        """What was said before, else a rough estimate."""
        free = {name: _free_of(survey, name) for name in gpus}
        footprint = await self._footprints.at_hand(subject.whole(), subject.engine, free)
        if footprint.source is not Source.HEADER:
            self._known[subject.entry.id] = _Known(footprint, subject.identity, gpus)
        return footprint

    async def _ask(
        self, subject: Subject, survey: Survey, gpus: tuple[str, ...], *, leisurely: bool = False
    ) -> Footprint:
        free = {name: _free_of(survey, name) for name in gpus}
        footprint = await self._footprints.footprint_of(subject.whole(), subject.engine, free, leisurely=leisurely)
        self._known[subject.entry.id] = _Known(footprint, subject.identity, gpus)
        return footprint

    async def _obvious(self, subject: Subject, survey: Survey, gpus: tuple[str, ...]) -> Appraised | None:
        """The answer without the engine's word, where any word would do; it is asked for later, for the next time."""
        if self._owed is None:
            return None
        rough = await self._at_hand(subject, survey, gpus)
        if rough.source is not Source.HEADER:
            return self._appraised(subject, survey, gpus, rough)
        case = self._case(subject, survey, gpus, rough, generously)
        generous = appraise(case)
        parts = case.parts_of(layout_of(generous.placements[0])) or {}
        needs = survey.needs({name: each.total for name, each in parts.items()})
        if generous.placements[0].partial or not fits_beside_everything(needs, generous.rooms, case.books):
            return None
        self._owed.put(subject.entry.id, lambda: self._ask_later(subject, survey, gpus))
        return self._appraised(subject, survey, gpus, rough, likely)

    async def _ask_later(self, subject: Subject, survey: Survey, gpus: tuple[str, ...]) -> None:
        footprint = await self._ask(subject, survey, gpus, leisurely=True)
        told = self._told.get(subject.entry.id)
        if told is not None and told.identity == subject.identity:
            estimated = _parts_of(footprint, _layers_of(subject))
            self._told[subject.entry.id] = replace(told, footprint=footprint, estimated=estimated)

    def footprint_of(self, model: str) -> Footprint | None:
        """What a model needs, as far as it is known now: measured, where a load has shown it."""
        told = self._told_of(model)
        if told is None:
            return None
        known = self._learning.is_known(told.about, told.survey, told.layout)
        if known is None:
            return told.footprint
        needs = self._learning.parts_of(told.about, told.survey, told.estimated)(told.layout) or {}
        if known:
            return replace(told.footprint, needs=needs, source=Source.MEASURED)
        return replace(told.footprint, needs=needs).with_doubt(_RAISED)

    def appraised(self) -> Collection[str]:
        """The models of which something is known."""
        return self._told.keys()

    def load_of(self, model: str, placement: Placement, survey: Survey | None = None) -> Load | None:
        """What can be learnt of a load: of the devices as they are now, or as they were when it was appraised.

        None: nothing. What a model takes with a shorter context says little of what it takes with all of it.
        """
        told, subject = self._told_of(model), self._find(model)
        parts = None if told is None else told.estimated(layout_of(placement))
        if told is None or subject is None or parts is None:
            return None
        context = next((words[1] for words in placement.options if words[0] == "--ctx-size"), None)
        if context is not None and context != str(subject.context):
            return None
        seen = told.survey if survey is None else survey.seen_by(told.survey.view)
        return Load(model=model, subject=told.about, placement=placement, survey=seen, parts=parts)

    def forget(self, model: str) -> None:
        """What was said of a model's need holds no more."""
        self._known.pop(model, None)
        self._told.pop(model, None)
        if self._owed is not None:
            self._owed.forget(model)

    def _told_of(self, model: str) -> _Told | None:
        told = self._told.get(model)
        subject = self._find(model) if told is not None else None
        return None if told is None or subject is None or told.identity != subject.identity else told

    def _known_of(self, subject: Subject, gpus: tuple[str, ...]) -> Footprint | None:
        known = self._known.get(subject.entry.id)
        if known is None or (known.identity, known.gpus) != (subject.identity, gpus):
            return None
        return known.footprint

    def _view(self, subject: Subject) -> View | None:
        """What the model's engine calls the GPUs; None: it is being asked."""
        return self._devices.view(subject.engine.command, subject.launch.environment())

    def _appraised(
        self,
        subject: Subject,
        survey: Survey,
        gpus: tuple[str, ...],
        footprint: Footprint,
        taken: Callable[[PartsOf], PartsOf] = lambda parts_of: parts_of,
    ) -> Appraised:
        case = self._case(subject, survey, gpus, footprint, taken)
        appraised = appraise(case, max(0.0, time.monotonic() - survey.at))
        self._told[subject.entry.id] = _Told(
            subject.identity,
            footprint,
            _parts_of(footprint, case.layers),
            survey,
            self._about(subject),
            layout_of(appraised.placements[0]),
        )
        return appraised

    def _case(
        self,
        subject: Subject,
        survey: Survey,
        gpus: tuple[str, ...],
        footprint: Footprint,
        taken: Callable[[PartsOf], PartsOf],
    ) -> Case:
        """`taken`: how the estimate is to be taken; what was learnt is taken as it is."""
        entry, header, layers = subject.entry, subject.entry.model.header, _layers_of(subject)
        return Case(
            model=entry.id,
            launch=subject.launch,
            context=subject.context,
            trained=header.n_ctx_train if header is not None else None,
            footprint=footprint,
            parts_of=self._learning.parts_of(self._about(subject), survey, taken(_parts_of(footprint, layers))),
            survey=survey,
            gpus=gpus,
            layers=layers,
            full_offload=entry.require_full_offload,
            budgets=self._budgets,
            pids=self._pids(),
            books=self._books(),
        )

    def _about(self, subject: Subject) -> str:
        told = self._told.get(subject.entry.id)
        if told is not None and told.identity == subject.identity:
            return told.about
        return self._learning.subject(subject.launch, subject.engine, subject.entry.model.stamp)


def _layers_of(subject: Subject) -> int | None:
    """How many can be offloaded: the output is one more."""
    header = subject.entry.model.header
    return header.n_layer + 1 if header is not None and header.n_layer is not None else None


def _free_of(survey: Survey, name: str) -> int:
    device = survey.devices.get(survey.view.names.get(name, name))
    return 0 if device is None else device.free


def _parts_of(footprint: Footprint, layers: int | None) -> PartsOf:
    """What it takes in a layout: as it is written, that is what was said of it; elsewhere, in proportion."""
    elsewhere = scaled_parts(footprint, layers)
    return lambda layout: footprint.needs if layout == Layout() else elsewhere(layout)


def _not_looked_at(model: str) -> Appraised:
    """It cannot be started; its start will say why."""
    return Appraised(model, (Placement({}),), {})
