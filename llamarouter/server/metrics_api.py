"""`GET /metrics`: the router's own where no model is named, else that model's, relayed."""

from __future__ import annotations

import types
from collections.abc import Generator

from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send

from llamarouter.core.exposition import wants_open_metrics
from llamarouter.server import scrape
from llamarouter.server.node import Node


class Metrics:
    """An ASGI application. `relayed`: that of the route to a child."""

    def __init__(self, node: Node, relayed: ASGIApp) -> None:
        self._node = node
        self._relayed = relayed

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        request = Request(scope)
        if request.query_params.get("model"):
            await self._relayed(scope, receive, send)
            return
        page = scrape.page_of(self._node, open_metrics=wants_open_metrics(request.headers.get("accept", "")))
        for _ in page.write():
            await _others_turn()
        pieces = page.pieces()
        # A Prometheus that follows a changed rule must not be shown what a proxy has kept.
        headers = {"content-type": page.content_type, "cache-control": "no-store"}
        headers["content-length"] = str(sum(map(len, pieces)))
        start = Response(headers=headers)
        await send({"type": "http.response.start", "status": 200, "headers": start.raw_headers})
        for piece in pieces:
            await send({"type": "http.response.body", "body": piece, "more_body": True})
        await send({"type": "http.response.body", "body": b""})


@types.coroutine
def _others_turn() -> Generator[None]:
    """Everything that is ready to run has its turn; nobody waits for a while."""
    yield
