"""What a door is told by the server that opens it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from llamarouter.core.door_limits import DoorLimits
from llamarouter.core.hosts import Hosts
from llamarouter.core.wire import Headers
from llamarouter.relay.traffic import Traffic


@dataclass(frozen=True, slots=True)
class DoorOptions:
    """`extra_headers`: whole header lines, each with its CRLF, for an answer to a request with these headers.

    `prefix`: what every path begins with at the door, and at no child. `wait_comment`: as of `RelayEndpoint`.
    """

    traffic: Traffic
    extra_headers: Callable[[Headers], bytes] | None = None
    prefix: str = ""
    wait_comment: float = 0.0
    limits: DoorLimits = DoorLimits()  # noqa: RUF009 (frozen)
    names: Hosts = Hosts(())  # noqa: RUF009 (frozen)
