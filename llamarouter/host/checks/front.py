"""The proxy in front, seen from outside: asked through the public URL as a client would.

    GET /health          reached? what came back of the router's headers
    GET /v1/models       does the key come through?
    GET /lr/status       without a key: is the administration open to everybody?
    POST /v1/chat/completions, streamed: through the URL and straight; when came which token

Every step has its time-out; nothing is retried.
"""

from __future__ import annotations

import http.client
import json
import socket
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing
from urllib.parse import urlsplit

from msgspec import Struct

from llamarouter.core.findings import Finding, Severity
from llamarouter.core.hosts import is_loopback
from llamarouter.core.stream_findings import AREA, Stream, stream_findings

SECONDS = 10.0  # for an answer that costs nothing
STREAM_SECONDS = 60.0  # for the whole stream
_TOKENS = 64
_PIECES_MAX = 4096
# What tells clients something; nginx keeps X-Accel-Buffering for itself. How long it waited is another each time.
_TELLING = frozenset({"content-type", "x-request-id", "retry-after", "x-should-retry"})

Connect = Callable[[float], http.client.HTTPConnection]


class Way(Struct, frozen=True):
    """One way to the router: how it is reached, and what stands before its paths."""

    connect: Connect
    prefix: str = ""
    key: str | None = None


class _Answer(Struct, frozen=True):
    status: int
    version: int


class _Streamed(Struct, frozen=True):
    stream: Stream
    headers: frozenset[str]  # their names


def public_way(url: str, key: str | None) -> Way:
    """Raises ValueError for what is no URL."""
    parts = urlsplit(url)
    host, port = parts.hostname, parts.port
    if parts.scheme not in ("http", "https") or not host:
        raise ValueError(f"{url}: an http:// or https:// URL is needed")
    kind = http.client.HTTPSConnection if parts.scheme == "https" else http.client.HTTPConnection
    return Way(lambda seconds: kind(host, port, timeout=seconds), parts.path.rstrip("/").removesuffix("/v1"), key)


def socket_way(path: str) -> Way:
    """By the admin socket, which needs no key."""
    return Way(lambda seconds: _UnixConnection(path, seconds))


def check_front(url: str, way: Way, direct: Way | None, model: str | None) -> list[Finding]:
    """`direct`: past the proxy; `model`: who is asked for a stream, None: nobody."""
    try:
        health = _ask(way, "/health")
    except (OSError, http.client.HTTPException) as error:
        what = f"nobody is reached: {str(error) or type(error).__name__}"
        return [Finding(AREA, Severity.ERROR, what, url, "is the proxy running, and is its name this machine's?")]
    findings = [*_of_health(url, health), *_of_rights(url, way)]
    if model is None:
        what = "no model is loaded to ask for a stream: whether tokens are held back was not looked at"
        return [*findings, Finding(AREA, Severity.NOTE, what, url, "`lr load MODEL` first, or --model MODEL")]
    try:
        return [*findings, *_of_stream(url, way, direct, model)]
    except TimeoutError:
        what = f"the stream was silent, or not over, after {STREAM_SECONDS:.0f} s"
        return [*findings, Finding(AREA, Severity.ERROR, what, url, "proxy_read_timeout and proxy_buffering off")]
    except (OSError, http.client.HTTPException) as error:
        what = f"the stream broke off: {str(error) or type(error).__name__}"
        return [*findings, Finding(AREA, Severity.ERROR, what, url, "the proxy's error log says why")]


def _of_health(url: str, health: _Answer) -> Iterator[Finding]:
    if health.status == 200:
        yield Finding(AREA, Severity.FINE, f"the router answers through HTTP/{health.version / 10:.1f}", url)
    elif health.status in (502, 504):
        what = f"the proxy does not reach the router ({health.status})"
        yield Finding(AREA, Severity.ERROR, what, url, "proxy_pass must name the address of `lr serve`")
    else:
        what = f"/health is answered with {health.status}"
        yield Finding(AREA, Severity.WARNING, what, url, "pass /health on to the router (docs/nginx.conf)")
    if health.version < 11:
        what = "the proxy speaks HTTP/1.0: a cut answer cannot be told from a whole one"
        yield Finding(AREA, Severity.ERROR, what, url, "HTTP/1.1 to clients, and `proxy_http_version 1.1;`")


def _of_rights(url: str, way: Way) -> Iterator[Finding]:
    try:
        status = _ask(Way(way.connect, way.prefix), "/lr/status").status
        listed = _ask(way, "/v1/models").status
    except (OSError, http.client.HTTPException) as error:
        what = f"not every request is answered: {str(error) or type(error).__name__}"
        yield Finding(AREA, Severity.ERROR, what, url, "the proxy's error log says why")
        return
    if status == 200:
        what = "administration is open to everybody: /lr/status is answered without a key"
        severity = Severity.NOTE if is_loopback(urlsplit(url).hostname or "") else Severity.ERROR
        yield Finding(AREA, severity, what, url, "`lr key add NAME`; pass on /v1/ and /health alone")
    if listed == 401 and way.key:
        what = "the key of LR_API_KEY is refused: it is none, or the proxy takes `Authorization` away"
        yield Finding(AREA, Severity.ERROR, what, url, "`proxy_set_header Authorization $http_authorization;`")
    elif listed == 401:
        yield Finding(AREA, Severity.FINE, "a key is needed", url)
    elif listed != 200:
        yield Finding(AREA, Severity.ERROR, f"/v1/models is answered with {listed}", url, "pass on /v1/")


def _of_stream(url: str, way: Way, direct: Way | None, model: str) -> Iterator[Finding]:
    through = _stream(way, model)
    if isinstance(through, int):
        if through == 401:
            yield Finding(AREA, Severity.NOTE, "a stream needs a key: none was asked for", url, "set LR_API_KEY")
        else:
            late = "the proxy gave up waiting" if through == 504 else "the proxy cannot reach the router"
            said = late if through in (502, 504) else "a stream is refused"
            yield Finding(
                AREA, Severity.ERROR, f"{said} ({through})", url, "proxy_read_timeout 1900s (docs/nginx.conf)"
            )
        return
    straight = _stream(direct, model) if direct is not None else None
    if isinstance(straight, int) or straight is None:
        yield from stream_findings(through.stream, None, url)
        return
    yield from stream_findings(through.stream, straight.stream, url)
    if lost := (straight.headers & _TELLING) - through.headers:
        what = f"headers of the router do not come through: {', '.join(sorted(lost))}"
        yield Finding(AREA, Severity.WARNING, what, url, "leave out proxy_hide_header")


def _stream(way: Way, model: str) -> _Streamed | int:
    """When what came, or the status of a refusal."""
    messages = [{"role": "user", "content": "Count from one to a hundred, in words."}]
    body = json.dumps({"model": model, "messages": messages, "max_tokens": _TOKENS, "stream": True}).encode()
    with closing(way.connect(SECONDS)) as connection:
        begun = time.monotonic()
        connection.request("POST", f"{way.prefix}/v1/chat/completions", body, _headers(way, "application/json"))
        if connection.sock is not None:
            connection.sock.settimeout(STREAM_SECONDS)
        answer = connection.getresponse()
        if answer.status != 200:
            return answer.status
        pieces: list[tuple[float, int]] = []
        while (piece := answer.read1(65536)) and len(pieces) < _PIECES_MAX:
            at = time.monotonic() - begun
            if (events := piece.count(b"data:")) > 0:
                pieces.append((at, events))
            if at > STREAM_SECONDS:
                raise TimeoutError
        return _Streamed(Stream(pieces), frozenset(name.lower() for name in answer.headers))


def _ask(way: Way, path: str) -> _Answer:
    with closing(way.connect(SECONDS)) as connection:
        connection.request("GET", way.prefix + path, headers=_headers(way, None))
        answer = connection.getresponse()
        answer.read(1 << 20)
        return _Answer(answer.status, answer.version)


def _headers(way: Way, content: str | None) -> Mapping[str, str]:
    headers = {"accept": "*/*", "connection": "close"}
    if content is not None:
        headers["content-type"] = content
    if way.key:
        headers["authorization"] = f"Bearer {way.key}"
    return headers


class _UnixConnection(http.client.HTTPConnection):
    """HTTP over a UNIX socket."""

    def __init__(self, path: str, timeout: float) -> None:
        super().__init__("localhost", timeout=timeout)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self._path)
