"""The ways in: how uvicorn runs the application behind the fast lane, and behind the admin socket."""

from __future__ import annotations

import ssl

import uvicorn

from llamarouter.core.door_limits import DoorLimits
from llamarouter.relay.door_options import DoorOptions
from llamarouter.relay.fast_lane import fast_lane
from llamarouter.server.app import application
from llamarouter.server.node import Node

# How long uvicorn waits for answers that still run when all children have gone.
_LAST_ANSWERS = 5
# As llama-server says it: some clients look there for what they talk to.
_SERVER = "llama.cpp"


def public_door(node: Node, tls: ssl.SSLContext | None = None) -> uvicorn.Config:
    """For addresses of `--host`: the fast lane in front of the application, within TLS where there is a context."""
    settings = node.settings
    options = DoorOptions(
        traffic=node.traffic,
        extra_headers=lambda headers: node.cors.lines_for(headers),
        prefix=settings.api_prefix,
        wait_comment=settings.wait_comment,
        limits=settings.limits,
        names=settings.names,
    )
    keep_alive = settings.limits.keepalive_timeout
    return _config(application(node, trusted=False), fast_lane(node.reception, options), keep_alive, tls)


def admin_door(node: Node) -> uvicorn.Config:
    """For the socket in the runtime folder, which only the router's own user reaches."""
    return _config(application(node, trusted=True), "httptools", DoorLimits().keepalive_timeout)


def _config(app: object, protocol: object, keep_alive: float, tls: ssl.SSLContext | None = None) -> uvicorn.Config:
    return uvicorn.Config(
        app,  # type: ignore[arg-type]
        http=protocol,  # type: ignore[arg-type]
        ssl_context_factory=None if tls is None else lambda *_: tls,
        ws="none",
        lifespan="off",
        log_config=None,
        access_log=False,
        proxy_headers=False,
        server_header=False,
        headers=[("server", _SERVER)],
        timeout_keep_alive=keep_alive,  # type: ignore[arg-type]  # it takes fractions as well
        timeout_graceful_shutdown=_LAST_ANSWERS,
    )
