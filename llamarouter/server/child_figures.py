"""The metrics of the children, collected beside the requests, so that a scrape asks no child for anything.

    every 10 s, while there is a child --> each that is awake and was heard since --GET /metrics--> samples, kept

What has done nothing since has nothing new to say, and is left alone: nobody is woken or kept awake by it, neither by
the router's account (it holds no lease) nor by llama-server's (its idle time goes on).
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from types import TracebackType
from typing import Self

from msgspec import Struct

from llamarouter.core.child_metrics import Sample, samples_of
from llamarouter.host.probe import ProbeError, get
from llamarouter.server.child import Child, Stage
from llamarouter.server.errands import Errands

_EVERY = 10.0  # seconds
_SOON = 1.0  # seconds from the first child that is ready to the first look
_WITHIN = 1.0  # seconds


class _Known(Struct, eq=False):
    """Of one child: what it said, and when."""

    child: Child
    at: float = -float("inf")
    samples: tuple[Sample, ...] = ()
    asking: bool = False
    mute: bool = False  # it has no such page


class ChildFigures:
    """In its block the figures are kept up to date. `children`: those that live, by model."""

    def __init__(self, children: Mapping[str, Child], errands: Errands, every: float = _EVERY) -> None:
        self._children = children
        self._errands = errands
        self._every = every
        self.looks = 0  # how often it was looked whether there is something to ask
        self._known: dict[str, _Known] = {}
        self._timer: asyncio.TimerHandle | None = None
        self._loop = asyncio.get_running_loop()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def stop(self) -> None:
        """Look no more, until a child is ready again."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def begin(self) -> None:
        """A child is ready: from now on it is looked at. Without any, nothing happens here."""
        if self._timer is None:
            self._timer = self._loop.call_later(min(_SOON, self._every), self._look)

    @property
    def is_looking(self) -> bool:
        """Whether it will look again by itself."""
        return self._timer is not None

    def all(self) -> dict[str, tuple[Sample, ...]]:
        """What the children that are ready have said last, by model."""
        return {known.child.model: known.samples for known in self._current() if known.samples}

    def ages(self) -> dict[str, float]:
        """How many seconds ago they did."""
        now = self._loop.time()
        return {known.child.model: now - known.at for known in self._current() if known.samples}

    def _current(self) -> list[_Known]:
        return [known for model, known in self._known.items() if self._children.get(model) is known.child]

    def _look(self) -> None:
        self._timer = None
        self.looks += 1
        self._known = {known.child.model: known for known in self._current()}
        for model, child in self._children.items():
            known = self._known.setdefault(model, _Known(child))
            if is_news(child, known.at) and not known.asking and not known.mute:
                known.asking = True
                self._errands.begin(self._ask(known), _ended(known))
        if self._children:
            self._timer = self._loop.call_later(self._every, self._look)

    async def _ask(self, known: _Known) -> None:
        ready, at = known.child.ready, self._loop.time()
        assert ready is not None
        try:
            answer = await get(ready.address, "/metrics", api_key=ready.api_key, seconds=_WITHIN)
        except ProbeError:  # it is busy, or about to end: its last figures have their age
            return
        finally:
            known.asking = False
        if answer.status == 200:
            known.samples = samples_of(answer.body.decode("utf-8", "replace"))
            known.at = at
        else:
            known.mute = True


def is_news(child: Child, since: float) -> bool:
    """Whether a child may say something else than it did then: it is awake, and has had work."""
    connections = child.connections
    if child.stage is not Stage.LOADED or child.stopping or child.ready is None or connections is None:
        return False
    return connections.in_flight > 0 or connections.last_heard >= since or since < 0


def _ended(known: _Known) -> Callable[[], None]:
    def forget() -> None:
        known.asking = False

    return forget
