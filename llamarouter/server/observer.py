"""What one child tells about itself, written into its child and told to whoever listens."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import msgspec

from llamarouter.core.child_protocol import LoadProgress
from llamarouter.core.events import Event, Ready
from llamarouter.host.process import ReadyChild
from llamarouter.relay.connections import ChildConnections
from llamarouter.server.child import Child, Stage
from llamarouter.server.feed import Feed


class Observer:
    """The `ChildObserver` of one child."""

    def __init__(
        self,
        child: Child,
        feed: Feed,
        dispatch: Callable[[Event], None],
        on_spawned: Callable[[Child], None],
        on_ready: Callable[[Child], None],
    ) -> None:
        self._child = child
        self._feed = feed
        self._dispatch = dispatch
        self._on_spawned = on_spawned
        self._on_ready = on_ready

    def spawned(self, pid: int) -> None:
        """The process is there; it loads."""
        self._child.pid = pid
        self._on_spawned(self._child)

    def progress(self, value: LoadProgress) -> None:
        """How far the load is; a child that sleeps loads again when it wakes."""
        self._child.progress = value
        self._child.stage = Stage.LOADING
        self._child.awake = None
        self._tell({"status": "loading", "progress": msgspec.to_builtins(value)})

    def ready(self, ready: ReadyChild) -> None:
        """The child answers: whoever waits may go in."""
        child = self._child
        child.ready = ready
        child.stage = Stage.LOADED
        clock = asyncio.get_running_loop().time
        child.connections = ChildConnections(ready.address, ready.api_key, clock=clock, model=child.model)
        child.awake = child.connections
        self._tell({"status": "loaded", "info": child.info})
        self._dispatch(Ready(child.model, max(1, ready.slots), load_seconds=ready.load_seconds))
        self._on_ready(child)

    def state(self, word: str) -> None:
        """A later state line: `sleeping`, or `ready` after a sleep."""
        if word == "sleeping":
            self._child.stage = Stage.SLEEPING
            self._child.awake = None
            self._tell({"status": "sleeping"})
        elif word == "ready" and self._child.stage is not Stage.LOADED:
            self._child.stage = Stage.LOADED
            self._child.awake = self._child.connections
            if self._child.connections is not None:
                self._child.connections.heard()  # those who waited for it begin to wait for their answer
            self._tell({"status": "loaded"})

    def leases(self) -> int:
        """Requests inside the child now."""
        return self._child.connections.in_flight if self._child.connections is not None else 0

    def silence(self) -> float:
        """Seconds since the last sign of life of any answer; 0.0 when nothing is inside."""
        return self._child.connections.silence() if self._child.connections is not None else 0.0

    def close_connections(self) -> None:
        """Cut everything that runs between the router and the child."""
        if self._child.connections is not None:
            self._child.connections.close()

    def _tell(self, data: object) -> None:
        self._feed.tell(self._child.model, "status_change", data)
