"""What the scheduler is told, and what it tells its owner to do: two closed unions of frozen values.

Times are seconds on a monotonic clock and never stand in an event: `handle(event, now)` gets the time beside it.
A *ticket* is one request's number, given by the owner, never used twice. A ticket whose `ends_with_load` is set is
a load without a client (`POST /models/load`, `load-on-startup`): granted and over at once when the model is ready.
"""

from __future__ import annotations

import enum
import math
from collections.abc import Mapping

from msgspec import Struct

from llamarouter.core.errors import RouterError
from llamarouter.core.memory import Placement, Room
from llamarouter.core.policy import Policy


class StopReason(enum.Enum):
    """Why the scheduler had a child stopped; shown to people."""

    EVICTED = "evicted"
    EXPIRED = "expired"
    UNLOADED = "unloaded"
    CLOSING = "closing"


class Scarce(enum.Enum):
    """What a model is evicted for; shown to people."""

    PLACE = "place"  # there are as many models as there may be
    MEMORY = "memory"


class Sake(Struct, frozen=True):
    """For which model another is evicted, and what that one lacks."""

    model: str
    lacks: Scarce


# --- events ---------------------------------------------------------------------------------------------------------


class Arrived(Struct, frozen=True):
    """Somebody wants `model`. `slot`: the request will occupy one of the child's slots. `glance`: it only looks, as a
    scraper does: it loads nothing, waits for no load, and is no use of the model.
    """

    ticket: int
    model: str
    slot: bool = True
    body_bytes: int = 0
    autoload: bool = True
    ends_with_load: bool = False
    glance: bool = False


class Left(Struct, frozen=True):
    """A client gave up while it waited. Unknown tickets are ignored: the grant may have crossed it."""

    ticket: int


class Released(Struct, frozen=True):
    """A granted request is over, whatever way it ended."""

    ticket: int


class Ready(Struct, frozen=True):
    """The child of `model` answers; it has `slots` slots (at least one) and `connections` places for other requests.

    `load_seconds`: how long its process took, where that is less than the time since its start was ordered.
    """

    model: str
    slots: int
    connections: int = 48
    load_seconds: float = math.inf


class Exited(Struct, frozen=True):
    """The child of `model` is gone and reaped. `error` is what waiters are told; None: it ended because we asked.

    `memory`: it died of memory, so one more eviction and one more try may help.
    `deterministic`: it would fail again in the same way, so a retry waits for the cool-down at once.
    """

    model: str
    error: RouterError | None = None
    memory: bool = False
    deterministic: bool = False


class UnloadAsked(Struct, frozen=True):
    """Unload `model`: let its requests end until `drain` seconds from now, then cut (0: cut now)."""

    model: str
    drain: float


class Forgotten(Struct, frozen=True):
    """`model` was changed or removed by a reload: its failures are forgotten; a child is drained and stopped."""

    model: str
    drain: float


class PolicySet(Struct, frozen=True):
    """How long each model of the catalogue stays, from now on; a model that is not named has no policy."""

    policies: Mapping[str, Policy]


class Pinned(Struct, frozen=True):
    """Somebody pins or unpins `model` while the router runs; None: what its preset says holds again."""

    model: str
    pinned: bool | None


class TimePassed(Struct, frozen=True):
    """`deadline()` was reached, or may have been."""


class Closing(Struct, frozen=True):
    """The router goes away: waiters are refused, running requests may end until `drain` seconds from now."""

    drain: float


class Appraised(Struct, frozen=True):
    """The answer to `Appraise`: the ways to place `model`, the preferred first, and the devices as they are now.

    `placements` empty: there is none, and `error` is what the waiters are told. `age`: how many seconds ago the rooms
    were looked at.
    """

    model: str
    placements: tuple[Placement, ...]
    rooms: Mapping[str, Room]
    error: RouterError | None = None
    age: float = 0.0


class Weighed(Struct, frozen=True):
    """What the living child of `model` really holds, in bytes by device: from now on that is what it holds."""

    model: str
    needs: Mapping[str, int]


Requests = Arrived | Left | Released
Orders = UnloadAsked | Forgotten | PolicySet | Pinned | Closing
Happenings = Ready | Exited | Appraised | Weighed

Event = Requests | Orders | Happenings | TimePassed

# --- commands -------------------------------------------------------------------------------------------------------


class Start(Struct, frozen=True):
    """Spawn the one child of `model`, placed so; `placement` None: its memory is not looked at."""

    model: str
    placement: Placement | None = None


class Appraise(Struct, frozen=True):
    """Say what `model` needs and what there is now: `Appraised` is the answer, at once or later, and always comes."""

    model: str


class Stop(Struct, frozen=True):
    """End the child of `model`; `cut`: without waiting for its requests. May be given again, then with `cut`.

    `sake`: why it is evicted.
    """

    model: str
    reason: StopReason
    cut: bool = False
    sake: Sake | None = None


class Grant(Struct, frozen=True):
    """The request may go to the child of `model` now; it counts from this moment until `Released`."""

    ticket: int
    model: str


class Refuse(Struct, frozen=True):
    """The request will not be served, and why."""

    ticket: int
    error: RouterError


Command = Start | Stop | Grant | Refuse | Appraise
