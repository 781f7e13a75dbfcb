"""A place that is counted: what a key with limits holds, from the moment that it has it to the end of the answer."""

from __future__ import annotations

from msgspec import Struct

from llamarouter.core.errors import RouterError
from llamarouter.core.rate import Meter
from llamarouter.core.tokens import tokens_taken
from llamarouter.relay.connections import ChildConnections
from llamarouter.relay.switchboard import Lease, Outcome
from llamarouter.server.gate import Gate


class MeteredLease(Struct, eq=False):
    """A lease around another, of a request that has entered `meter`. `body_bytes`: 0 where it computes nothing."""

    lease: Lease
    connections: ChildConnections
    meter: Meter
    body_bytes: int
    gate: Gate
    ended: bool = False

    def end(self, outcome: Outcome) -> None:
        """Give the place back, and count what it took."""
        if not self.ended:
            self.ended = True
            tokens = 0
            # What needs no slot computes nothing; neither does what is refused, or never came so far as to be.
            if self.body_bytes and (outcome.status == 200 or outcome.client_left):
                tokens = tokens_taken(outcome.tail, outcome.head, outcome.events, self.body_bytes).total
                self.gate.spent()
            self.meter.leave(tokens, self.gate.date())
        self.lease.end(outcome)

    async def failure(self) -> RouterError:
        """Why the child broke the connection."""
        return await self.lease.failure()
