"""The router as a command sees it: found by itself, asked over its admin socket, or over TCP with a key.

    --url URL                  that one, with LR_API_KEY
    --port N                   the one of this machine's user that listens on N
    LR_URL                     as --url
    nothing                    the only one that runs here; several: the command must say which

http.client, because it is quick to import and httpx is not. Every call has its own connection: commands make few.
"""

from __future__ import annotations

import http.client
import json
import os
import socket
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from typing import Any, NamedTuple
from urllib.parse import quote, urlencode

from llamarouter.cli.address import Address, address_of, wrong_usage
from llamarouter.cli.failures import CommandFailed, RouterFailure

CONNECT_SECONDS = 5.0
ANSWER_SECONDS = 30.0  # what the router answers from memory; a load or a generation has no limit here

NOT_RUNNING = "no router is running here; start one with `lr serve` (or name one elsewhere with --url)"


class UnixConnection(http.client.HTTPConnection):
    """HTTP over a UNIX socket."""

    def __init__(self, path: str, timeout: float) -> None:
        super().__init__("localhost", timeout=timeout)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self._path)


class SseEvent(NamedTuple):
    """One event of a stream, or (`comment`) one of the comments by which the router says that it is still there."""

    data: str
    comment: bool = False


class ServerClient:
    """Calls to one router. Every call raises `RouterFailure` when the router refuses or cannot be reached."""

    def __init__(self, address: Address, api_key: str | None = None) -> None:
        self.address = address
        self._api_key = api_key

    def get(self, path: str, **query: str) -> Any:
        return self._json("GET", _with_query(path, query), None, ANSWER_SECONDS)

    def delete(self, path: str, **query: str) -> Any:
        return self._json("DELETE", _with_query(path, query), None, None)

    def post(self, path: str, body: Mapping[str, object] | None = None, *, patient: bool = False) -> Any:
        """`patient`: wait for as long as it takes (a load, a drain)."""
        return self._json("POST", path, body or {}, None if patient else ANSWER_SECONDS)

    @contextmanager
    def stream(
        self,
        method: str,
        path: str,
        body: Mapping[str, object] | None = None,
        query: Mapping[str, str] | None = None,
    ) -> Iterator[Iterator[str]]:
        """The lines of an answer as they come; leaving the block hangs up, which ends a generation."""
        asked = _with_query(path, query or {})
        # Both are closed: an answer with `Connection: close` has taken the socket over.
        with (
            closing(self._connection()) as connection,
            closing(self._asked(connection, method, asked, body, None)) as answer,
        ):
            yield self._lines_of(answer)

    def _json(self, method: str, path: str, body: Mapping[str, object] | None, patience: float | None) -> Any:
        with closing(self._connection()) as connection:
            answer = self._asked(connection, method, path, body, patience)
            with self._translated():
                text = answer.read()
        try:
            return json.loads(text)
        except ValueError as error:
            raise RouterFailure(0, f"{self.address.shown} does not answer as a router does", "not_a_router") from error

    def _asked(
        self,
        connection: http.client.HTTPConnection,
        method: str,
        path: str,
        body: Mapping[str, object] | None,
        patience: float | None,
    ) -> http.client.HTTPResponse:
        try:
            connection.connect()
        except OSError as error:
            raise RouterFailure(0, f"cannot reach {self.address.shown}: {_why(error)}", "unreachable") from error
        connection.sock.settimeout(patience)
        headers = {"accept": "application/json, text/event-stream, text/plain"}
        if self._api_key:
            headers["authorization"] = f"Bearer {self._api_key}"
        if body is not None:
            headers["content-type"] = "application/json"
        payload = None if body is None else json.dumps(body).encode()
        with self._translated():
            connection.request(method, self.address.prefix + path, payload, headers)
            answer = connection.getresponse()
            if answer.status >= 400:
                raise self._known(_failure_of(answer), path)
        return answer

    def _known(self, failure: RouterFailure, path: str) -> RouterFailure:
        """llama-server's own router answers most questions, but not those that it does not have."""
        if failure.status == 404 and failure.reason == "unknown" and path.startswith(("/lr/", "/models/reload")):
            message = f"{self.address.shown} is not an `lr serve`: it has no {path.partition('?')[0]}"
            return RouterFailure(404, message, "not_a_router")
        return failure

    def _lines_of(self, answer: http.client.HTTPResponse) -> Iterator[str]:
        """The answer's lines as soon as they are there; the last one may lack its end."""
        rest = b""
        while chunk := self._next_of(answer):
            *whole, rest = (rest + chunk).split(b"\n")
            for line in whole:
                yield line.decode("utf-8", "replace").removesuffix("\r")
        if rest:
            yield rest.decode("utf-8", "replace")

    def _next_of(self, answer: http.client.HTTPResponse) -> bytes:
        with self._translated():
            return answer.read1(65536)

    @contextmanager
    def _translated(self) -> Iterator[None]:
        """What the network can do to a call, as a `RouterFailure`. Only calls to it stand in this block."""
        try:
            yield
        except TimeoutError as error:
            raise RouterFailure(0, f"{self.address.shown} does not answer", "timeout") from error
        except (OSError, http.client.HTTPException) as error:
            raise RouterFailure(0, f"the connection to {self.address.shown} broke off", "disconnected") from error

    def _connection(self) -> http.client.HTTPConnection:
        address = self.address
        if address.unix is not None:
            return UnixConnection(address.unix, CONNECT_SECONDS)
        kind = http.client.HTTPSConnection if address.tls else http.client.HTTPConnection
        return kind(address.host, address.port, timeout=CONNECT_SECONDS)


def find_server(url: str | None = None, port: int | None = None) -> ServerClient | None:
    """The router that the command means; None where none runs here.

    Raises `UsageError` where it is not clear which one is meant, `CommandFailed` where the named one is not here.
    """
    if url and port is not None:
        raise wrong_usage("--url and --port exclude each other: --port chooses among the routers of this machine")
    url = url or (os.environ.get("LR_URL") if port is None else None)
    if url:
        return ServerClient(address_of(url), os.environ.get("LR_API_KEY"))

    from llamarouter.host.runtime_folder import running

    routers = running(os.environ)
    ports = ", ".join(str(router.port) for router in routers)
    if port is not None:
        routers = [router for router in routers if router.port == port]
        if not routers:
            others = f" (running: {ports})" if ports else ""
            raise CommandFailed(f"no router of this user runs on port {port}{others}; elsewhere: --url")
    if len(routers) > 1:
        raise wrong_usage(f"several routers are running here, on ports {ports}: choose one with --port")
    if not routers:
        return _service() if port is None else None
    (router,) = routers
    shown = f"the router on port {router.port}" if router.port else "the router on UNIX sockets"
    return ServerClient(Address(shown, unix=router.admin_socket))


def _service() -> ServerClient | None:
    """The service of this machine, for root and whoever is in its group."""
    from llamarouter.core.service_name import ADMIN_SOCKET

    path = os.environ.get("LR_ADMIN_SOCKET") or ADMIN_SOCKET
    if not os.access(path, os.W_OK):
        return None
    return ServerClient(Address("the service llamarouter", unix=path))


def need_server(url: str | None = None, port: int | None = None) -> ServerClient:
    """As `find_server`, for commands that are nothing without a router."""
    server = find_server(url, port)
    if server is None:
        raise CommandFailed(NOT_RUNNING)
    return server


def events_of(lines: Iterator[str]) -> Iterator[SseEvent]:
    """Server-sent events from the lines of a stream."""
    data: list[str] = []
    for line in lines:
        if line.startswith(":"):
            yield SseEvent(line[1:].strip(), comment=True)
        elif line.startswith("data:"):
            data.append(line[5:].removeprefix(" "))
        elif not line and data:
            yield SseEvent("\n".join(data))
            data = []
    if data:
        yield SseEvent("\n".join(data))


def _failure_of(answer: http.client.HTTPResponse) -> RouterFailure:
    try:
        return failure_in(json.loads(answer.read()), answer.status)
    except ValueError:
        return RouterFailure(answer.status, f"the router answered {answer.status} {answer.reason}", "unknown")


def failure_in(body: object, status: int = 500) -> RouterFailure:
    """What an error body (or an error event of a stream) says; ValueError where it is none."""
    error = body.get("error") if isinstance(body, dict) else None
    if isinstance(error, str):
        return RouterFailure(status, error, "unknown")
    if not isinstance(error, dict):
        raise ValueError("no error in this body")
    message = str(error.get("message") or f"the router answered {status}")
    if status == 401:
        message += "; set LR_API_KEY to a key of this router"
    code = error.get("code")
    return RouterFailure(code if isinstance(code, int) else status, message, str(error.get("reason") or "unknown"))


def _with_query(path: str, query: Mapping[str, str]) -> str:
    return f"{path}?{urlencode(query, quote_via=quote, errors='surrogateescape')}" if query else path


def _why(error: OSError) -> str:
    if isinstance(error, TimeoutError):
        return f"no answer within {CONNECT_SECONDS:.0f} s"
    if reason := getattr(error, "verify_message", None):  # of ssl, which is not imported for this
        return f"its certificate is not trusted here ({reason}); SSL_CERT_FILE=FILE names one to trust"
    return (error.strerror or str(error)).lower()
