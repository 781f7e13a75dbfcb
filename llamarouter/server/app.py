"""The application: the route table behind its guard, and the one place where errors become answers.

    door -> Guard (prefix, key, CORS) -> Starlette: control routes | relayed routes | the page | 404, 405

It is complete by itself: any ASGI server can run it; the fast lane only spares it the common case.
"""

from __future__ import annotations

from typing import Any

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Match, Route
from starlette.types import ASGIApp, Receive, Scope, Send

from llamarouter.core.errors import MethodNotAllowed, NotFound, RouterError
from llamarouter.core.routes import RELAYED
from llamarouter.relay.asgi import MAX_BODY, RelayEndpoint
from llamarouter.relay.call import Call
from llamarouter.relay.takeover import CALL
from llamarouter.server.answers import Json, answer
from llamarouter.server.api import control_routes
from llamarouter.server.guard import Guard
from llamarouter.server.metrics_api import Metrics
from llamarouter.server.node import Node


def application(node: Node, *, trusted: bool) -> ASGIApp:
    """The whole application; `trusted`: it is reached by the admin socket only: without a key, and without a prefix."""
    relayed = _relayed_routes(node, trusted)
    routes = [*relayed, *control_routes(node)]
    app = Starlette(
        routes=routes,
        exception_handlers={RouterError: _render, HTTPException: _render_http, Exception: _render_bug},
    )
    app.router.redirect_slashes = False
    app.router.default = node.page
    return Guard(app, node, routes, trusted=trusted)


def _relayed_routes(node: Node, trusted: bool) -> list[Route]:
    routes = []
    max_body = min(MAX_BODY, node.settings.queue_bytes)  # what could never wait is too large, not too much just now
    for route in RELAYED:
        endpoint: Any = RelayEndpoint(
            node.reception,
            route,
            node.traffic,
            node.streams,
            max_body=max_body,
            trusted=trusted,
            wait_comment=node.settings.wait_comment,
        )
        if route.path == "/props" and route.method == "GET":
            endpoint = _Props(node, endpoint)
        elif route.path == "/metrics":
            endpoint = Metrics(node, endpoint)
        routes.append(Route(route.path, endpoint, methods=[route.method]))
    return routes


class _Props:
    """`GET /props` is the router's own unless it names a model."""

    def __init__(self, node: Node, relayed: ASGIApp) -> None:
        self._node = node
        self._relayed = relayed

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if Request(scope).query_params.get("model"):
            await self._relayed(scope, receive, send)
        else:
            await Json(self._node.props())(scope, receive, send)


async def _render(request: Request, error: Exception) -> Response:
    assert isinstance(error, RouterError)
    _note(request, error)
    return answer(error)


def _note(request: Request, error: RouterError) -> None:
    """For the log: the word for what is wrong; without our guard in front nobody keeps one."""
    call: Call | None = request.scope.get(CALL)
    if call is not None:
        call.reason = error.reason


async def _render_http(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    if error.status_code == 405:
        allow = _allowed(request)
        message = f"{request.method} is not allowed here; allowed: {', '.join(allow)}"
        return await _render(request, MethodNotAllowed(message, allow=allow))
    return await _render(request, NotFound("File Not Found"))


async def _render_bug(request: Request, error: Exception) -> Response:
    bug = RouterError("internal error; the router's log has the details")
    _note(request, bug)
    return answer(bug)


def _allowed(request: Request) -> tuple[str, ...]:
    """Every method that some route has for this path; a path may have a route for each of its methods."""
    methods: set[str] = set()
    for route in request.app.routes:
        if isinstance(route, Route) and route.matches(request.scope)[0] is not Match.NONE:
            methods |= route.methods or set()
    return tuple(sorted(methods))
