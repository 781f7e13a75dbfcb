"""The far end of the CLI: a small HTTP server that answers what a test tells it to, and keeps what it was asked."""

from __future__ import annotations

import json
import socket
import socketserver
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Event, Thread
from typing import Any
from urllib.parse import parse_qsl, urlsplit

MODELS = {
    "object": "list",
    "data": [
        {
            "id": "user/small:Q4_1",
            "aliases": ["small"],
            "status": {"value": "loaded", "args": [], "preset": "[user/small:Q4_1]\nctx-size = 512\n"},
            "source": "cache",
            "can_remove": True,
            "lr": {
                "size": 98_900_000,
                "quant": "Q4_1",
                "n_params": 134_515_008,
                "context": 2048,
                "path": "/models/small.gguf",
                "pid": 4711,
                "uptime": 3725.0,
                "in_flight": 1,
                "waiting": 2,
                "slots": 4,
                "tokens_per_second": 31.25,
                "n_ctx": 512,
                "layers_offloaded": 12,
                "layers": 31,
                "last_used": 0.2,
            },
        },
        {
            "id": "broken",
            "status": {"value": "unloaded"},
            "source": "models_dir",
            "lr": {"size": 20, "problem": "not a GGUF file", "path": "/models/broken.gguf"},
        },
        {
            "id": "crashed",
            "status": {"value": "unloaded", "failed": True, "exit_code": 1},
            "source": "preset",
            "lr": {
                "size": 4_800_000_000,
                "n_params": 4_300_000_000,
                "failure": {"reason": "model_crashed", "message": "ended by SIGSEGV", "seconds_ago": 12.0},
                "cooldown": 3.0,
            },
        },
    ],
    "warnings": [{"where": "/models/empty.gguf", "reason": "the file is empty"}],
}


@dataclass
class Asked:
    method: str
    path: str
    query: dict[str, str]
    body: Any
    headers: dict[str, str]


@dataclass
class Reply:
    """An answer; with `pieces`, chunked. `cut`: the connection ends before the answer does.

    It is held back until `after` is set, and kept open after its last piece until `hold` is.
    """

    body: object = None
    status: int = 200
    pieces: Sequence[str | bytes] | None = None
    cut: bool = False
    hold: Event | None = None
    after: Event | None = None


@dataclass
class RouterDouble:
    """Replies by `METHOD /path MODEL` or `METHOD /path`; a list gives one each time, the last one from then on."""

    replies: dict[str, Reply | list[Reply]] = field(default_factory=dict)
    asked: list[Asked] = field(default_factory=list)
    hung_up: Event = field(default_factory=Event)
    _asked_for: dict[str, Event] = field(default_factory=dict)
    url: str = ""

    def reply_to(self, asked: Asked) -> Reply:
        self.asked.append(asked)
        model = asked.body.get("model") if asked.body else None
        self.asked_for(str(model)).set()
        where = f"{asked.method} {asked.path}"
        found = self.replies.get(f"{where} {model}") or self.replies.get(where)
        if isinstance(found, list):
            return found.pop(0) if len(found) > 1 else found[0]
        return found or Reply(error(404, "not_found", "File Not Found"), 404)

    def asked_for(self, model: str) -> Event:
        """Set once somebody has asked this model."""
        return self._asked_for.setdefault(model, Event())

    def bodies(self, path: str) -> list[Any]:
        return [asked.body for asked in self.asked if asked.path == path]


def error(status: int, reason: str, message: str) -> dict[str, object]:
    return {"error": {"code": status, "message": message, "type": "x", "param": None, "reason": reason}}


def chunk(delta: dict[str, object], finish: str | None = None, **more: object) -> str:
    body = {"choices": [{"index": 0, "delta": delta, "finish_reason": finish}], **more}
    return f"data: {json.dumps(body)}\n\n"


def chat_reply(*words: str, reasoning: str = "", **more: object) -> Reply:
    """A streamed answer as llama-server sends it, with timings."""
    timings = {"prompt_n": 7, "predicted_n": len(words), "predicted_per_second": 42.5}
    thoughts = [chunk({"reasoning_content": reasoning})] if reasoning else []
    end = chunk({}, "stop", **{"timings": timings, **more})
    return Reply(pieces=[*thoughts, *(chunk({"content": word}) for word in words), end, "data: [DONE]\n\n"])


class UnixServer(socketserver.ThreadingMixIn, socketserver.UnixStreamServer):
    daemon_threads = True


@contextmanager
def routing(replies: dict[str, Reply | list[Reply]], unix: str | None = None) -> Iterator[RouterDouble]:
    """A router double that listens (on loopback, or on the UNIX socket at `unix`) while the block runs."""
    double = RouterDouble({"GET /models": Reply(MODELS), **replies})
    handler = _handler_of(double)
    server: socketserver.BaseServer
    server = UnixServer(unix, handler) if unix else ThreadingHTTPServer(("127.0.0.1", 0), handler)
    if not unix:
        double.url = f"http://127.0.0.1:{server.server_address[1]}"
    thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield double
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def _handler_of(double: RouterDouble) -> type[BaseHTTPRequestHandler]:
    return type("Handler", (_Handler,), {"double": double})


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    double: RouterDouble

    def address_string(self) -> str:
        return "client"  # a UNIX socket's peer has no name

    def log_message(self, format: str, *args: object) -> None:
        pass

    def answer(self) -> None:
        length = int(self.headers.get("content-length") or 0)
        body = json.loads(self.rfile.read(length)) if length else None
        parts = urlsplit(self.path)
        headers = {name.lower(): value for name, value in self.headers.items()}
        asked = Asked(self.command, parts.path, dict(parse_qsl(parts.query)), body, headers)
        self.send(self.double.reply_to(asked))

    do_GET = do_POST = do_DELETE = answer

    def send(self, reply: Reply) -> None:
        if reply.after is not None:
            reply.after.wait(10)
        self.send_response(reply.status)
        if reply.pieces is None:
            payload = reply.body.encode() if isinstance(reply.body, str) else json.dumps(reply.body).encode()
            self.send_header("content-length", str(len(payload)))
            self.end_headers()
            self.wfile.write(payload)
            return
        self.send_header("transfer-encoding", "chunked")
        self.end_headers()
        try:
            self.send_pieces(reply.pieces, reply)
        except ConnectionError:
            self.double.hung_up.set()

    def send_pieces(self, pieces: Sequence[str | bytes], reply: Reply) -> None:
        for piece in pieces:
            data = piece if isinstance(piece, bytes) else piece.encode()
            self.wfile.write(b"%x\r\n%s\r\n" % (len(data), data))
        if reply.hold is not None:
            self.until_client_leaves_or(reply.hold)
        if reply.cut:
            self.close_connection = True
            self.connection.shutdown(socket.SHUT_RDWR)
        else:
            self.wfile.write(b"0\r\n\r\n")

    def until_client_leaves_or(self, hold: Event) -> None:
        self.connection.settimeout(0.02)
        while not hold.is_set():
            try:
                left = not self.connection.recv(1)
            except TimeoutError:
                continue
            if left:
                raise ConnectionResetError("the client has left")
