"""The slow door: a relayed route as an ASGI application, complete by itself on any server.

It takes what the fast lane does not: large bodies, multipart, GET, HTTP/1.0, `Expect`, conversations. Credentials and
size are looked at before the first byte of the body is read (so before a `100 Continue`), the body is collected whole
before a lease is asked for, and from then on the client is watched: when it leaves, the wait is cancelled, or the
exchange ended. On our own door the answer goes straight to the transport (`Takeover`).
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Coroutine, MutableMapping
from typing import Any

from llamarouter.core.access import OPERATOR, Access
from llamarouter.core.body import has_many_brackets, is_multipart, model_of_json, model_of_multipart
from llamarouter.core.errors import RequestTooLarge, RouterError, UnnamedModel, body_of, headers_of
from llamarouter.core.routes import Route
from llamarouter.core.wire import AnswerHead, Headers, header_of
from llamarouter.relay.body_budget import Reading
from llamarouter.relay.call import Call
from llamarouter.relay.detached import Conversations, Detached
from llamarouter.relay.exchange import Exchange, Request
from llamarouter.relay.incoming import MAX_FAST_BODY, autoload_of, model_in
from llamarouter.relay.patience import Patience, WaitableSink
from llamarouter.relay.screening import lease_for, screen, screen_media
from llamarouter.relay.switchboard import Ask, Lease, Switchboard, default_for
from llamarouter.relay.takeover import EXTENSION, call_of
from llamarouter.relay.traffic import Traffic

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]

MAX_BODY = 100 << 20  # bytes, as llama-server
_SLOW_BODY = 256 << 10  # bytes from which a body with many brackets is read in a thread
_CONVERSATION = b"x-conversation-id"
_HIGH = 64 << 10  # bytes waiting to be sent at which the child is paused


class RelayEndpoint:
    """One row of `core.routes.RELAYED`; give it to `starlette.routing.Route` as its endpoint.

    `trusted`: it is reached in a way that needs no key. `wait_comment`: seconds until a stream that waits is told so.
    """

    def __init__(
        self,
        switchboard: Switchboard,
        route: Route,
        traffic: Traffic,
        conversations: Conversations,
        *,
        max_body: int = MAX_BODY,
        trusted: bool = False,
        wait_comment: float = 0.0,
    ) -> None:
        self._switchboard = switchboard
        self._route = route
        self._traffic = traffic
        self._conversations = conversations
        self._max_body = max_body
        self._trusted = trusted
        self._wait_comment = wait_comment

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        sink = sink_of(scope, send)
        journal = self._traffic.journal
        call = call_of(scope, journal)
        call.path = self._route.path
        call.relayed = True
        try:
            request, ask = await self._read(scope, receive, call)
        except RouterError as error:
            sink.refuse(error)
            journal.refused(call, error)
            await sink.until_ended()
        except ClientLeftError:
            journal.left(call)
        else:
            patience = Patience(sink, request, self._route, self._traffic, self._wait_comment)
            try:
                if request.conversation is None:
                    await while_connected(self._relay(request, ask, patience), patience, receive)
                else:
                    await self._answer_detached(request, ask, patience, receive)
            finally:
                patience.close()
                if request.conversation is None:  # else it goes on
                    journal.left(call)

    async def _read(self, scope: Message, receive: Receive, call: Call) -> tuple[Request, Ask]:
        headers: Headers = scope["headers"]
        access = OPERATOR
        if not self._trusted:
            credentials = header_of(headers, b"authorization"), header_of(headers, b"x-api-key")
            access = self._switchboard.authorize(*credentials)
        call.access = access
        length = header_of(headers, b"content-length") or b"0"
        if not length.isdigit() or int(length) > self._max_body:
            raise self._too_large()
        headers, conversation = self._named(headers)
        query: bytes = scope["query_string"]
        self._traffic.bodies.check(int(length))
        with self._traffic.bodies.reading() as reading:
            body = await self._body_of(receive, reading)
            call.bytes_in = len(body)
            try:
                model = await self._model_of(scope["method"], headers, query, body)
            except UnnamedModel as error:
                model = default_for(self._switchboard, access, error)
        path: bytes = scope.get("raw_path") or scope["path"].encode()
        target = path + b"?" + query if query else path
        request = Request.of(scope["method"].encode(), target, headers, body, self._route.dialect)
        request.conversation = conversation
        request.access = access
        request.call = call
        call.ask = ask = Ask(model, self._route, len(body), autoload_of(query), access)
        await self._screen_media(access, headers, body)
        await screen(self._switchboard, ask, request)
        return request, ask

    async def _screen_media(self, access: Access, headers: Headers, body: bytes) -> None:
        content_type = header_of(headers, b"content-type")
        if self._route.method == "GET" or is_multipart(content_type):  # a form has files, and no addresses
            return
        if len(body) > MAX_FAST_BODY:
            await asyncio.to_thread(screen_media, self._switchboard, access, body)
        else:
            screen_media(self._switchboard, access, body)

    def _named(self, headers: Headers) -> tuple[Headers, str | None]:
        """The headers with the conversation as the child is to know it; itself, if its answer is to be kept."""
        if header_of(headers, _CONVERSATION) is None:
            return headers, None
        conversation = self._conversations.name_of(headers)
        headers = [each for each in headers if each[0] != _CONVERSATION]
        if conversation is None:
            return headers, None
        return [*headers, (_CONVERSATION, conversation.encode())], conversation if self._route.slot else None

    async def _body_of(self, receive: Receive, reading: Reading) -> bytes:
        parts: list[bytes] = []
        size = 0
        while True:
            message = await receive()
            if message["type"] == "http.disconnect":
                raise ClientLeftError
            part: bytes = message.get("body", b"")
            if part:
                parts.append(part)
                size += len(part)
                if size > self._max_body:
                    raise self._too_large()
                reading.take(len(part))
            if not message.get("more_body", False):
                return parts[0] if len(parts) == 1 else b"".join(parts)

    def _too_large(self) -> RequestTooLarge:
        return RequestTooLarge(f"the body of the request is larger than {self._max_body >> 20} MiB")

    async def _model_of(self, method: str, headers: Headers, query: bytes, body: bytes) -> str:
        named = model_in(query)
        if self._route.method == "GET":
            if named is None:
                raise UnnamedModel("model name is missing from the request")
            return named
        try:
            return await self._model_in_body(headers, body)
        except UnnamedModel:  # an array has no room for it
            if named is None:
                raise
            return named

    async def _model_in_body(self, headers: Headers, body: bytes) -> str:
        content_type = header_of(headers, b"content-type")
        if content_type is not None and is_multipart(content_type):
            return model_of_multipart(content_type, body)
        if len(body) > MAX_FAST_BODY or (len(body) >= _SLOW_BODY and has_many_brackets(body)):
            return await asyncio.to_thread(model_of_json, body)
        return model_of_json(body)

    async def _relay(self, request: Request, ask: Ask, patience: Patience) -> None:
        try:
            lease = await lease_for(self._switchboard, ask, request, patience.wait)
        except RouterError as error:
            patience.refuse(error)
            await patience.until_ended()
            return
        await carry(request, lease, patience, self._traffic)

    async def _answer_detached(self, request: Request, ask: Ask, patience: Patience, receive: Receive) -> None:
        detached = Detached(
            request,
            ask,
            patience,
            switchboard=self._switchboard,
            traffic=self._traffic,
            conversations=self._conversations,
        )
        detached.start()
        try:
            await while_connected(patience.until_ended(), patience, receive)
        finally:
            detached.client_left()


def sink_of(scope: Message, send: Send) -> WaitableSink:
    """Where the answer to a request goes: on our own door straight to its connection."""
    takeover: WaitableSink | None = scope.get("extensions", {}).get(EXTENSION)
    return takeover if takeover is not None else AsgiSink(send)


async def carry(request: Request, lease: Lease, sink: WaitableSink, traffic: Traffic) -> None:
    """Relay a request that has its lease; cancelled, its client has left."""
    exchange = Exchange(request, lease, sink, traffic)
    try:
        exchange.start()
        await sink.until_ended()
    finally:
        exchange.client_left()  # says nothing to an exchange that is over


class ClientLeftError(Exception):
    """The client went away while its body was read."""


class BrokenOffError(Exception):
    """Raised into an ASGI server: the one way to have it break off an answer that it has begun."""


async def while_connected(work: Coroutine[Any, Any, None], sink: WaitableSink, receive: Receive) -> None:
    """Do `work`, which answers at `sink`, until it is done or the client has left, which cancels it."""
    async with asyncio.TaskGroup() as group:
        working = group.create_task(work)
        watching = group.create_task(_until_disconnect(receive))
        working.add_done_callback(lambda _: watching.cancel())
        watching.add_done_callback(lambda _: working.cancel())
    if sink.broken_off:
        raise BrokenOffError("the model's process broke off its answer")


async def _until_disconnect(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


class AsgiSink:
    """The client's side as ASGI's `send` sees it: what comes from the child waits here until `send` has taken it."""

    def __init__(self, send: Send) -> None:
        self._send = send
        self._exchange: Exchange | None = None
        self._waiting: deque[Message] = deque()
        self._bytes = 0
        self._news = asyncio.Event()
        self.broken_off = False

    async def until_ended(self) -> None:
        """Send what comes until the answer is complete or broken off."""
        while True:
            await self._news.wait()
            while self._waiting:
                message = self._waiting[0]
                await self._send(message)
                self._waiting.popleft()
                if message["type"] == "http.response.body":
                    self._bytes -= len(message["body"])
                    if not message["more_body"]:
                        return
            self._news.clear()
            if self._exchange is not None and self._exchange.paused:
                self._exchange.resume()
            if self.broken_off:
                return

    @property
    def behind(self) -> bool:
        return bool(self._waiting)

    def attach(self, exchange: Exchange) -> None:
        self._exchange = exchange

    def answer(self, head: AnswerHead | None, payload: bytes, done: bool) -> None:
        if head is not None:
            self._waiting.append({"type": "http.response.start", "status": head.status, "headers": head.headers()})
        if payload or done:
            self._waiting.append({"type": "http.response.body", "body": payload, "more_body": not done})
            self._bytes += len(payload)
        if self._bytes > _HIGH and self._exchange is not None and not done:
            self._exchange.pause()
        self._news.set()

    def refuse(self, error: RouterError) -> None:
        body = body_of(error)
        headers = [*headers_of(error), (b"content-length", b"%d" % len(body)), (b"connection", b"close")]
        self._waiting.append({"type": "http.response.start", "status": error.status, "headers": headers})
        self._waiting.append({"type": "http.response.body", "body": body, "more_body": False})
        self._news.set()

    def abort(self, last_words: bytes) -> None:
        if last_words:
            self._waiting.append({"type": "http.response.body", "body": last_words, "more_body": True})
            self._bytes += len(last_words)
        self.broken_off = True
        self._news.set()
