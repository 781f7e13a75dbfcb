"""The fast lane put in place of uvicorn's own protocol, if this uvicorn has the seam that it needs."""

from __future__ import annotations

import asyncio
import logging

import uvicorn
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from llamarouter.core.routes import fast_routes
from llamarouter.relay.door import Door
from llamarouter.relay.door_options import DoorOptions
from llamarouter.relay.switchboard import Switchboard


def fast_lane(switchboard: Switchboard, options: DoorOptions) -> type[asyncio.Protocol]:
    """The protocol class for `uvicorn.Config(http=...)`.

    With a uvicorn whose seam is not the one that is known here, uvicorn's own protocol: slower, and all else works.
    """
    if not uvicorn.__version__.startswith("0.54."):
        logging.getLogger(__name__).warning("uvicorn %s is not 0.54: the fast lane is off", uvicorn.__version__)
        return HttpToolsProtocol
    known = {"switchboard": switchboard, "options": options, "routes": fast_routes(options.prefix)}
    return type("FastLane", (Door,), known)
