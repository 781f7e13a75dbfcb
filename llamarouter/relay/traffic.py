"""Every request that is being relayed now: counted, and at the end of the router cut where nobody hears it.

uvicorn does not know these requests (they are in none of its tasks), so whoever shuts the server down asks here.
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import TYPE_CHECKING, Any

from llamarouter.core.errors import RouterError
from llamarouter.relay.body_budget import BodyBudget
from llamarouter.relay.journal import Journal

if TYPE_CHECKING:
    from llamarouter.relay.exchange import Exchange


class Traffic:
    """One for the whole router; both doors and all exchanges share it."""

    def __init__(self, bodies: BodyBudget | None = None) -> None:
        self.bodies = bodies or BodyBudget()
        self.journal = Journal()
        self.closing = False
        self.inside: set[Exchange] = set()  # children now: each puts itself in, and out
        self._tasks: set[asyncio.Task[None]] = set()

    @property
    def count(self) -> int:
        """Requests inside children now."""
        return len(self.inside)

    def running(self) -> tuple[Exchange, ...]:
        """What is being relayed now."""
        return tuple(self.inside)

    def spawn(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        """Run what an exchange must wait for, outside of it; the exchange cancels it if it ends earlier."""
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    def close(self, error: RouterError) -> None:
        """The router goes: from now on nobody can come back for an answer. End what nobody hears already."""
        self.closing = True
        for exchange in self.running():
            if exchange.unattended:
                exchange.cut(error)
