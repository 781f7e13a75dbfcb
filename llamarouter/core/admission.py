"""Who may wait at all: the limits of the queue, and the reasons for which a request is refused at once.

the router closes -> may not load what is not loaded -> the model cools down -> another one tries it already
-> its line is full -> all are full
"""

from __future__ import annotations

from msgspec import Struct

from llamarouter.core import refusals
from llamarouter.core.cooldown import Cooldowns
from llamarouter.core.errors import RouterError
from llamarouter.core.events import Arrived, StopReason
from llamarouter.core.paces import Paces
from llamarouter.core.policy import Policy
from llamarouter.core.residents import Phase, Resident
from llamarouter.core.waiting import Lane, Queue


class Limits(Struct, frozen=True):
    """What the operator allows; times in seconds."""

    models_max: int = 4  # living children; 0: without limit
    max_wait: float = 10.0  # for an idle victim; then a busy one takes no newcomers
    queue_timeout: float = 300.0
    queue_per_model: int = 1024
    queue_in_all: int = 4096
    queue_bytes: int = 256 << 20
    by_memory: bool = False  # nothing is started before it was appraised, and then only where it fits
    lag: float = 2.0  # for how long after its end a child's bytes count, where the driver does not show them free


def objection(
    event: Arrived,
    resident: Resident | None,
    queue: Queue,
    limits: Limits,
    cooldowns: Cooldowns,
    paces: Paces,
    policy: Policy,
    now: float,
) -> RouterError | None:
    """Why a request that finds no room may not wait for some; None: it may."""
    if not may_load(event) and not _may_serve(resident):
        return refusals.not_loaded(event.model)
    if event.glance and resident is not None and resident.phase is Phase.STARTING:
        return refusals.still_loading()
    left = cooldowns.left(event.model, now)
    if left > 0.0:  # then there is no child: a load begins after the cool-down, never within it
        return refusals.cooling(event.model, cooldowns.failure_of(event.model), left)
    waiting = queue.waiting(event.model)
    probed = cooldowns.probed(event.model, now)
    if probed is not None and waiting:
        since = now if resident is None else resident.started_at
        return refusals.being_probed(event.model, probed, probed.took - (now - since))
    if waiting >= (policy.queue or limits.queue_per_model):
        again = paces.retry_after(event.model, resident, waiting, max_wait=limits.max_wait, now=now)
        return refusals.line_full(event.model, waiting, again)
    if len(queue) >= limits.queue_in_all or queue.bytes + event.body_bytes > limits.queue_bytes:
        again = paces.retry_after(event.model, resident, waiting, max_wait=limits.max_wait, now=now)
        return refusals.queue_full(len(queue), queue.bytes, again)
    return None


def may_load(event: Arrived) -> bool:
    """Whether a child may be started for this request; an explicit load needs no leave."""
    return (event.autoload and not event.glance) or event.ends_with_load


def lane_of(event: Arrived) -> Lane:
    """Where a request stands, if it has to wait."""
    if event.slot:
        return Lane.SLOT
    if event.ends_with_load:
        return Lane.LOAD
    return Lane.GLANCE if event.glance else Lane.OPEN


def _may_serve(resident: Resident | None) -> bool:
    """Whether a child is there, or coming, that may still take requests: a claim on it may be taken back."""
    if resident is None or resident.phase is Phase.STOPPING:
        return False
    return resident.leaving is None or resident.leaving.reason is StopReason.EVICTED
