"""The ways in: how uvicorn runs the application behind the fast lane, and behind the admin socket."""

from __future__ import annotations

import ssl

import uvicorn

from llamarouter.relay.door_options import DoorOptions
from llamarouter.relay.fast_lane import fast_lane
from llamarouter.server.app import application
from llamarouter.server.node import Node

# Longer than nginx's 60 s, so that nginx closes idle connections first and never races with us.
_KEEP_ALIVE = 75
# How long uvicorn waits for answers that still run when all children have gone.
_LAST_ANSWERS = 5
# As llama-server says it: some clients look there for what they talk to.
_SERVER = "llama.cpp"


def public_door(node: Node, tls: ssl.SSLContext | None = None) -> uvicorn.Config:
    """For addresses of `--host`: the fast lane in front of the application, within TLS where there is a context."""
    settings = node.settings
    options = DoorOptions(node.traffic, settings.cors.lines_for, settings.api_prefix, settings.wait_comment)
    return _config(application(node, trusted=False), fast_lane(node.reception, options), tls)


def admin_door(node: Node) -> uvicorn.Config:
    """For the socket in the runtime folder, which only the router's own user reaches."""
    return _config(application(node, trusted=True), "httptools")


def _config(app: object, protocol: object, tls: ssl.SSLContext | None = None) -> uvicorn.Config:
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
        timeout_keep_alive=_KEEP_ALIVE,
        timeout_graceful_shutdown=_LAST_ANSWERS,
    )
