"""The application: the route table, the guard in front of it, and the one place where errors become answers.

    door -> Guard (key, CORS) -> Starlette: control routes | relayed routes | the page | 404, 405

It is complete by itself: any ASGI server can run it; the fast lane only spares it the common case.
"""

from __future__ import annotations

from typing import Any

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Match, Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from llamarouter.core.errors import MethodNotAllowed, NotFound, RouterError, body_of, headers_of
from llamarouter.core.routes import RELAYED
from llamarouter.relay.asgi import RelayEndpoint
from llamarouter.server.answers import Json
from llamarouter.server.api import control_routes
from llamarouter.server.cors import answer_to_options, cors_headers
from llamarouter.server.node import Node

PUBLIC = frozenset({"/health", "/v1/health", "/livez", "/readyz", "/"})


def application(node: Node, *, trusted: bool) -> ASGIApp:
    """The whole application; `trusted`: it is reached by the admin socket only, so no key is asked for."""
    relayed = _relayed_routes(node, trusted)
    routes = [*relayed, *control_routes(node)]
    app = Starlette(
        routes=routes,
        exception_handlers={RouterError: _render, HTTPException: _render_http, Exception: _render_bug},
    )
    app.router.redirect_slashes = False
    app.router.default = node.page
    return Guard(app, node, trusted=trusted)


def _relayed_routes(node: Node, trusted: bool) -> list[Route]:
    routes = []
    for route in RELAYED:
        endpoint: Any = RelayEndpoint(node.reception, route, node.traffic, trusted=trusted)
        if route.path == "/props" and route.method == "GET":
            endpoint = _Props(node, endpoint)
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


class Guard:
    """Every route is closed without a key unless it is on the public list; every answer carries its CORS headers."""

    def __init__(self, app: ASGIApp, node: Node, *, trusted: bool) -> None:
        self._app = app
        self._node = node
        self._trusted = trusted

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return
        extra = cors_headers(_header(scope, b"origin"))

        async def send_with_cors(message: Message) -> None:
            if message["type"] == "http.response.start" and extra:
                message = {**message, "headers": [*message.get("headers", ()), *extra]}
            await send(message)

        if scope["method"] == "OPTIONS":
            await answer_to_options()(scope, receive, send_with_cors)
            return
        if not self._trusted and not self._public(scope["path"]):
            try:
                self._node.reception.authorize(_header(scope, b"authorization"), _header(scope, b"x-api-key"))
            except RouterError as error:
                await answer(error)(scope, receive, send_with_cors)
                return
        await self._app(scope, receive, send_with_cors)

    def _public(self, path: str) -> bool:
        return path in PUBLIC or self._node.page.is_asset(path)


def answer(error: RouterError) -> Response:
    """The answer that an error is."""
    response = Response(body_of(error), error.status)
    response.raw_headers = [*headers_of(error), (b"content-length", str(len(response.body)).encode())]
    return response


async def _render(request: Request, error: Exception) -> Response:
    assert isinstance(error, RouterError)
    return answer(error)


async def _render_http(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    if error.status_code == 405:
        allow = _allowed(request)
        message = f"{request.method} is not allowed here; allowed: {', '.join(allow)}"
        return answer(MethodNotAllowed(message, allow=allow))
    return answer(NotFound("File Not Found"))


async def _render_bug(request: Request, error: Exception) -> Response:
    return answer(RouterError("internal error; the router's log has the details"))


def _allowed(request: Request) -> tuple[str, ...]:
    """Every method that some route has for this path; a path may have a route for each of its methods."""
    methods: set[str] = set()
    for route in request.app.routes:
        if isinstance(route, Route) and route.matches(request.scope)[0] is not Match.NONE:
            methods |= route.methods or set()
    return tuple(sorted(methods))


def _header(scope: Scope, name: bytes) -> bytes | None:
    for key, value in scope["headers"]:
        if key == name:
            return bytes(value)
    return None
