"""The warden: after a crash it looks who was inside, and has a request that was alone there kept out."""

from __future__ import annotations

import asyncio

from llamarouter.core.causes import Cause
from llamarouter.core.exits import Exit
from llamarouter.core.log_words import tells_of_memory
from llamarouter.core.quarantine import Quarantine
from llamarouter.relay.traffic import Traffic
from llamarouter.server.child import Child


class Warden:
    """One for the whole router."""

    def __init__(self, quarantine: Quarantine, traffic: Traffic) -> None:
        self._quarantine = quarantine
        self._traffic = traffic
        self._clock = asyncio.get_running_loop().time

    def failed(self, child: Child, end: Exit) -> None:
        """A child has ended unasked; what was inside is still there to be seen."""
        if end.cause is not Cause.SIGNAL or child.connections is None:
            return
        if tells_of_memory(end.last_words):  # it crashed over what it did not get: with more free it may not
            return
        inside = [exchange for exchange in self._traffic.running() if exchange.connections is child.connections]
        if len(inside) == 1 and inside[0].request.body:
            (alone,) = inside
            self._quarantine.crashed(child.model, alone.target, alone.request.body, end.signal or "", self._clock())
