"""Answers that go on without their client: how a conversation is stopped.

A request with `X-Conversation-Id` is not cancelled when its client leaves: the child makes its answer to the end, and
its lease lasts as long. So the web page's stop button asks for the end by the id. Every child that is ready is told,
for only one knows the id, and it is no harm to the others. An answer cannot be taken up again here yet, so none is
ever found.
"""

from __future__ import annotations

import asyncio
from urllib.parse import quote

from starlette.requests import Request
from starlette.responses import Response

from llamarouter.core.errors import BadRequest
from llamarouter.host.probe import ProbeError, ask
from llamarouter.host.process import ReadyChild
from llamarouter.server.supervisor import Supervisor

_WITHIN = 2.0  # seconds for a child to confirm


class Streams:
    """The handlers of `/v1/stream` and `/v1/streams/lookup`."""

    def __init__(self, supervisor: Supervisor) -> None:
        self._supervisor = supervisor

    async def cancel(self, request: Request) -> Response:
        """`DELETE /v1/stream?conv_id=ID`: 204, whether or not there was something to stop."""
        conversation = request.query_params.get("conv_id")
        if not conversation:
            raise BadRequest("Missing conversation id in path")
        path = f"/v1/stream?conv_id={quote(conversation, safe='')}"
        ready = [child.ready for child in self._supervisor.children.values() if child.ready is not None]
        await asyncio.gather(*(_delete(child, path) for child in ready))
        return Response(status_code=204)

    async def lookup(self, request: Request) -> Response:
        """`POST /v1/streams/lookup`: no answer can be resumed."""
        return Response(b"[]", media_type="application/json; charset=utf-8")


async def _delete(child: ReadyChild, path: str) -> None:
    try:
        await ask("DELETE", child.address, path, api_key=child.api_key, seconds=_WITHIN)
    except ProbeError:
        return  # it is going, or does not listen: its requests end another way
