"""`LLAMA_SERVER_DEBUG_FAKE_TIMING`: everything takes two seconds longer, so that a test can see what overlaps.

    each load: 2 s before its process is started        each relayed request: 2 s inside its model before it is sent

Test suites of clients set it, llama-server's own among them. These two stand in the places of the real ones where the
variable is set to anything; where it is not, nobody asks for it again.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping

from llamarouter.core.exits import Exit
from llamarouter.host.child_log import LogRing
from llamarouter.host.process import ChildObserver
from llamarouter.relay.switchboard import Ask, Lease, Outcome, Wait
from llamarouter.server.child import Child
from llamarouter.server.reception import Reception
from llamarouter.server.spawner import Spawner

VARIABLE = "LLAMA_SERVER_DEBUG_FAKE_TIMING"
_SECONDS = 2.0


def is_asked_for(environ: Mapping[str, str]) -> bool:
    return bool(environ.get(VARIABLE))


class SlowReception(Reception):
    """Never has a place at once; who gets one is counted as inside before he waits."""

    def lease_now(self, ask: Ask) -> Lease | None:
        """Nothing: the slow door asks `lease` then."""
        return None

    async def lease(self, ask: Ask, wait: Wait) -> Lease:
        """A place, two seconds after it was granted; who leaves meanwhile gives it back."""
        lease = await super().lease(ask, wait)
        try:
            await _pause()
        except asyncio.CancelledError:
            lease.end(Outcome(0, complete=False, client_left=True, tail=b""))
            raise
        return lease


class SlowSpawner(Spawner):
    """Starts a process two seconds after it was asked to."""

    async def live(self, child: Child, ring: LogRing, observer: ChildObserver) -> Exit:
        """Wait, then run the child until it is reaped."""
        await _pause()
        return await super().live(child, ring, observer)


async def _pause() -> None:
    await asyncio.sleep(_SECONDS)  # noqa: TID251 (to take time is all that it is for)
