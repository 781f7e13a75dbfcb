"""What somebody in the queue waits for, how many are before him, and how long it may take: to be told, never to decide.

its model is ready    SLOT or CONNECTION: somebody inside has to leave
it loads              LOAD
it has no child       PLACE, or FREEING where a process is being stopped already
"""

from __future__ import annotations

import enum
from collections.abc import Mapping

from msgspec import Struct

from llamarouter.core.child_protocol import LoadProgress
from llamarouter.core.paces import Paces
from llamarouter.core.residents import Phase, Resident
from llamarouter.core.waiting import Lane, Queue, Waiter

READING = "the model is reading the prompt"  # inside, before its answer begins


class Need(enum.Enum):
    """What somebody waits for, in words."""

    SLOT = "waiting for a free slot"
    CONNECTION = "waiting for a free connection"
    LOAD = "the model is loading"
    PLACE = "waiting for a place: other models are busy"
    FREEING = "memory is being freed"
    START = "about to be loaded"


class Outlook(Struct, frozen=True):
    """How things stand for one who waits."""

    model: str
    position: int  # in the line of its model, from 1
    need: Need
    seconds: float | None = None  # until it goes in; None: nobody can say
    loading: float = 0.0  # seconds that its load has taken
    models_before: int = 0  # that want a place and have wanted it for longer


def outlook_of(
    ticket: int, queue: Queue, residents: Mapping[str, Resident], paces: Paces, now: float
) -> Outlook | None:
    """How things stand for the request `ticket`; None: it does not wait."""
    waiter = queue.waiter(ticket)
    if waiter is None:
        return None
    model, ahead = waiter.model, queue.ahead_of(waiter)
    resident = residents.get(model)
    if resident is not None and resident.is_open:
        seconds = paces.line_left(model, ahead, ready=True) if waiter.lane is Lane.SLOT else None
        return Outlook(model, ahead + 1, _need_inside(waiter), seconds)
    if resident is not None and resident.phase is Phase.STARTING and resident.waits_for is None:
        seconds = _sum(paces.load_left(resident, now), paces.line_left(model, ahead, ready=False))
        return Outlook(model, ahead + 1, Need.LOAD, seconds, loading=now - resident.started_at)
    freeing = any(each.phase is Phase.STOPPING or each.waits_for is not None for each in residents.values())
    before = _models_before(model, queue, residents)
    # Where it is the next to have a place, only its load is left.
    seconds = _sum(paces.load_of(model), paces.line_left(model, ahead, ready=False)) if freeing and not before else None
    busy = any(each.in_flight or each.phase is Phase.STARTING for each in residents.values())
    need = Need.FREEING if freeing else Need.PLACE if busy else Need.START
    return Outlook(model, ahead + 1, need, seconds, models_before=before)


def words_of(outlook: Outlook, progress: LoadProgress | None = None) -> str:
    """One line for people, without the end of a line in it; `progress`: of the load, if that says how far it is."""
    words = f"position {outlook.position} in the queue of {_shown(outlook.model)}: {outlook.need.value}"
    seconds = outlook.seconds
    if outlook.need is Need.LOAD and progress is not None:
        words += f", {_share(progress)}"
        if seconds is None and len(progress.stages) < 2 and progress.value > 0.05:
            seconds = outlook.loading * (1.0 / progress.value - 1.0)
    if outlook.models_before == 1:
        words += ", another model is before it"
    elif outlook.models_before:
        words += f", {outlook.models_before} models are before it"
    return words if seconds is None else f"{words}; about {max(1, round(seconds))} s more"


def words_of_download(model: str, share: float | None) -> str:
    """What is said while the files of a model come; `share`: of their bytes, from 0 to 1."""
    words = f"{_shown(model)} is being downloaded"
    return words if share is None else f"{words}, {int(100 * share)}%"


def words_of_waking(model: str, progress: LoadProgress | None) -> str:
    """What is said inside of a model that sleeps, or loads again; `progress`: of the last load that it told of."""
    words = f"{_shown(model)} wakes up"
    return words if progress is None or progress.value >= 1.0 else f"{words}, {_share(progress)}"


def words_behind(seconds: float, load_seconds: float) -> str:
    """What is said when the wait is over."""
    loading = f", {load_seconds:.1f} s of them for the load" if load_seconds > 0.0 else ""
    return f"it was its turn after {seconds:.1f} s{loading}"


def _shown(model: str) -> str:
    return f"model {' '.join(model.split())}"  # a name may hold the end of a line


def _need_inside(waiter: Waiter) -> Need:
    return Need.SLOT if waiter.lane is Lane.SLOT else Need.CONNECTION


def _models_before(model: str, queue: Queue, residents: Mapping[str, Resident]) -> int:
    line = queue.line_of(model)
    assert line is not None
    lines = [each for each in queue.lines if each.model != model and each.mark < line.mark]
    return sum(not _has_child(residents.get(each.model)) for each in lines)


def _has_child(resident: Resident | None) -> bool:
    return resident is not None and resident.phase is not Phase.STOPPING


def _sum(first: float | None, second: float | None) -> float | None:
    return None if first is None else first + (second or 0.0)


def _share(progress: LoadProgress) -> str:
    percent = f"{int(100 * progress.value)}%"
    if len(progress.stages) < 2 or progress.current not in progress.stages:
        return percent
    return f"part {progress.stages.index(progress.current) + 1} of {len(progress.stages)} at {percent}"
