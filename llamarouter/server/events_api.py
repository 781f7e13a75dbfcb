"""`GET /models/sse`: the feed, as llama-server's router sends it, and more for those who ask.

?ids=1          each record has an `id:`; a reader that comes back with `Last-Event-ID` is told what it missed
?snapshot=1     first the state of every model, as records, then `snapshot_complete`
?ping=SECONDS   a comment after so many seconds of silence
"""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import Response

from llamarouter.core.access import Access
from llamarouter.core.errors import BadRequest
from llamarouter.server.answers import access_of, streamed
from llamarouter.server.feed import Wish
from llamarouter.server.gate import Gate
from llamarouter.server.node import Node
from llamarouter.server.snapshot import snapshot_of

_LONGEST_PING = 3600.0
_YES = frozenset({"1", "true"})


class EventsApi:
    """The handler of the feed."""

    def __init__(self, node: Node) -> None:
        self._node = node

    async def read(self, request: Request) -> Response:
        node = self._node
        who = _Reader(access_of(request), node.reception.gate)
        return streamed(request, node.feed.read(wish_of(request), lambda: snapshot_of(node), who), "text/event-stream")


class _Reader:
    """Somebody with a key: he hears of its models, until the key is none any more."""

    def __init__(self, access: Access, gate: Gate) -> None:
        self._access = access
        self._gate = gate

    def sees(self, model: str) -> bool:
        return self._gate.now(self._access).sees(model)

    def stands(self) -> bool:
        return self._gate.stands(self._access)


def wish_of(request: Request) -> Wish:
    """How the client wants to read. Raises `BadRequest`."""
    query, after = request.query_params, request.headers.get("last-event-id")
    return Wish(
        ids=after is not None or query.get("ids") in _YES,
        snapshot=query.get("snapshot") in _YES,
        after=after,
        ping=_ping_of(query.get("ping")),
    )


def _ping_of(text: str | None) -> float | None:
    if not text:
        return None
    try:
        seconds = float(text)
    except ValueError:
        seconds = 0.0
    if not 1.0 <= seconds <= _LONGEST_PING:
        raise BadRequest(f"ping: a number of seconds from 1 to {_LONGEST_PING:g} is needed")
    return seconds
