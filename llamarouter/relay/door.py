"""The fast lane: uvicorn's httptools protocol, which answers warm relayed requests itself and gives uvicorn the rest.

    bytes --parser--> Incoming --whole--> authorised, lease at once --> Exchange --> transport
                         |                     `- no lease now --> Queued ---^
                         `- unusual (see `Incoming.plain`) --> the parent's callbacks: Starlette

One request of a connection is answered at a time, in order, whoever answers it: what a client pipelines is kept here
(64 KiB, then the connection is closed) and never reaches uvicorn before its turn. So reading is not paused while an
answer runs, and a client that leaves is seen at once. The parent's callbacks read a few facts from `self.parser`; while
a request is handed over, that is the `Incoming` itself, since the real parser may be further on.
The seam is uvicorn 0.54's; `tests/test_relay_door.py` fails where another version moves it.
"""

from __future__ import annotations

import asyncio
from typing import Any, cast

import httptools

from llamarouter.core.body import model_of_json
from llamarouter.core.errors import BadRequest, Overloaded, RequestTimeout, RouterError, UnnamedModel
from llamarouter.core.media import RemoteMedia
from llamarouter.core.quarantine import mark_of
from llamarouter.core.routes import Route
from llamarouter.core.tokens import NONE
from llamarouter.core.wire import head_start_for_child
from llamarouter.relay.behind import Behind
from llamarouter.relay.call import Call
from llamarouter.relay.closing import SoftClosing
from llamarouter.relay.crowd import Crowd
from llamarouter.relay.deadlines import Deadlines
from llamarouter.relay.exchange import Exchange, Request
from llamarouter.relay.familiar import Familiar, learn
from llamarouter.relay.incoming import MAX_FAST_BODY, MAX_HEAD, Incoming
from llamarouter.relay.queued import Queued
from llamarouter.relay.screening import screen_media
from llamarouter.relay.switchboard import Ask, Switchboard, default_for
from llamarouter.relay.takeover import EXTENSION, Takeover
from llamarouter.relay.way_out import WayOut

_COME_AGAIN = 5.0  # seconds
_WRITE_HIGH = 64 << 10  # bytes unsent to the client at which the child is paused
_KEYLESS = RemoteMedia.KEYLESS  # taken from the enum it would cost a look-up for each request


class Door(WayOut):
    """One client's connection."""

    switchboard: Switchboard
    routes: dict[bytes, Route]  # that the fast lane takes, by target
    crowd: Crowd

    __slots__ = ("_advancing", "_aside", "_behind", "_deadlines", "_familiar", "_feeding", "_incoming", "_unknown")

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._incoming: Incoming | None = None  # being parsed
        self._behind = Behind()
        self._aside: list[bytes] = []  # read, while the crowd was too large
        self._familiar: Familiar[Incoming] | None = None  # the last head that the fast lane took
        self._unknown = b""  # a read that begins with a request and was not recognised
        self._feeding = 0  # bytes in the read that is being parsed
        self._advancing = False
        self._deadlines = Deadlines(self.loop, self.options.limits, self)

    # --- the connection -----------------------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(cast(asyncio.Transport, transport))
        self.transport.set_write_buffer_limits(high=_WRITE_HIGH)
        self._deadlines.begin()
        if len(self.connections) > self.options.limits.max_connections:
            self._turn_away(Overloaded("there are as many connections as there may be", retry_after=_COME_AGAIN))

    def connection_lost(self, exc: Exception | None) -> None:
        self._deaf = True
        super().connection_lost(exc)
        self._deadlines.over()
        self._slow_reader.over()
        self._forget_later()
        if self._exchange is not None:
            self._exchange.client_left()

    def eof_received(self) -> None:
        """A client that has finished sending while its answer runs has hung up, as for nginx and llama-server."""
        if self._current is not None:
            self._hang_up()

    def _hang_up(self) -> None:
        """The client is gone, or is to be: leave nothing running for it."""
        self._deaf = True
        self._forget_later()
        if self._exchange is not None:
            self._exchange.client_left()
        elif self.cycle is not None and not self.cycle.response_complete:
            self.cycle.disconnected = True
            self.cycle.message_event.set()
            self.flow.resume_writing()
        self.transport.abort()

    def reading(self) -> Incoming | None:
        """The request that is being read, if it is its turn."""
        incoming = self._incoming
        return incoming if incoming is None or self._current in (None, incoming) else None

    def is_idle(self) -> bool:
        return self._current is None and self._incoming is None

    def is_held(self) -> bool:
        """Whether it is us who do not read on."""
        return bool(self.flow.read_paused)

    def idled(self) -> None:
        if self._aside:  # its request is here, and its turn comes
            self._deadlines.since = self.loop.time()
            self._deadlines.restart()
        elif self._unsent():  # it has not even taken its last answer
            self.transport.abort()
        else:
            self.timeout_keep_alive_handler()

    def stalled(self) -> None:
        """A request does not come in time: give its place up."""
        self._turn_away(RequestTimeout("the rest of the request did not come in time"))

    # --- bytes in -----------------------------------------------------------------------------------------------------

    def data_received(self, data: bytes) -> None:
        if self.timeout_keep_alive_task is not None:
            self._unset_keepalive_if_required()
        if self._deaf:
            return
        if self._current is None and self._incoming is None:
            familiar = self._familiar
            if familiar is not None and not self._aside and (body := familiar.body_of(data)) is not None:
                incoming = familiar.means  # its head was seen on this connection before
                incoming.since = self.loop.time()
                self._relay(incoming, body)
                return
            if not self._is_admitted(data):
                return
        elif self._current is not None and self._current is not self._incoming:
            if not self._behind.has_room(data):
                self._hang_up()
                return
            if self._incoming is None:
                self._behind.unread.append(data)
                return
        self._feed(data)

    def _is_admitted(self, data: bytes) -> bool:
        """Of those whose head must be read, so many in one go; the others are put aside."""
        if self._aside or not self.crowd.admits(self):
            if self._aside:
                self.flow.pause_reading()  # for a moment: a crowd may send more than there is room for
            self._aside.append(data)
            return False
        self._unknown = data
        return True

    def take_turn(self) -> None:
        data, self._aside = b"".join(self._aside), []
        if not self.transport.is_closing():
            self.flow.resume_reading()
            self.data_received(data)

    def _feed(self, data: bytes) -> None:
        self._feeding = len(data)
        self._ended = 0
        try:
            self.parser.feed_data(data)
        except httptools.HttpParserUpgrade as upgrade:
            self._feed_without_upgrade(data[upgrade.args[0] :])
        except httptools.HttpParserCallbackError:  # ours, not the client's
            raise
        except httptools.HttpParserError:
            self.send_400_response("the request is not valid HTTP")
        if self._incoming is not None:
            self._expect_more(self._incoming, len(data))
        self._ended = 0

    def _expect_more(self, incoming: Incoming, read: int) -> None:
        """A request came with this read, and is not whole."""
        if not incoming.head_complete and not self._ended:
            incoming.bytes_before += read
            if incoming.bytes_before > MAX_HEAD and (refusal := incoming.too_large(read=incoming.bytes_before)):
                self._turn_away(refusal)
                return
        answered = self._current is None and incoming.handed_over  # before all of its body was here
        if self._current is None and incoming.head_complete and not self._deaf and not answered:
            try:  # nobody collects the body of a stranger
                self.switchboard.authorize(incoming.authorization, incoming.x_api_key)
                incoming.count_body(self.options.traffic.bodies)
            except RouterError as error:
                self._turn_away(error)
                return
        if self._current in (None, incoming):
            self._deadlines.expect_more(incoming)

    def _feed_without_upgrade(self, behind: bytes) -> None:
        """The parser lets go of a request that would switch protocols, body and all: read it again as a plain one."""
        incoming, self._incoming = self._incoming, None
        if incoming is None or self._deaf:
            return
        self.parser = httptools.HttpRequestParser(self)
        self.parser.set_dangerous_leniencies(lenient_data_after_close=True)
        self._feed(incoming.head_without_upgrade() + behind)

    # --- the parser's callbacks ---------------------------------------------------------------------------------------

    def on_message_begin(self) -> None:
        self._incoming = None if self._deaf else Incoming(self.loop.time())

    def on_url(self, url: bytes) -> None:
        if self._incoming is not None:
            self._incoming.url += url

    def on_header(self, name: bytes, value: bytes) -> None:
        if self._incoming is not None:
            self._incoming.add_header(name.lower(), value)

    def on_headers_complete(self) -> None:
        incoming = self._incoming
        if incoming is None or self._deaf:
            return
        refusal = incoming.complete_head(self.parser, self._feeding, self.routes)
        if refusal is None:
            refusal = incoming.misdirected(self.options.names, self.server)
        if refusal is not None:
            self._turn_away(refusal)
        elif not incoming.plain and not incoming.upgrading and self._current is None:
            self._hand_over(incoming)

    def on_body(self, body: bytes) -> None:
        incoming = self._incoming
        if incoming is None or self._deaf:
            return
        if incoming.handed_over:
            incoming.body_bytes += len(body)
            super().on_body(body)
            return
        incoming.add_body(body)
        if incoming.body_bytes > MAX_FAST_BODY and self._current is None:
            self._hand_over(incoming)

    def on_message_complete(self) -> None:
        incoming = self._incoming
        if incoming is None or self._deaf or incoming.upgrading:
            return
        self._incoming = None
        self._ended += 1
        incoming.whole = True
        unknown, self._unknown = self._unknown, b""
        if incoming.handed_over:
            super().on_message_complete()
        elif self._current is None:
            if incoming.plain and unknown:
                self._familiar = learn(unknown, incoming)
            self._serve(incoming)
        else:
            if not self._behind.add(incoming):
                self._hang_up()

    def send_400_response(self, msg: str) -> None:
        self._turn_away(BadRequest(msg))

    # --- one request at a time ----------------------------------------------------------------------------------------

    def _serve(self, incoming: Incoming) -> None:
        """It is this request's turn, and it is here as a whole."""
        if incoming.plain:
            self._relay(incoming, incoming.take_body())
        else:
            self._hand_over(incoming)

    def _relay(self, incoming: Incoming, body: bytes) -> None:
        """Answer a plain request from its child, if that has room for it now."""
        self._current = incoming
        route = incoming.route
        assert route is not None
        board, options = self.switchboard, self.options
        id = incoming.request_id or options.traffic.journal.new_id()
        call = Call(id, incoming.since, self.client, b"POST", route.path, None, None, "", len(body))
        self._call = call
        if not route.slot:
            call.tokens = NONE
        try:
            call.access = access = board.authorize(incoming.authorization, incoming.x_api_key)
            try:
                model = model_of_json(body)
            except UnnamedModel as unnamed:
                model = default_for(board, access, unnamed)
            call.ask = ask = Ask(model, route, len(body), incoming.autoload, access)
            if access.key is not None or board.remote_media is not _KEYLESS:
                screen_media(board, access, body)
            if board.quarantine.models:
                board.screen(ask, mark_of(incoming.url[len(options.prefix) :], body))
            lease = board.lease_now(ask)
        except RouterError as error:
            self.refuse(error)
            return
        if incoming.head_start is None:
            incoming.head_start = head_start_for_child(b"POST", incoming.url[len(options.prefix) :], incoming.headers)
        request = Request(b"POST", incoming.head_start, body, route.dialect, None, access, call)
        if lease is None:
            self._exchange = Queued(request, ask, self, board, options.traffic, options.wait_comment)
        else:
            Exchange(request, lease, self, options.traffic).start()

    def _hand_over(self, incoming: Incoming) -> None:
        """Give a request, as far as it is here, to uvicorn and so to Starlette."""
        self._current = incoming
        self._call = self._call_of(incoming)
        incoming.handed_over = True
        parser = self.parser
        self.parser = cast(Any, incoming)
        try:
            super().on_message_begin()
            self.url = incoming.url
            self.headers.extend(incoming.headers)
            self.expect_100_continue = incoming.expects_100
            cast(dict[str, Any], self.scope)["extensions"] = {EXTENSION: Takeover(self)}
            super().on_headers_complete()
            if not incoming.whole:
                self.cycle.transport = cast(Any, SoftClosing(self.transport, lambda: self._close_behind(incoming)))
            if incoming.body_bytes:
                super().on_body(incoming.take_body())
            if incoming.whole:
                super().on_message_complete()
        except (httptools.HttpParserError, UnicodeDecodeError):
            self._current = None
            self._turn_away(BadRequest("the request's target is not valid"))
        finally:
            self.parser = parser

    def on_response_complete(self) -> None:
        """uvicorn has answered what was handed over to it."""
        super().on_response_complete()
        self._over()

    def _over(self) -> None:
        if not self._deaf and not self.transport.is_closing():
            self._next()
            return
        self._current = None
        self._exchange = None
        self._deaf = True
        self._forget_later()
        self._slow_reader.begin()  # a close waits for whoever reads

    def _next(self) -> None:
        self._current = None
        self._exchange = None
        deadlines, behind = self._deadlines, self._behind
        deadlines.since = self._call.ended or self.loop.time()
        if not deadlines.restarted:
            deadlines.restart()
        if (behind.requests or behind.unread or self._incoming) and not self._advancing:  # else the loop below goes on
            self._advance(behind)

    def _advance(self, behind: Behind) -> None:
        """Go on with what has come behind."""
        self._advancing = True
        while self._current is None and not self._deaf:
            if behind.requests:
                self._serve(behind.first(self._incoming))
            elif behind.unread:
                self._feed(behind.all_unread())
            else:
                break
        self._advancing = False
        if self._current is None and (incoming := self._incoming) is not None:  # begun behind the one answered now
            behind.is_before()
            if incoming.head_complete and not incoming.plain and not incoming.handed_over:
                self._hand_over(incoming)
            self._expect_more(incoming, 0)

    def _forget_later(self) -> None:
        self._behind.forget()
        if self._incoming is not None:
            self._incoming.let_go()

    def _turn_away(self, error: RouterError) -> None:
        """Refuse what cannot be read any further, and close; an answer that runs is let go on to its end."""
        incoming, self._incoming = self._incoming, None
        if self._deaf:
            return
        if self._current is not None and self._current is incoming:
            self._break_in(error)
        elif self._current is not None:
            self._end_behind(self._current)
            self._forget_later()
        else:
            self._current = Incoming()
            self._call = self._call_of((incoming or Incoming(self.loop.time())).let_go())
            self.refuse(error)
            self._deaf = True
