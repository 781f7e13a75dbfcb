"""How the fake llama-server answers: its routes, the shapes of its answers, and every framing a wire can carry.

The keys of `fake`, in a JSON body or in a header `x-fake`, ask for one kind of answer:
tokens, delay (s), first_delay (s), text: the generation.   status, headers, size (bytes): the answer.
framing: length | chunked | bytes (chunks of one byte) | dribble (written byte by byte) | close (no length, ends with
  the connection) | early (too few bytes, then FIN) | early-chunked | reset (RST in the middle) | extra (bytes behind
  the end) | interim (100 and 103 first) | trailers | conn-close (Connection: close) | none (closed before any byte)
  | one-write (head and body in one write)
raw: these bytes (latin-1) and nothing else; then: "close" or "keep".
pings: only comments, so many seconds apart, for ever.
crash: dies at once. crash_after: dies after so many tokens. wedge: no token comes. echo: the request comes back.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import socket
import struct
import sys
from collections.abc import AsyncIterator, Iterator
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs, urlsplit

if TYPE_CHECKING:
    from fake_llama_server import Fake
    from fake_sessions import Session

pause = asyncio.sleep  # noqa: TID251 (a fake may be slow on purpose)

_METRICS = """\
# HELP llamacpp:tokens_predicted_total Number of generation tokens processed
# TYPE llamacpp:tokens_predicted_total counter
llamacpp:tokens_predicted_total %d
"""


class Reader(asyncio.StreamReader):
    """A reader that tells when the other side is gone, whatever is still unread."""

    def __init__(self, limit: int) -> None:
        super().__init__(limit)
        self.gone = asyncio.Event()

    def feed_eof(self) -> None:
        self.gone.set()
        super().feed_eof()

    def set_exception(self, exc: Exception) -> None:
        self.gone.set()
        super().set_exception(exc)


class Answer:
    """What one answer is asked to look like."""

    def __init__(self, wish: dict[str, Any], body: dict[str, Any]) -> None:
        self.wish = wish
        self.tokens = int(wish.get("tokens", body.get("max_tokens") or body.get("n_predict") or 8))
        self.delay = float(wish.get("delay", 0.0))
        self.framing = str(wish.get("framing", "length"))
        self.status = int(wish.get("status", 200))


class Connection:
    """One client: its requests, one after the other."""

    def __init__(self, fake: Fake) -> None:
        self.fake = fake
        self.session: Session | None = None  # that keeps the answer being made

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        assert isinstance(reader, Reader)
        self.reader, self.writer, self.keep = reader, writer, True
        with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
            while self.keep:
                await self.one_request()
        writer.close()

    async def one_request(self) -> None:
        head = await self.reader.readuntil(b"\r\n\r\n")
        self.first, *lines = head[:-4].decode("latin-1").split("\r\n")
        self.headers = [(k.lower(), v.strip()) for k, _, v in (line.partition(":") for line in lines)]
        self.method, self.target, _ = self.first.split(" ", 2)
        fields = dict(self.headers)
        self.body = await self.read_body(fields)
        if fields.get("connection", "").lower() == "close" or self.first.endswith("HTTP/1.0"):
            self.keep = False
        self.fake.stats["requests"] += 1
        try:
            data = json.loads(self.body) if self.body else {}
        except ValueError:
            data = {}
        self.data = data if isinstance(data, dict) else {}
        wish = {**(self.data.get("fake") or {}), **json.loads(fields.get("x-fake", "{}"))}
        self.answer = Answer(wish, self.data)
        self.conversation = fields.get("x-conversation-id", "")
        await self.route(urlsplit(self.target).path, fields)

    async def read_body(self, fields: dict[str, str]) -> bytes:
        if fields.get("transfer-encoding", "").lower() != "chunked":
            return await self.reader.readexactly(int(fields.get("content-length", "0")))
        parts = []
        while size := int((await self.reader.readline()).split(b";")[0], 16):
            parts.append((await self.reader.readexactly(size + 2))[:-2])
        while (await self.reader.readline()).strip():
            pass
        return b"".join(parts)

    # --- routes -----------------------------------------------------------------------------------------------------

    async def route(self, path: str, fields: dict[str, str]) -> None:
        fake = self.fake
        if fake.flags.fault("wedge") == "hard" and fake.ready:
            await asyncio.Event().wait()
        public = path in ("/health", "/v1/health", "/models", "/v1/models")
        if fake.api_key and not public and fields.get("authorization") != f"Bearer {fake.api_key}":
            await self.error(401, "Invalid API Key", "authentication_error")
            return
        if not fake.ready:
            await self.error(503, "Loading model", "unavailable_error")
            return
        if self.answer.wish.get("crash"):
            fake.die()
        if self.answer.wish.get("echo") or path.startswith("/echo"):
            await self.send(self.echo())
            return
        if path.startswith("/v1/stream"):
            await self.sessions(path)
            return
        if self.method in ("GET", "HEAD"):
            await self.get(path)
            return
        if path.endswith(("tokenize", "count_tokens", "input_tokens", "apply-template")):
            await self.send({"tokens": list(self.body[:64]), "input_tokens": len(self.body)})
            return
        await self.generate(path)
        return

    async def get(self, path: str) -> None:
        fake = self.fake
        known: dict[str, Any] = {
            "/health": {"status": "ok"},
            "/v1/health": {"status": "ok"},
            "/fake/stats": {**fake.stats, "tokens": fake.tokens, "argv": sys.argv, "pid": os.getpid()},
            "/props": {
                "total_slots": fake.slots,
                "default_generation_settings": {"n_ctx": fake.n_ctx},
                "model_path": fake.model,
            },
            "/slots": [
                {"id": n, "n_ctx": fake.n_ctx, "is_processing": n < fake.stats["inside"]} for n in range(fake.slots)
            ],
            "/models": {"object": "list", "data": [fake.info()]},
            "/v1/models": {"object": "list", "data": [fake.info()]},
            "/lora-adapters": [],
            "/metrics": _METRICS % fake.tokens,
        }
        if path == "/props" and (fault := fake.flags.fault("no-props")):
            if fault == "hang":
                await asyncio.Event().wait()
            known.pop("/props")
        if fake.flags.fault("no-metrics"):
            known.pop("/metrics")
        fake.stats["scrapes"] += path == "/metrics"
        if path in known:
            await self.send(known[path])
            if path == "/health" and fake.flags.fault("late-ready-line"):
                fake.tell("ready", fake.info())
        else:
            await self.error(404, "File Not Found", "not_found_error")
        if fake.flags.fault("close-listener"):
            fake.stop_listening()

    async def sessions(self, path: str) -> None:
        """The routes of answers that are kept."""
        known, query = self.fake.sessions, parse_qs(urlsplit(self.target).query)
        if path == "/v1/streams/lookup":
            await self.send(known.found(self.data.get("conversation_ids", [])))
            return
        conversation = query["conv_id"][0]
        session = known.by_id.get(conversation)
        if self.method == "DELETE":
            known.evict(conversation)
            await self.write(b"HTTP/1.1 204 Status\r\n\r\n")
        elif session is None:
            await self.error(404, "File Not Found", "not_found_error")
        elif not query.get("from", ["0"])[0].isdigit():
            await self.error(400, "Invalid 'from' offset", "invalid_request_error")
        else:
            await self.begin("chunked", "text/event-stream", None)
            async for data in session.read(int(query.get("from", ["0"])[0])):
                await self.piece("chunked", data)
            await self.finish("chunked")

    async def generate(self, path: str) -> None:
        fake = self.fake
        stats = fake.stats
        await fake.awake()
        self.session = fake.sessions.begin(self.conversation) if self.conversation else None
        stats["asked_at_once"] += 1
        try:
            async with fake.permits:
                stats["inside"] += 1
                stats["max_inside"] = max(stats["max_inside"], stats["inside"])
                try:
                    await self.until_gone_or_done(path)
                finally:
                    stats["inside"] -= 1
        finally:
            stats["asked_at_once"] -= 1

    async def until_gone_or_done(self, path: str) -> None:
        """Generate until the client leaves, as llama-server does with streams; one with a session, until it is told."""
        streamed = self.data.get("stream") is True
        work = asyncio.ensure_future(self.stream(path) if streamed else self.whole(path))
        end = self.session.cancelled if self.session is not None and streamed else self.reader.gone
        gone = asyncio.ensure_future(end.wait())
        await asyncio.wait({work, gone}, return_when=asyncio.FIRST_COMPLETED)
        gone.cancel()
        if not work.done():
            self.fake.stats["cancelled"] += 1
            work.cancel()
            if self.session is not None and not self.reader.gone.is_set():
                await self.finish("chunked")
                return
            raise ConnectionResetError
        work.result()

    async def texts(self) -> AsyncIterator[str]:
        wish, fake = self.answer.wish, self.fake
        await pause(float(wish.get("first_delay", 0)))
        for n in range(self.answer.tokens):
            if wish.get("wedge"):
                await asyncio.Event().wait()
            if "crash_after" in wish and n >= wish["crash_after"]:
                fake.die()
            await fake.token(self.answer.delay or fake.flags.number("token-seconds"))
            yield wish.get("text", f"{fake.alias}-{n} ")

    async def whole(self, path: str) -> None:
        self.fake.flood()
        text = "".join([text async for text in self.texts()])
        if "size" in self.answer.wish:
            text = "x" * int(self.answer.wish["size"])
        await self.send(whole_answer(path, self.fake.alias, text, self.answer.tokens))

    async def stream(self, path: str) -> None:
        self.fake.flood()
        framing = self.answer.framing if self.answer.framing != "length" else "chunked"
        events = stream_events(path, self.fake.alias)
        await self.begin(framing, "text/event-stream", None)
        sent = 0
        while (seconds := self.answer.wish.get("pings")) is not None:
            await self.piece(framing, b":\n\n")
            await pause(seconds)
        async for text in self.texts():
            await self.piece(framing, events(text))
            sent += 1
            if framing in ("early", "early-chunked", "reset") and sent > self.answer.tokens // 2:
                await self.break_off(framing)
                return
        for last in last_events(path, self.fake.alias, self.answer.tokens):
            await self.piece(framing, last)
        await self.finish(framing)

    def echo(self) -> dict[str, Any]:
        return {
            "first": self.first,
            "headers": self.headers,
            "body": self.body.decode("latin-1"),
            "query": parse_qs(urlsplit(self.target).query),
        }

    # --- bytes ------------------------------------------------------------------------------------------------------

    async def error(self, status: int, message: str, kind: str) -> None:
        self.answer.status = status
        await self.send({"error": {"code": status, "message": message, "type": kind}})

    async def send(self, value: object) -> None:
        body, framing = (value if isinstance(value, str) else json.dumps(value)).encode(), self.answer.framing
        if "raw" in self.answer.wish:
            await self.write(self.answer.wish["raw"].encode("latin-1"))
            self.keep = self.keep and self.answer.wish.get("then", "close") == "keep"
            return
        what = "text/plain; version=0.0.4" if isinstance(value, str) else "application/json; charset=utf-8"
        head = self.head(framing, what, len(body))
        if framing == "one-write" and self.method != "HEAD":
            await self.write(head + body)
            return
        if framing == "none":
            self.keep = False
            return
        await self.write(head)
        if self.method == "HEAD":
            return
        if framing in ("early", "early-chunked", "reset"):
            await self.piece(framing, body[: len(body) // 2])
            await self.break_off(framing)
            return
        await self.piece(framing, body)
        await self.finish(framing)

    async def begin(self, framing: str, kind: str, size: int | None) -> None:
        if framing == "none":
            self.keep = False
            raise ConnectionResetError
        await self.write(self.head(framing, kind, size))

    def head(self, framing: str, kind: str, size: int | None) -> bytes:
        rows = [f"HTTP/1.1 {self.answer.status} Status", "Server: llama.cpp", f"Content-Type: {kind}"]
        rows += ["Access-Control-Allow-Origin: ", "Keep-Alive: timeout=5, max=100"]
        if framing in ("chunked", "bytes", "early-chunked", "trailers") or (size is None and framing != "close"):
            rows.append("Transfer-Encoding: chunked")
        elif framing != "close":
            rows.append(f"Content-Length: {size}")
        if framing in ("conn-close", "close"):
            rows.append("Connection: close")
            self.keep = False
        rows += [f"{name}: {value}" for name, value in (self.answer.wish.get("headers") or {}).items()]
        before = b""
        if framing == "interim":
            before = b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n"
        self.chunked = "Transfer-Encoding: chunked" in rows
        return before + "\r\n".join(rows).encode("latin-1") + b"\r\n\r\n"

    async def piece(self, framing: str, data: bytes) -> None:
        if (session := self.session) is not None:
            session.append(data)
        parts: Iterator[bytes] = iter([data])
        if framing == "bytes":
            parts = (data[n : n + 1] for n in range(len(data)))
        for part in parts:
            await self.write(b"%x\r\n%b\r\n" % (len(part), part) if self.chunked else part)

    async def finish(self, framing: str) -> None:
        if self.session is not None:
            self.session.finish()
        if self.chunked:
            await self.write(b"0\r\nx-trailer: yes\r\n\r\n" if framing == "trailers" else b"0\r\n\r\n")
        if framing == "extra":
            await self.write(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nextra")

    async def break_off(self, framing: str) -> None:
        self.keep = False
        if framing == "reset":
            raw = self.writer.get_extra_info("socket")
            raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            self.writer.transport.abort()

    async def write(self, data: bytes) -> None:
        if self.answer.framing == "dribble":
            for n in range(len(data)):
                self.writer.write(data[n : n + 1])
                await pause(0)
        else:
            self.writer.write(data)
        await self.writer.drain()


# --- the shapes of answers ------------------------------------------------------------------------------------------


def usage(tokens: int) -> dict[str, Any]:
    return {"completion_tokens": tokens, "prompt_tokens": 5, "total_tokens": 5 + tokens}


def timings(tokens: int) -> dict[str, Any]:
    return {
        "prompt_n": 5,
        "prompt_ms": 1.0,
        "predicted_n": tokens,
        "predicted_ms": 10.0,
        "predicted_per_second": 100.0 * tokens,
    }


def whole_answer(path: str, model: str, text: str, tokens: int) -> dict[str, Any]:
    if "embedding" in path:
        data = [{"object": "embedding", "index": 0, "embedding": [0.0, 1.0]}]
        return {"object": "list", "model": model, "data": data, "usage": {"prompt_tokens": 5, "total_tokens": 5}}
    if "rerank" in path:
        return {
            "model": model,
            "results": [{"index": 0, "relevance_score": 0.5}],
            "usage": {"prompt_tokens": 5, "total_tokens": 5},
        }
    if "messages" in path:
        content = [{"type": "text", "text": text}]
        use = {"input_tokens": 5, "output_tokens": tokens}
        return {
            "id": "msg_1",
            "type": "message",
            "role": "assistant",
            "model": model,
            "content": content,
            "stop_reason": "end_turn",
            "usage": use,
        }
    if "chat" in path:
        choice = {"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": text}}
        return {
            "id": "c-1",
            "object": "chat.completion",
            "created": 1,
            "model": model,
            "choices": [choice],
            "usage": usage(tokens),
            "timings": timings(tokens),
        }
    if path.startswith("/v1/completions"):
        choice = {"index": 0, "finish_reason": "stop", "text": text}
        return {
            "id": "c-1",
            "object": "text_completion",
            "created": 1,
            "model": model,
            "choices": [choice],
            "usage": usage(tokens),
        }
    return {"content": text, "model": model, "stop": True, "tokens_predicted": tokens, "timings": timings(tokens)}


def sse(value: object, event: str = "") -> bytes:
    return (f"event: {event}\n" if event else "").encode() + b"data: " + json.dumps(value).encode() + b"\n\n"


def stream_events(path: str, model: str) -> Any:
    """Make the event of one token, in the dialect of the route."""
    if "messages" in path:
        return lambda text: sse(
            {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": text}},
            "content_block_delta",
        )
    if "responses" in path:
        return lambda text: sse({"type": "response.output_text.delta", "delta": text}, "response.output_text.delta")
    if "chat" in path:
        head = {"id": "c-1", "object": "chat.completion.chunk", "created": 1, "model": model}
        return lambda text: sse({**head, "choices": [{"index": 0, "finish_reason": None, "delta": {"content": text}}]})
    return lambda text: sse({"content": text, "stop": False})


def last_events(path: str, model: str, tokens: int) -> list[bytes]:
    if "messages" in path:
        return [sse({"type": "message_stop"}, "message_stop")]
    if "responses" in path:
        return [
            sse({"type": "response.completed", "response": {"usage": {"output_tokens": tokens}}}, "response.completed")
        ]
    if "chat" in path:
        head = {"id": "c-1", "object": "chat.completion.chunk", "created": 1, "model": model}
        end = {
            **head,
            "choices": [{"index": 0, "finish_reason": "stop", "delta": {}}],
            "usage": usage(tokens),
            "timings": timings(tokens),
        }
        return [sse(end), b"data: [DONE]\n\n"]
    return [sse({"content": "", "stop": True, "tokens_predicted": tokens, "timings": timings(tokens)})]
