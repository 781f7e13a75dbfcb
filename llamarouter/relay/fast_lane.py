"""The fast lane put in place of uvicorn's own protocol, if this uvicorn has the seam that it needs."""

from __future__ import annotations

import asyncio
import logging

import uvicorn
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from llamarouter.core.key_rules import Right, right_of
from llamarouter.core.routes import Route, fast_routes
from llamarouter.relay.crowd import Crowd
from llamarouter.relay.door import Door
from llamarouter.relay.door_options import DoorOptions
from llamarouter.relay.switchboard import Switchboard


def fast_lane(switchboard: Switchboard, options: DoorOptions) -> type[asyncio.Protocol]:
    """The protocol class for `uvicorn.Config(http=...)`.

    With a uvicorn whose seam is not the one that is known here, uvicorn's own protocol: slower, and without the limits
    of the door.
    """
    if not uvicorn.__version__.startswith("0.54."):
        logging.getLogger(__name__).warning(
            "uvicorn %s is not 0.54: the fast lane is off, and with it deadlines, caps and the checks of framing;"
            " let only a proxy such as nginx reach this router",
            uvicorn.__version__,
        )
        return HttpToolsProtocol
    known = {"switchboard": switchboard, "options": options, "routes": _for_all(options.prefix), "crowd": Crowd()}
    return type("FastLane", (Door,), known)


def _for_all(prefix: str) -> dict[bytes, Route]:
    """The routes for every key: what is for administrators has time to go the slow way, where rights are looked at."""
    return {target: route for target, route in fast_routes(prefix).items() if right_of("POST", route.path) is Right.USE}
