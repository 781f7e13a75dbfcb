"""What those who wait in a house are told, against the house's own books."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import islice

from llamarouter.core.outlook import Need, words_of
from llamarouter.core.scheduler import Phase, Scheduler
from tests.properties.inhabitants import Child, Kind, Request

_LOOKED_AT = 5  # of each lane: the first


def check_outlooks(
    scheduler: Scheduler,
    waiting: Mapping[str, Mapping[Kind, Mapping[int, Request]]],
    children: Mapping[str, Child],
    now: float,
) -> None:
    """Everybody who waits is told his position, and the one thing that he waits for."""
    for model, lanes in waiting.items():
        child = children.get(model)
        for kind, lane in lanes.items():
            for position, ticket in enumerate(islice(lane, _LOOKED_AT), start=1):
                outlook = scheduler.outlook(ticket, now)
                assert outlook is not None, "somebody who waits is told nothing"
                assert (outlook.model, outlook.position) == (model, position)
                assert outlook.seconds is None or outlook.seconds >= 0.0
                assert outlook.need in _needs_of(child, kind, children)
                assert words_of(outlook).isprintable()


def _needs_of(child: Child | None, kind: Kind, children: Mapping[str, Child]) -> set[Need]:
    """What it may be that a request for this child waits for."""
    if child is not None and child.phase is Phase.STARTING:
        return {Need.LOAD, Need.FREEING}
    if child is not None and child.phase is Phase.READY and child.drain_by is None:
        return {Need.SLOT if kind is Kind.SLOT else Need.CONNECTION, Need.PLACE, Need.FREEING}  # it may be claimed
    if any(other.phase is Phase.STOPPING for other in children.values()):
        return {Need.FREEING}
    busy = any(other.inside or other.phase is Phase.STARTING for other in children.values())
    return {Need.FREEING, Need.PLACE} if busy else {Need.FREEING, Need.START}
