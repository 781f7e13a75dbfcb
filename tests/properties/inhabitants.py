"""Who lives in the house of the properties: children with their fates, and the requests of clients."""

from __future__ import annotations

import enum
import math
from collections.abc import Mapping
from dataclasses import dataclass, field

from llamarouter.core.errors import InsufficientMemory, ModelCrashed, ModelInvalid
from llamarouter.core.scheduler import Phase


class Fate(enum.Enum):
    """What becomes of the next load of a model."""

    FINE = "fine"
    FAILS = "fails"
    INVALID = "invalid"
    MEMORY = "memory"


class Kind(enum.Enum):
    SLOT = "slot"
    OPEN = "open"
    GLANCE = "glance"
    LOAD = "load"


EXITS = {
    Fate.FAILS: (ModelCrashed("exit code 1"), False, False),
    Fate.INVALID: (ModelInvalid("wrong magic"), False, True),
    Fate.MEMORY: (InsufficientMemory("out of memory"), True, False),
}


@dataclass(eq=False)
class Request:
    ticket: int
    model: str
    kind: Kind
    seconds: float  # how long its answer takes
    arrived: float
    autoload: bool = True
    hot: bool = False  # its client asks again as soon as it is answered
    child: Child | None = None


@dataclass(eq=False)
class Child:
    model: str
    phase: Phase = Phase.STARTING
    started: float = 0.0
    loaded: float = 0.0
    ready: float = math.inf
    used: float = 0.0  # as the scheduler should see it
    drain_by: float | None = None
    cut: bool = False
    probe: bool = False  # the first start of a model that has failed too often
    inside: dict[int, Request] = field(default_factory=dict)
    needs: Mapping[str, int] = field(default_factory=dict)  # what it was started with, or weighed at
    truth: Mapping[str, int] = field(default_factory=dict)  # what it takes, in the end

    def count(self, kind: Kind) -> int:
        return sum(request.kind is kind for request in self.inside.values())

    @property
    def is_used(self) -> bool:
        """Whether somebody does more than look."""
        return len(self.inside) > self.count(Kind.GLANCE)

    @property
    def connected(self) -> int:
        return self.count(Kind.OPEN) + self.count(Kind.GLANCE)


@dataclass
class Hunger:
    """A model that has wanted a place without a break: since when, and until when it must have had one."""

    since: float
    by: float
