"""The scales: what children really hold, told to the scheduler; and whether each came up as it was meant to.

ready    -> shortfalls, said once in the log and kept with the child -> a look at the devices -> `weigh`
a survey -> what each child holds by the drivers' word, where they give it -> the scheduler
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping

from llamarouter.core.as_planned import shortfalls
from llamarouter.core.child_facts import ChildFacts
from llamarouter.core.devices import Survey
from llamarouter.core.entry import Entry
from llamarouter.core.footprint import HOST
from llamarouter.core.lessons import FALL
from llamarouter.core.memory import Placement
from llamarouter.host.process import ReadyChild
from llamarouter.server.child import Child, Stage

log = logging.getLogger("llamarouter")

# A difference below this share of what is booked is none.
_SAME = 0.01


class Scales:
    """Weighs the children whenever somebody has looked at the devices."""

    def __init__(self, children: Mapping[str, Child], weighed: Callable[[str, Mapping[str, int]], None]) -> None:
        """`weighed` is told what a child holds."""
        self._children = children
        self._weighed = weighed
        self._booked: dict[tuple[str, int], Mapping[str, int]] = {}  # by model and process: of another it says nothing

    def weigh(self, survey: Survey) -> None:
        """Tell of every loaded child that holds something else than is known of it."""
        before, self._booked = self._booked, {}
        for model, child in tuple(self._children.items()):  # who is told may start and stop others
            # One that sleeps has given its memory back, and takes it again when it wakes: it keeps its room.
            if child.stage is not Stage.LOADED or child.pid is None or child.placement is None or child.stopping:
                continue
            booked = before.get((model, child.pid), child.placement.needs)
            held = held_by(child.pid, child.placement, survey, child.learnt)
            if differs := _differ(booked, held):
                self._weighed(model, held)
            self._booked[model, child.pid] = held if differs else booked


def held_by(pid: int, placement: Placement, survey: Survey, learnt: Mapping[str, int] | None = None) -> dict[str, int]:
    """Bytes by device: by the drivers' word, else as it was planned.

    Of the host no less than its load has shown that it takes, or else than was planned: pages that the kernel has
    dropped for a while come back.
    """
    held = dict(placement.needs)
    if learnt is not None and HOST in held:
        held[HOST] = min(held[HOST], max(learnt.get(HOST, 0), int(held[HOST] * FALL)))
    for name, device in survey.devices.items():
        size = device.held_by((pid,))
        if size is None or device.shares_host or (not size and not held.get(name)):
            continue
        held[name] = max(size, held.get(name, 0)) if name == HOST else size
    return held


def note_shortfalls(child: Child, entry: Entry) -> None:
    """What it came up with less of: kept with it, and in the log."""
    if child.ready is None or entry.launch is None:
        return
    found = shortfalls(entry.launch, entry.model.header, child.placement, facts_of(child.ready))
    child.shortfalls = tuple(each.message for each in found)
    for message in child.shortfalls:
        log.warning("%s: %s", child.model, message)


def facts_of(ready: ReadyChild) -> ChildFacts:
    """What a child said, as far as it is compared."""
    return ChildFacts(ready.slots, ready.n_ctx, ready.layers_offloaded, ready.layers, ready.unified)


def _differ(booked: Mapping[str, int], held: Mapping[str, int]) -> bool:
    names = {*booked, *held}
    return any(abs(held.get(name, 0) - booked.get(name, 0)) > _SAME * booked.get(name, 0) for name in names)
