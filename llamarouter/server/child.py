"""A child: one process of a model from its spawn to its reap, as the router sees it.

    LOADING -> LOADED <-> SLEEPING -> gone (an `Exit` is known)

A new spawn is a new child; leases keep the one that they were granted in. The supervisor owns it.
"""

from __future__ import annotations

import asyncio
import enum
import re
from collections.abc import Callable, Mapping

import msgspec
from msgspec import Struct, field

from llamarouter.core.child_protocol import LoadProgress
from llamarouter.core.errors import ModelCrashed, RouterError
from llamarouter.core.exits import Exit
from llamarouter.core.launch import Launch
from llamarouter.core.memory import Placement
from llamarouter.host.engine import Engine
from llamarouter.host.process import ReadyChild
from llamarouter.relay.connections import ChildConnections
from llamarouter.relay.switchboard import Outcome

# How long the answer to a broken connection waits for the process's own end to be known.
_POST_MORTEM = 0.25

_NO_PAGE = frozenset({"--no-ui", "--no-webui"})
_TIMED = b'"predicted_per_second":'
_PER_SECOND = re.compile(rb'"predicted_per_second":\s*([0-9.]+)')


class Stage(enum.Enum):
    """llama-server's words for what a child is doing."""

    LOADING = "loading"
    LOADED = "loaded"
    SLEEPING = "sleeping"


class Child(Struct, eq=False):
    """One child."""

    model: str
    launch: Launch
    engine: Engine
    command: tuple[str, ...]
    started: float
    tags: tuple[str, ...] = ()
    placement: Placement | None = None  # None: its memory was not looked at
    learnt: Mapping[str, int] | None = None  # what its load has shown that such a one takes, by device
    shortfalls: tuple[str, ...] = ()  # what it came up with less of than it was to have, for people
    stage: Stage = Stage.LOADING
    pid: int | None = None
    progress: LoadProgress | None = None
    ready: ReadyChild | None = None
    connections: ChildConnections | None = None
    awake: ChildConnections | None = None  # the same, while it neither sleeps nor wakes up
    error: RouterError | None = None
    timings: bytes = b""  # the end of the last answer that tells how fast the model was: read when somebody asks
    task: asyncio.Task[Exit] | None = None
    stopping: bool = False
    gone: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def info(self) -> dict[str, object]:
        """The model object that it has said it serves, by the names that the router has for it; empty before."""
        said = {} if self.ready is None else self.ready.info
        return {**said, "id": self.model, "tags": list(self.tags)} if said else {}

    @property
    def has_page(self) -> bool:
        """Whether it was left to serve the web page, if its engine carries one."""
        return not _NO_PAGE.intersection(flag.option for flag in self.launch.flags)

    @property
    def tokens_per_second(self) -> float | None:
        """That of the streams that run now, together; else of the last answer that says one."""
        if self.connections is not None and (pace := self.connections.pace()):
            return pace
        found = _PER_SECOND.findall(self.timings)
        return float(found[-1]) if found else None

    async def failure(self) -> RouterError:
        """Why a connection to this child broke: its end is awaited for a moment."""
        try:
            async with asyncio.timeout(_POST_MORTEM):
                await self.gone.wait()
        except TimeoutError:
            pass
        return self.error or ModelCrashed(f"the process of model '{self.model}' closed the connection")


class Lease(msgspec.Struct, eq=False):
    """A place inside a child, from the grant to `end`."""

    ticket: int
    child: Child
    connections: ChildConnections
    release: Callable[[int], None]
    ended: bool = False

    def end(self, outcome: Outcome) -> None:
        """Give the place back; more than one call is the same as one."""
        if self.ended:
            return
        self.ended = True
        if outcome.tail.find(_TIMED) >= 0:  # `in` is three times as slow: bytes try their argument as a number first
            self.child.timings = outcome.tail
        self.release(self.ticket)

    async def failure(self) -> RouterError:
        """Why the child broke the connection."""
        return await self.child.failure()
