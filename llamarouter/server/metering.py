"""A place that is counted: what a key with limits holds, from the moment that it has it to the end of the answer."""

from __future__ import annotations

from llamarouter.core.errors import RouterError
from llamarouter.core.rate import Meter
from llamarouter.core.tokens import tokens_taken
from llamarouter.relay.connections import ChildConnections
from llamarouter.relay.switchboard import Lease, Outcome
from llamarouter.server.gate import Gate


class MeteredLease:
    """A lease around another, of a request that has entered `meter`."""

    __slots__ = ("_body_bytes", "_ended", "_gate", "_lease", "_meter", "connections")

    def __init__(self, lease: Lease, meter: Meter, body_bytes: int, gate: Gate) -> None:
        self.connections: ChildConnections = lease.connections
        self._lease = lease
        self._meter = meter
        self._body_bytes = body_bytes
        self._gate = gate
        self._ended = False

    def end(self, outcome: Outcome) -> None:
        """Give the place back, and count what it took."""
        if not self._ended:
            self._ended = True
            tokens = 0
            # What needs no slot computes nothing; neither does what is refused, or never came so far as to be.
            if self._body_bytes and (outcome.status == 200 or outcome.client_left):
                tokens = tokens_taken(outcome.tail, outcome.head, outcome.events, self._body_bytes).total
                self._gate.spent()
            self._meter.leave(tokens, self._gate.date())
        self._lease.end(outcome)

    async def failure(self) -> RouterError:
        """Why the child broke the connection."""
        return await self._lease.failure()
