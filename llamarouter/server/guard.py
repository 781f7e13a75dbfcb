"""The guard in front of the application: the prefix comes off, OPTIONS is answered, a key is asked for, and its rights.

Every path is closed without a key unless it is on the public list or an asset of the page; what has a route never is
one, whatever the page's files are called. What a key may do stands in `core.key_rules`; whose request it is stands in
the scope from here on (`access_of`). Every answer carries its CORS headers and the id of its request, and what the
relay does not answer is noted in the journal here. Behind the guard nobody knows of a prefix: not the routes, not the
page, and no child.

`GET /lr/auth` is for a proxy that holds a request back until it knows whether it may go on (nginx: `auth_request`). It
is let in as that request would be, which `X-Original-Method` and `X-Original-URI` name; without them, as any key is.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from urllib.parse import unquote

from starlette.responses import Response
from starlette.routing import Match, Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from llamarouter.core.access import OPEN, OPERATOR, Access
from llamarouter.core.errors import Forbidden, NotFound, RouterError
from llamarouter.core.key_rules import AUTH, PUBLIC, Right, needs_admin, reads_metrics_only, right_of
from llamarouter.core.origins import check_origin
from llamarouter.core.wire import header_of
from llamarouter.relay.call import REQUEST_ID, Call
from llamarouter.relay.takeover import call_of
from llamarouter.server.answers import ACCESS, BODIES, answer
from llamarouter.server.node import Node

# What a proxy may have made another path of: nginx merges slashes, takes `.` and `..` out, and leaves a fragment away.
_DOUBTFUL = re.compile(r"//|/\.\.?(?:/|$)")


class Guard:
    """An ASGI application in front of another; `trusted`: it is reached in a way that needs neither key nor prefix."""

    def __init__(self, app: ASGIApp, node: Node, routes: Iterable[Route], *, trusted: bool) -> None:
        self._app = app
        self._routes = tuple(routes)
        self._node = node
        self._journal = node.traffic.journal
        self._trusted = trusted
        self._prefix = "" if trusted else node.settings.api_prefix
        self._names = node.settings.names

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return
        call = call_of(scope, self._journal)
        extra = [*self._node.cors.headers_for(header_of(scope["headers"], b"origin")), (REQUEST_ID, call.id)]

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                message = {**message, "headers": [*message.get("headers", ()), *extra]}
                call.status = call.status or message["status"]
            elif call.outcome is None:  # else the exchange has counted
                call.bytes_out += len(message.get("body", b""))
                call.whole = not message.get("more_body", False)
            await send(message)

        try:
            await self._answer(scope, receive, send_with_headers, call)
        finally:
            if not call.relayed:
                self._journal.answered(call)

    async def _answer(self, scope: Scope, receive: Receive, send: Send, call: Call) -> None:
        if scope["method"] == "OPTIONS":
            await self._answer_to_options()(scope, receive, send)
            return
        try:
            inner = self._let_in(scope, call)
        except RouterError as error:
            call.reason = error.reason
            await answer(error)(scope, receive, send)
            return
        if not inner["path"]:
            await _to_folder(scope)(scope, receive, send)
            return
        if (route := self._route_of(inner)) is not None:
            call.path = route.path
        await self._app({**inner, ACCESS: call.access, BODIES: self._node.traffic.bodies}, receive, send)

    def _route_of(self, inner: Scope) -> Route | None:
        return next((route for route in self._routes if route.matches(inner)[0] is Match.FULL), None)

    def _let_in(self, scope: Scope, call: Call) -> Scope:
        """The request as it is behind the guard; `call` is told whose it is. Raises `RouterError`."""
        headers = scope["headers"]
        if not self._trusted:
            self._names.check(scope.get("server"), header_of(headers, b"host"))
        inner = self._inner(scope)
        asked = inner if inner is None or inner["path"] != AUTH else self._held_back(inner)
        access = OPERATOR
        if not self._trusted and (asked is None or not self._public(asked)):
            gate = self._node.reception.gate
            access = gate.authorize(header_of(headers, b"authorization"), header_of(headers, b"x-api-key"))
        call.access = access
        if inner is None:
            raise NotFound("File Not Found")
        if asked is None:
            raise Forbidden("no path of this router")
        if not access.admin or (access is OPEN and header_of(headers, b"origin") is not None):
            self._check_right(asked, access)
        return inner

    def _held_back(self, inner: Scope) -> Scope | None:
        """The request that `/lr/auth` is asked about, without the prefix; None where it is not for this router."""
        headers = inner["headers"]
        said = [value for name, value in headers if name in (b"x-original-uri", b"x-original-method")]
        target = header_of(headers, b"x-original-uri")
        if target is None:
            return inner
        if len(said) > 2 or not target.startswith(b"/"):  # who says it twice may mean the other one
            return None
        raw, _, query = target.partition(b"?")
        method = header_of(headers, b"x-original-method") or b"GET"
        path = unquote(raw.decode("latin-1"))  # as uvicorn reads a target
        if _DOUBTFUL.search(path) or b"#" in raw:
            return None
        told = {"method": method.decode("latin-1"), "path": path, "raw_path": raw, "query_string": query}
        return self._inner({**inner, **told})

    def _inner(self, scope: Scope) -> Scope | None:
        """The request without the prefix; None where it has another. Its path is empty where it is the prefix alone."""
        prefix = self._prefix
        if not prefix:
            return scope
        # The prefix is compared as it came: what reads like it only when it is decoded would go on to a child.
        raw: bytes = scope.get("raw_path") or scope["path"].encode()
        rest = raw.removeprefix(prefix.encode())
        if len(rest) == len(raw) or rest[:1] not in (b"/", b""):
            return None
        return {**scope, "path": scope["path"][len(prefix) :], "raw_path": rest}

    def _public(self, inner: Scope) -> bool:
        path = inner["path"]
        if path in PUBLIC or not path or inner["method"] == "OPTIONS":
            return True
        return self._node.page.is_asset(path) and all(route.matches(inner)[0] is Match.NONE for route in self._routes)

    def _check_right(self, inner: Scope, access: Access) -> None:
        """Raise `Forbidden` where the route is not for somebody who uses models, or who comes by a stranger's page.

        What has no route has no secret.
        """
        route = self._route_of(inner)
        if route is None:
            return
        right = right_of(inner["method"], route.path)
        if right is Right.USE and access.metrics_only:
            raise reads_metrics_only()
        if right in (Right.ADMIN, Right.METRICS):
            if not access.admin and not (right is Right.METRICS and access.metrics_only):
                raise needs_admin()
            check_origin(inner["headers"], self._node.settings.cors)

    def _answer_to_options(self) -> Response:
        response = Response(headers={"content-type": "text/html"})  # there is no text to have a character set
        response.raw_headers += self._node.cors.preflight_headers()
        return response


def _to_folder(scope: Scope) -> Response:
    """The page's links are relative: they need the slash behind the prefix."""
    raw: bytes = scope.get("raw_path") or scope["path"].encode()
    query = scope["query_string"]
    location = raw + b"/" + (b"?" + query if query else b"")
    return Response(status_code=308, headers={"location": location.decode("latin-1")})
