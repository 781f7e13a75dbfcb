"""A resident: one living child, as the scheduler sees it.

    Start              Ready                 idle, or its drain is over        Exited
    ------> STARTING -----------> READY -------------------------------> STOPPING -----> (absent)
               |                    |  `leaving` set: no newcomers           ^
               +--------------------+----------------------------------------+

Its bytes and its place are free when it is gone, never before. Requests inside belong to the resident into which they
were granted: what is released after its end counts nowhere else.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping

from msgspec import Struct, field

from llamarouter.core.events import Sake, StopReason
from llamarouter.core.memory import Placement
from llamarouter.core.policy import Policy
from llamarouter.core.waiting import Lane

# Every request passes here. A member taken from its Enum's class costs 0.2 us each time on Python 3.11, a global none.
_SLOT, _OPEN, _GLANCE, _LOAD = Lane.SLOT, Lane.OPEN, Lane.GLANCE, Lane.LOAD


class Phase(enum.Enum):
    """Where in its life the child of a model is; a model without one is ABSENT."""

    ABSENT = "absent"
    STARTING = "starting"
    READY = "ready"
    STOPPING = "stopping"


_READY = Phase.READY

# How long a turn may be, in loads, while those are served who came before the model that wants the place. At four,
# models that are always asked for spend a fifth of the time loading; at one it is a half, and two of them whose work
# would fill six tenths of a place get further behind for ever (the trace `hot` of scripts/simulate).
_TURN = 4.0


class Leaving(Struct, frozen=True):
    """Why a resident takes no newcomers. A claim (EVICTED) may be taken back while the child is READY."""

    reason: StopReason
    by: float | None = None  # then it is cut; None: its requests end by themselves
    sake: Sake | None = None  # of a claim


class Resident(Struct, eq=False):
    """One child from `Start` to `Exited`."""

    model: str
    started_at: float
    phase: Phase = Phase.STARTING
    attempt: int = 1  # 2: its first load died of memory
    # The model whose end must come first: until then nothing was spawned, only the place is kept.
    waits_for: str | None = None
    slots: int = 0  # none before it is ready
    connections: int = 0
    in_slots: int = 0
    in_open: int = 0
    in_glances: int = 0
    ready_at: float = 0.0
    load_seconds: float = 0.0
    # Of the last grant, or of the moment at which it last became idle. Not of each release: a victim that drains would
    # become the newest by its own last requests.
    last_used: float | None = None
    leaving: Leaving | None = None
    placement: Placement | None = None  # None: its memory is not looked at
    needs: Mapping[str, int] = field(default_factory=dict)  # what it holds, or will: bytes by device
    cut: bool = False  # its stop was asked for without waiting for its requests
    policy: Policy = Policy()

    @property
    def in_flight(self) -> int:
        return self.in_slots + self.in_open + self.in_glances

    @property
    def is_used(self) -> bool:
        """Whether somebody is inside who does more than look."""
        return bool(self.in_slots or self.in_open)

    @property
    def idle_since(self) -> float:
        """Since when nobody is inside (asked only of an idle one); also its place in the order of use."""
        return self.ready_at if self.last_used is None else self.last_used

    @property
    def keeps_until(self) -> float:
        """A fresh model keeps its place at least as long as it took to load."""
        return self.ready_at + self.load_seconds

    @property
    def turn_until(self) -> float:
        """Until when it keeps its place for those who came before the one that wants it."""
        return self.ready_at + _TURN * self.load_seconds

    @property
    def is_claimed(self) -> bool:
        """It serves whom it has, and then makes room."""
        return self.phase is Phase.READY and self.leaving is not None and self.leaving.reason is StopReason.EVICTED

    @property
    def is_expiring(self) -> bool:
        """It was idle for as long as it may be, and somebody still looks at it."""
        return self.phase is Phase.READY and self.leaving is not None and self.leaving.reason is StopReason.EXPIRED

    @property
    def is_open(self) -> bool:
        """Ready, and nothing keeps newcomers out."""
        return self.phase is Phase.READY and self.leaving is None

    @property
    def is_draining(self) -> bool:
        """Whether it still serves, and will be stopped then."""
        return self.phase is Phase.READY and self.leaving is not None

    def takes(self, lane: Lane) -> bool:
        """Whether one more request of `lane` may go in now."""
        if self.phase is not _READY or self.leaving is not None:
            return False
        if lane is _SLOT:
            return self.in_slots < self.slots
        return lane is _LOAD or self.in_open + self.in_glances < self.connections

    def admits(self, lane: Lane, now: float) -> bool:
        """`takes` and `enter` in one, for whoever is nothing but a request; False: it has not gone in."""
        if self.phase is not _READY or self.leaving is not None:
            return False
        if lane is _SLOT:
            if self.in_slots >= self.slots:
                return False
            self.in_slots += 1
        elif lane is _OPEN:
            if self.in_open + self.in_glances >= self.connections:
                return False
            self.in_open += 1
        else:
            return False
        self.last_used = now
        return True

    def enter(self, lane: Lane, now: float) -> None:
        if lane is _GLANCE:
            self.in_glances += 1
            return
        self.last_used = now
        if lane is _SLOT:
            self.in_slots += 1
        elif lane is _OPEN:
            self.in_open += 1

    def exit(self, lane: Lane, now: float) -> None:
        if lane is _GLANCE:
            self.in_glances -= 1
            return
        if lane is _SLOT:
            self.in_slots -= 1
        else:
            self.in_open -= 1
        if not self.in_slots and not self.in_open:
            self.last_used = now
