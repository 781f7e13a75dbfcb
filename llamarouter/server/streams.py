"""Answers that outlive their client: who gives one, how it is taken up again, and how it is stopped.

    POST with X-Conversation-Id    begin: remembered before the model is loaded; end: kept for as long as the child does
    GET /v1/stream                 relayed from the child that has it, also while that sleeps; 503 while it loads
    POST /v1/streams/lookup        asked of the children that have some of the ids
    DELETE /v1/stream              leaves the queue, or is told to the child, once that knows of it

Everything here knows conversations by the ids that the children know (see `core.conversation_ids`).
"""

from __future__ import annotations

import asyncio
import secrets
from collections import defaultdict
from typing import Any
from urllib.parse import parse_qs, quote

import msgspec
from starlette.requests import Request as HttpRequest
from starlette.responses import Response

from llamarouter.core.conversation_ids import Marks, id_of
from llamarouter.core.conversations import Conversations, place_in
from llamarouter.core.errors import BadRequest, InvalidJson, NotFound, RouterError, Unavailable
from llamarouter.core.residents import Phase
from llamarouter.core.wire import Headers, header_of
from llamarouter.host.probe import ProbeError, ask
from llamarouter.relay.connections import ChildConnections
from llamarouter.relay.detached import Detached, Stage
from llamarouter.relay.exchange import Request
from llamarouter.relay.switchboard import Lease, Outcome
from llamarouter.server.answers import Json, object_of
from llamarouter.server.child import Child
from llamarouter.server.child import Stage as ChildStage
from llamarouter.server.reception import Reception
from llamarouter.server.supervisor import Supervisor

_WITHIN = 2.0  # seconds for a child to answer
# Between two times that a child is told to stop what it may not know yet (seconds).
_FIRST_PAUSE, _LONGEST_PAUSE = 0.02, 0.5
_MOST_GUESTS = 8  # readers that are inside a child without a place of their own


class Streams:
    """The conversations of the router, and the handlers of `/v1/stream` and `/v1/streams/lookup`."""

    def __init__(self, supervisor: Supervisor, reception: Reception) -> None:
        self._supervisor = supervisor
        self._reception = reception
        self._known: Conversations[Detached] = Conversations()
        self._marks = Marks(secrets.token_bytes(32))
        self._loop = asyncio.get_running_loop()
        self._clock = self._loop.time
        self._stopping: dict[str, asyncio.Task[None]] = {}  # by conversation: a request that was inside its child
        self._guests = 0

    # --- for the relay: what is said about requests -------------------------------------------------------------------

    def name_of(self, headers: Headers) -> str | None:
        """The conversation that a request belongs to, as its child is to know it; of several, the last one counts."""
        values = [value for name, value in headers if name == b"x-conversation-id"]
        conversation = id_of(values[-1]) if values else None
        return None if conversation is None else self._marks.marked(conversation, self._key_of(headers))

    def begin(self, detached: Detached) -> None:
        """It answers its conversation now. One before it that runs in the same model, or for nobody, is stopped."""
        model = self._reception.model_of(detached.ask)
        if model is None and self._known.find(detached.conversation, self._clock()) is not None:
            return  # what is refused, as this will most likely be, takes nobody's place
        former = self._known.begin(detached.conversation, detached, self._clock())
        if former is None or former.stage is Stage.OVER:
            return
        same = self._reception.model_of(former.ask) == model
        if same or former.stage is Stage.WAITING or former.unheard:
            self._stop(former)

    async def until_free(self, conversation: str) -> None:
        """Return when no request of a conversation is being stopped."""
        while (stopping := self._stopping.get(conversation)) is not None:
            await asyncio.wait([stopping])

    def ended(self, detached: Detached) -> None:
        """It is complete: the child keeps it for a while."""
        self._known.ended(detached.conversation, detached, self._clock())

    def refused(self, detached: Detached) -> None:
        """It has no answer."""
        self._known.drop(detached.conversation, detached)

    async def stop_unheard(self) -> None:
        """The router goes, nobody can come back: a child that makes an answer for nobody would not end by itself."""
        for each in self._known.requests():
            if each.unheard:
                self._stop(each)
        if self._stopping:
            await asyncio.wait(self._stopping.values(), timeout=_WITHIN)

    # --- the routes ---------------------------------------------------------------------------------------------------

    def open(self, method: bytes, headers: Headers, query: bytes) -> tuple[Request, Lease, bytes]:
        """`GET /v1/stream?conv_id=ID&from=N`: what to ask which child, and what of the router's own comments goes
        before its answer. Raises `RouterError`.
        """
        asked = parse_qs(query.decode("latin-1"))
        conversation = self._marks.marked(_conversation_of(asked), self._key_of(headers))
        detached = self._known.find(conversation, self._clock())
        child = None if detached is None else self._home_of(detached)
        if detached is None or (child is None and detached.stage is not Stage.WAITING):
            raise NotFound("Stream not found or expired")
        if child is None or self._wakes_for(detached, child):
            raise Unavailable(self._why_not_yet(detached), retry_after=2)
        target = f"/v1/stream?conv_id={quote(conversation, safe='')}"
        at, before = place_in(asked.get("from", ["0"])[-1], detached.comments)
        if "from" in asked:
            target += f"&from={quote(at, safe='')}"
        headers = [each for each in headers if each[0] != b"x-conversation-id"]
        request = Request.of(method, target.encode(), headers, b"", detached.dialect)
        return request, self._lease(detached, child), before

    async def cancel(self, request: HttpRequest) -> Response:
        """`DELETE /v1/stream?conv_id=ID`: 204, whether or not there was something to stop."""
        conversation = _conversation_of(parse_qs(request.scope["query_string"].decode("latin-1")))
        marked = self._marks.marked(conversation, self._key_of(request.scope["headers"]))
        if (detached := self._known.forget(marked)) is not None:
            self._stop(detached)
        if (stopping := self._stopping.get(marked)) is not None:
            await asyncio.wait([stopping], timeout=_WITHIN)
        return Response(status_code=204, media_type="application/json")

    async def lookup(self, request: HttpRequest) -> Response:
        """`POST /v1/streams/lookup {"conversation_ids": [...]}`: what is known of these; nothing of a bad body."""
        key = self._key_of(request.scope["headers"])
        homes: defaultdict[Child, dict[str, None]] = defaultdict(dict)
        for conversation in await _asked_in(request):
            marked = self._marks.marked(conversation, key)
            detached = self._known.find(marked, self._clock())
            child = None if detached is None else self._home_of(detached)
            if child is not None:
                homes[child][marked] = None
        answers = await asyncio.gather(*(_look_up(child, list(ids)) for child, ids in homes.items()))
        found = []
        for entry in (entry for answer in answers for entry in answer):
            bare = self._marks.bare(str(entry.get("conversation_id")), key)
            if bare is not None:
                found.append({**entry, "conversation_id": bare})
        return Json(found)

    # --- inside -------------------------------------------------------------------------------------------------------

    def _stop(self, detached: Detached) -> None:
        """Take a request out of the queue, or have it ended, and what its child keeps of it."""
        if detached.stage is Stage.WAITING:
            detached.cancel(BadRequest("request cancelled by a stop while the model was loading"))
            return
        error = BadRequest("request cancelled by a stop")
        detached.hush(error)
        stopping = self._loop.create_task(self._stop_inside(detached, error))
        self._stopping[detached.conversation] = stopping
        stopping.add_done_callback(lambda _: self._stopping.pop(detached.conversation))

    async def _stop_inside(self, detached: Detached, error: RouterError) -> None:
        """Tell the child as soon as it knows of the request: one that wakes up, or has not read it to its end, has
        nothing to stop, and would make the answer for nobody. Till then its place is taken.

        The end of the connection is needed as well: of an answer that is not streamed, or not begun, it is all that
        llama-server heeds.
        """
        conversation, pause = detached.conversation, _FIRST_PAUSE
        while (child := self._home_of(detached)) is not None:
            if detached.begun or await _knows(child, conversation):
                await _tell(child, "DELETE", f"/v1/stream?conv_id={quote(conversation, safe='')}")
                break
            await detached.until_over(pause)
            pause = min(2 * pause, _LONGEST_PAUSE)
        detached.cancel(error)

    def _key_of(self, headers: Headers) -> bytes:
        return self._reception.gate.owner_of(header_of(headers, b"authorization"), header_of(headers, b"x-api-key"))

    def _home_of(self, detached: Detached) -> Child | None:
        """The child that a request went into, if it lives."""
        if detached.connections is None:
            return None
        living = self._supervisor.children.values()
        return next((child for child in living if child.connections is detached.connections), None)

    def _wakes_for(self, detached: Detached, child: Child) -> bool:
        """Whether a request waits inside a child that sleeps, or loads again: that knows nothing of it yet."""
        return detached.stage is Stage.INSIDE and child.stage is not ChildStage.LOADED

    def _why_not_yet(self, detached: Detached) -> str:
        phase = self._supervisor.scheduler.phase_of(self._reception.model_of(detached.ask) or "")
        if detached.stage is Stage.WAITING and phase is Phase.READY:
            return "The request of this stream waits for its turn, retry later"
        return "Stream owner model is loading, retry later"

    def _lease(self, detached: Detached, child: Child) -> Lease:
        """A place for a reader. Where there is none, it is a guest of the answer that it reads, while that runs."""
        lease = self._supervisor.lease_now(child.model, False, asleep=True)  # none, too, where the model is to go
        if lease is not None:
            return lease
        if detached.stage is not Stage.INSIDE or self._guests >= _MOST_GUESTS:
            raise Unavailable("the model is busy, retry later", retry_after=2)
        assert child.connections is not None
        return _Guest(self, child, child.connections)

    def guest(self, number: int) -> None:
        """So many guests more, or less."""
        self._guests += number


class _Guest:
    """A reader's place in a child that is held there by the answer itself."""

    def __init__(self, streams: Streams, child: Child, connections: ChildConnections) -> None:
        self.connections = connections
        self._streams = streams
        self._child = child
        self._ended = False
        streams.guest(+1)

    def end(self, outcome: Outcome) -> None:
        if not self._ended:
            self._ended = True
            self._streams.guest(-1)

    async def failure(self) -> RouterError:
        return await self._child.failure()


def _conversation_of(query: dict[str, list[str]]) -> str:
    conversation = query.get("conv_id", [""])[-1]
    if not conversation:
        raise BadRequest("Missing conversation id in path")
    return conversation


async def _asked_in(request: HttpRequest) -> list[str]:
    try:
        ids = (await object_of(request)).get("conversation_ids")
    except InvalidJson:
        return []
    return [each for each in ids if isinstance(each, str) and each] if isinstance(ids, list) else []


async def _knows(child: Child, conversation: str) -> bool:
    """Whether a child has begun to make the answer of a conversation; also if it is one that keeps none."""
    body = await _tell(child, "POST", "/v1/streams/lookup", msgspec.json.encode({"conversation_ids": [conversation]}))
    if not body:
        return False
    try:
        found = msgspec.json.decode(body, type=list[dict[str, Any]])
    except msgspec.DecodeError:
        return True
    return any(entry.get("conversation_id") == conversation for entry in found)


async def _look_up(child: Child, ids: list[str]) -> list[dict[str, Any]]:
    body = await _tell(child, "POST", "/v1/streams/lookup", msgspec.json.encode({"conversation_ids": ids}))
    try:
        return msgspec.json.decode(body, type=list[dict[str, Any]])
    except msgspec.DecodeError:
        return []


async def _tell(child: Child, method: str, path: str, body: bytes | None = None) -> bytes:
    """What a child answers; nothing if it is going, or does not listen."""
    ready = child.ready
    if ready is None:
        return b""
    try:
        answer = await ask(method, ready.address, path, api_key=ready.api_key, seconds=_WITHIN, body=body)
    except ProbeError:
        return b""
    return answer.body
