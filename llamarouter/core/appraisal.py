"""An appraisal: from what a model needs and what there is to the ways in which it may be placed.

    launch -> what the operator fixed -> placements (`placement`), their needs eased (`soft_room`)
           -> where none could ever hold it whole, and llama-server may fit it: what that makes of all that there is

llama-server's own `--fit` shrinks a context that nobody asked for, and only then leaves layers in host memory: a model
of which the operator said neither is served by hand on a device that is too small for all of it, so it is here. It
then gets the device for itself.
"""

from __future__ import annotations

from collections.abc import Mapping

from msgspec import Struct
from msgspec.structs import replace

from llamarouter.core.as_planned import has_context
from llamarouter.core.budget import Budgets
from llamarouter.core.devices import Survey
from llamarouter.core.events import Appraised
from llamarouter.core.footprint import Footprint, Parts, together
from llamarouter.core.launch import Launch
from llamarouter.core.memory import Placement, Room
from llamarouter.core.placement import Layout, Question, layout_of, placements_of
from llamarouter.core.rooms import rooms_of
from llamarouter.core.scaling import PartsOf
from llamarouter.core.shrunk_context import context_that_fits, with_context
from llamarouter.core.soft_room import Books, SoftRoom, eased
from llamarouter.core.tuning import Fixed, fixed_of

FITTED = "as llama-server fits it"


class Case(Struct, frozen=True, kw_only=True):
    """One model and the machine, at one moment."""

    model: str
    launch: Launch
    footprint: Footprint | None  # of the launch as it is written; None: nobody can say
    parts_of: PartsOf  # what it would take in one layout
    survey: Survey
    gpus: tuple[str, ...] = ()  # those of the model's engine
    layers: int | None = None  # that can be offloaded
    context: int | None = None  # that the child is to be told (`whole_context`)
    trained: int | None = None  # tokens that the model was trained for
    full_offload: bool = False  # none of them may stay in host memory
    budgets: Budgets = Budgets()
    pids: tuple[int, ...] = ()  # of all our children
    books: Books = Books()


def appraise(case: Case, age: float = 0.0) -> Appraised:
    """What the scheduler is told. `age`: seconds since the survey."""
    rooms = rooms_of(case.survey, case.budgets, case.pids)
    soft = _soft_rooms(case, rooms)
    fixed = fixed_of(case.launch.flags)
    if case.full_offload and case.gpus:
        fixed = replace(fixed, whole=True)

    def needs_of(layout: Layout) -> Mapping[str, int] | None:
        parts = case.parts_of(layout)
        return None if parts is None else eased(_by_memory(case.survey, parts), soft)

    question = Question(
        needs_of=needs_of,
        fixed=fixed,
        gpus=case.gpus,
        rooms=rooms,
        memory_of=case.survey.memory_of,
        held=case.books.loaded,
        layers=case.layers,
    )
    placements = _with_fitted(case, fixed, _told(case, fixed, placements_of(question)), soft)
    # Of what nobody can say what it needs nothing is looked at.
    return Appraised(case.model, placements or (Placement({}),), rooms, age=age)


def _soft_rooms(case: Case, rooms: Mapping[str, Room]) -> dict[str, SoftRoom]:
    books = case.books
    said = case.budgets.said({name: room.total for name, room in rooms.items()})
    return {
        name: SoftRoom(room, books.loaded.get(name, 0), books.all.get(name, 0), name in said)
        for name, room in rooms.items()
    }


def _by_memory(survey: Survey, needs: Mapping[str, Parts]) -> dict[str, Parts]:
    """By the memory that it is taken from: that of an integrated GPU is the machine's."""
    return together(*({survey.memory_of(name): parts} for name, parts in needs.items()))


def _told(case: Case, fixed: Fixed, placements: tuple[Placement, ...]) -> tuple[Placement, ...]:
    """With the context that llama-server would find by itself if it were let."""
    if case.context is None or fixed.fit:
        return placements
    context = ("--ctx-size", str(case.context))
    return tuple(replace(each, options=(*each.options, context)) for each in placements)


def _with_fitted(
    case: Case, fixed: Fixed, placements: tuple[Placement, ...], soft: Mapping[str, SoftRoom]
) -> tuple[Placement, ...]:
    """With a shorter context, or left to llama-server, where that may be and none would ever hold it as it is."""
    if fixed.fit:
        return tuple(replace(each, needs=_all_there_is(each.needs, soft)) for each in placements)
    whole = [each for each in placements if not each.partial]
    if has_context(case.launch) or not whole or any(_may_ever_fit(_raw_needs(case, each), soft) for each in whole):
        return placements
    shrunk = tuple(made for each in whole if (made := _shrunk(case, each, soft)) is not None)
    if shrunk:
        return shrunk
    if case.footprint is None or any(soft[name].strict for each in whole for name in each.needs if name in soft):
        return placements
    needs = {name: parts.total for name, parts in _by_memory(case.survey, case.footprint.needs).items()}
    layers = (("--n-gpu-layers", "999"),) if case.full_offload and case.gpus and fixed.layers is None else ()
    return (*whole, Placement(_all_there_is(needs, soft), layers, partial=True, label=FITTED))


def _shrunk(case: Case, placement: Placement, soft: Mapping[str, SoftRoom]) -> Placement | None:
    """The same place, with as long a context as it has room for."""
    whole, parts = case.context or case.trained, case.parts_of(layout_of(placement))
    if not whole or parts is None:
        return None
    needs = _by_memory(case.survey, parts)
    tokens = context_that_fits(whole, needs, soft)
    if tokens is None:
        return None
    shorter = with_context(needs, tokens, whole)
    options = tuple(words for words in placement.options if words[0] != "--ctx-size")
    return replace(
        placement,
        needs=_all_there_is({name: each.total for name, each in shorter.items() if each.total}, soft),
        options=(*options, ("--ctx-size", str(tokens))),
        label=f"{placement.label}, {tokens} of {whole} tokens",
    )


def _raw_needs(case: Case, placement: Placement) -> Mapping[str, int]:
    """What it needs to have all of it in memory at once."""
    parts = case.parts_of(layout_of(placement)) or {}
    return {name: each.total for name, each in _by_memory(case.survey, parts).items()}


def _may_ever_fit(needs: Mapping[str, int], soft: Mapping[str, SoftRoom]) -> bool:
    return all(size <= soft[name].room.most for name, size in needs.items() if name in soft)


def _all_there_is(needs: Mapping[str, int], soft: Mapping[str, SoftRoom]) -> dict[str, int]:
    return {name: min(size, soft[name].capacity) if name in soft else size for name, size in needs.items()}
