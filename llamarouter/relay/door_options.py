"""What a door is told by the server that opens it."""

from __future__ import annotations

from collections.abc import Callable

from msgspec import Struct

from llamarouter.core.door_limits import DoorLimits
from llamarouter.core.hosts import Hosts
from llamarouter.core.wire import Headers
from llamarouter.relay.traffic import Traffic


class DoorOptions(Struct, frozen=True):
    """`extra_headers`: whole header lines, each with its CRLF, for an answer to a request with these headers.

    `prefix`: what every path begins with at the door, and at no child. `wait_comment`: as of `RelayEndpoint`.
    """

    traffic: Traffic
    extra_headers: Callable[[Headers], bytes] | None = None
    prefix: str = ""
    wait_comment: float = 0.0
    limits: DoorLimits = DoorLimits()
    names: Hosts = Hosts(())
