"""A request at the door while it is read, and whether the fast lane can take it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from urllib.parse import parse_qs

from llamarouter.core.body import is_multipart
from llamarouter.core.errors import (
    BadRequest,
    HeadersTooLarge,
    Misdirected,
    RouterError,
    UriTooLong,
    VersionNotSupported,
)
from llamarouter.core.hosts import Hosts, name_of
from llamarouter.core.routes import Route
from llamarouter.core.wire import Headers, tokens_of
from llamarouter.relay.body_budget import BodyBudget, Reading
from llamarouter.relay.call import REQUEST_ID, sane_id

MAX_FAST_BODY = 1 << 20  # bytes: a larger body is decoded off the event loop, on the slow way
MAX_HEAD = 64 << 10  # bytes: more than the longest target and a good many headers
# llama-server's own limits.
_MAX_TARGET = 32 << 10  # bytes
_MAX_LINE = 8 << 10  # bytes of one header's line, with its end
_MAX_HEADERS = 100
_MOST_PARTS = 64  # of a body, each of which takes a good 40 bytes, however short it is

_TELLING = frozenset(
    (
        b"authorization",
        b"x-api-key",
        b"content-type",
        b"content-length",
        b"transfer-encoding",
        b"expect",
        b"upgrade",
        b"host",
        b"x-conversation-id",
    )
)


class Incoming:
    """One request. It quacks like httptools' parser, as far as uvicorn asks one (`get_method` and so on)."""

    __slots__ = (
        "_parts",
        "authorization",
        "autoload",
        "body_bytes",
        "bytes_before",
        "door_headers",
        "door_lines",
        "expects_100",
        "handed_over",
        "head_complete",
        "head_start",
        "headers",
        "host",
        "hosts",
        "keep_alive",
        "method",
        "plain",
        "problem",
        "reading",
        "request_id",
        "route",
        "since",
        "upgrade",
        "upgrading",
        "url",
        "version",
        "whole",
        "x_api_key",
    )

    def __init__(self, since: float = 0.0) -> None:
        self.since = since  # when its first byte came, in the loop's time
        self.url = b""
        self.headers: Headers = []
        self.method = b""
        self.version = "1.1"
        self.keep_alive = False
        self.route: Route | None = None
        self.plain = True  # the fast lane can take it; what is unusual makes it false
        self.bytes_before = 0  # in reads that did not complete the head
        self.head_complete = False
        self.body_bytes = 0
        self.reading: Reading | None = None  # what of its body counts, where that does not come at once
        self.whole = False
        self.handed_over = False
        self.authorization: bytes | None = None
        self.x_api_key: bytes | None = None
        self.expects_100 = False
        self.upgrade = False  # it has an Upgrade header
        self.upgrading = False  # the parser is about to let go of it
        self.hosts = 0
        self.host: bytes | None = None
        self.request_id: bytes | None = None  # the client's own, if it is sane
        self.problem: str | None = None
        self.head_start: bytes | None = None  # what the child's head begins with, once it was made
        self.door_headers: Headers | None = None  # what the server said at that time in every answer
        self.door_lines = b""  # the end of an answer's head, made of it
        self.autoload: bool | None = None  # what its query says of it
        self._parts: list[bytes | bytearray] = []  # of the body; the first one may be many put together

    # --- while it is parsed -------------------------------------------------------------------------------------------

    def add_header(self, name: bytes, value: bytes) -> None:
        if self.head_complete:  # a trailer: it must not pass for a header, as whoever looked at those has not seen it
            return
        self.headers.append((name, value))
        if name in _TELLING:
            self._note(name, value)
        elif name == REQUEST_ID:
            self.request_id = self.request_id or sane_id(value)

    def _note(self, name: bytes, value: bytes) -> None:
        if name == b"host":
            self.hosts += 1
            self.host = value
        elif name == b"content-length":
            self.plain = self.plain and len(value) < 8 and value.isdigit() and int(value) <= MAX_FAST_BODY
        elif name == b"content-type":
            self.plain = self.plain and not is_multipart(value)
        elif name == b"authorization":
            self.authorization = _first_of(self.authorization, value)
        elif name == b"x-api-key":
            self.x_api_key = _first_of(self.x_api_key, value)
        elif name == b"x-conversation-id":
            self.plain = False  # its client may leave while it waits: see `Detached`
        elif name == b"transfer-encoding":
            if value.strip().lower() != b"chunked":
                self.problem = "the request's transfer-encoding is not `chunked`"
        elif name == b"expect":
            self.expects_100 = value.lower() == b"100-continue"
            self.plain = False
        else:
            self.upgrade = True

    def complete_head(self, parser: Any, last_read: int, routes: Mapping[bytes, Route]) -> RouterError | None:
        """The head is here, at the latest with a read of so many bytes: where does the request go, or why nowhere?

        `routes`: those of the fast lane.
        """
        self.head_complete = True
        self.method = parser.get_method()
        self.version = parser.get_http_version()
        self.keep_alive = self.version != "1.0" and parser.should_keep_alive()
        if self.bytes_before + last_read > _MAX_LINE and (refusal := self.too_large()) is not None:
            return refusal
        if len(self.headers) > _MAX_HEADERS:
            return HeadersTooLarge(f"the request has more than {_MAX_HEADERS} headers")
        if self.version not in ("1.1", "1.0"):
            return VersionNotSupported("the router speaks HTTP/1.1")
        self._look_for_problems()
        if self.problem is not None:
            return BadRequest(self.problem)
        self.upgrading = self.upgrade and parser.should_upgrade()
        self._find_route(routes)
        return None

    def _look_for_problems(self) -> None:
        """What no proxy in front may understand otherwise than the router and its children do."""
        if self.version == "1.0":
            self.plain = False
            if any(name == b"transfer-encoding" for name, _ in self.headers):
                self.problem = "a request of HTTP/1.0 cannot have a transfer-encoding"
        if self.hosts > 1 or (self.hosts == 0 and self.version != "1.0"):
            self.problem = "the request needs exactly one Host header"
        elif self.host is not None and name_of(self.host) is None:
            self.problem = "the request's Host is not a name or address with a port"
        elif self.url[:1] != b"/" and (self.url != b"*" or self.method != b"OPTIONS"):
            self.problem = "the request's target must be a path"  # a whole URL or CONNECT is for a proxy

    def misdirected(self, names: Hosts, address: tuple[str, int | None] | None) -> RouterError | None:
        """What is wrong with a request for somebody else than who answers to `names` at `address`."""
        try:
            names.check(address, self.host)
        except Misdirected as error:
            return error
        return None

    def too_large(self, *, read: int = 0) -> RouterError | None:
        """What of the head is too large, of which at least `read` bytes have come."""
        if len(self.url) > _MAX_TARGET:
            return UriTooLong(f"the target of the request is longer than {_MAX_TARGET} bytes")
        lines = [(name, len(name) + len(value) + 4) for name, value in self.headers]
        for name, length in lines:
            if length > _MAX_LINE:
                return HeadersTooLarge(f"the header {name[:64].decode('latin-1')} is longer than {_MAX_LINE} bytes")
        if max(read, len(self.url) + sum(length for _, length in lines)) > MAX_HEAD:
            return HeadersTooLarge(f"the head of the request is larger than {MAX_HEAD >> 10} KiB")
        return None

    def _find_route(self, routes: Mapping[bytes, Route]) -> None:
        if self.plain:
            route = routes.get(self.url)
            if route is None and b"?" in self.url:
                path, _, query = self.url.partition(b"?")
                self.autoload = autoload_of(query)
                # A model in the query counts where the body names none, which the slow door finds out.
                route = routes.get(path) if b"model=" not in query else None
            self.route = route
            self.plain = route is not None and self.method == b"POST"

    def add_body(self, body: bytes) -> None:
        parts = self._parts
        parts.append(body)
        if len(parts) > _MOST_PARTS:
            _put_together(parts)
        self.body_bytes += len(body)

    def count_body(self, budget: BodyBudget) -> None:
        """There is more to come of a body that is kept here. Raises `QueueFull`."""
        if self.reading is None:
            self.reading = Reading(budget)
        self.reading.take(self.body_bytes - self.reading.bytes)

    def let_go(self) -> Incoming:
        """Nobody wants what is here of its body."""
        self.take_body()
        return self

    # --- once it is here ----------------------------------------------------------------------------------------------

    def take_body(self) -> bytes:
        """The body as far as it is here; it is not kept."""
        if self.reading is not None:
            self.reading.end()
        parts, self._parts = self._parts, []
        return bytes(parts[0]) if len(parts) == 1 else b"".join(parts)  # bytes of bytes are the same ones

    @property
    def path(self) -> str:
        """Without the query, which may hold what is nobody's business."""
        return self.url.partition(b"?")[0].decode("latin-1")

    @property
    def head_only(self) -> bool:
        return self.method == b"HEAD"

    def head_without_upgrade(self) -> bytes:
        """The head again, without what would switch protocols."""
        lines = [b"%b %b HTTP/%b\r\n" % (self.method, self.url, self.version.encode())]
        for name, value in self.headers:
            if name == b"connection":
                tokens = [token for token in tokens_of(value) if token not in (b"upgrade", b"http2-settings")]
                if tokens:
                    lines.append(b"connection: %b\r\n" % b", ".join(tokens))
            elif name not in (b"upgrade", b"http2-settings"):
                lines.append(b"%b: %b\r\n" % (name, value))
        return b"".join(lines) + b"\r\n"

    # --- what uvicorn asks its parser ---------------------------------------------------------------------------------

    def get_method(self) -> bytes:
        return self.method

    def get_http_version(self) -> str:
        return self.version

    def should_keep_alive(self) -> bool:
        return self.keep_alive

    def should_upgrade(self) -> bool:
        return False


def _put_together(parts: list[bytes | bytearray]) -> None:
    """Leave one part of all, at a cost that grows with the later ones alone."""
    whole, *later = parts
    if not isinstance(whole, bytearray):
        whole = bytearray(whole)
    whole += b"".join(later)
    parts[:] = [whole]


def _first_of(before: bytes | None, value: bytes) -> bytes:
    """Of a header that comes twice the first counts, as for everybody else who looks for one."""
    return value if before is None else before


def model_in(query: bytes) -> str | None:
    """The model that a query names."""
    models = parse_qs(query.decode("latin-1"), encoding="utf-8").get("model")
    return models[0] if models else None


def autoload_of(query: bytes) -> bool | None:
    """What `?autoload=` says, as llama-server reads it: absent or empty is None, `true` and `1` are true."""
    values = parse_qs(query.decode("latin-1"), keep_blank_values=False).get("autoload")
    return None if not values else values[0] in ("true", "1")
