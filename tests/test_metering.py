"""A place that is counted: once, whatever way it ends, and for what was computed."""

from __future__ import annotations

import asyncio

import pytest

from llamarouter.core.errors import ModelCrashed, RouterError
from llamarouter.core.keys import Limits
from llamarouter.core.rate import Meter
from llamarouter.relay.connections import ChildConnections
from llamarouter.relay.switchboard import Outcome
from llamarouter.server.gate import Gate
from llamarouter.server.metering import MeteredLease

pytestmark = pytest.mark.anyio

SAID = b'{"usage":{"prompt_tokens":3,"completion_tokens":4}}'


class Place:
    """A lease that remembers how often it ended."""

    def __init__(self) -> None:
        self.connections = ChildConnections("/nowhere.sock", clock=asyncio.get_running_loop().time)
        self.ends: list[Outcome] = []

    def end(self, outcome: Outcome) -> None:
        self.ends.append(outcome)

    async def failure(self) -> RouterError:
        return ModelCrashed("crashed")


@pytest.mark.parametrize(
    ("outcome", "body_bytes", "tokens"),
    [
        (Outcome(200, True, False, SAID), 40, 7),
        (Outcome(200, True, False, SAID), 0, 0),  # it needs no slot
        (Outcome(400, True, False, SAID), 40, 0),
        (Outcome(0, False, False, b""), 40, 0),  # its model died, or it was never sent
        (Outcome(0, False, True, b""), 40, 10),  # its client left before the first byte: somebody computed
        (Outcome(200, False, False, b"data: x", events=5), 40, 15),
    ],
)
async def test_each_request_is_counted_once_by_what_it_took(outcome: Outcome, body_bytes: int, tokens: int) -> None:
    gate, meter, place = Gate((), None, lambda: 1000.0), Meter(Limits(concurrent=1)), Place()
    meter.enter(0.0, 1000.0)
    lease = MeteredLease(place, place.connections, meter, body_bytes, gate)
    assert lease.connections is place.connections
    for _ in range(2):
        lease.end(outcome)
    assert (meter.inside, meter.tokens(1000.0)) == (0, tokens)
    assert place.ends == [outcome, outcome]
    assert (await lease.failure()).message == "crashed"
