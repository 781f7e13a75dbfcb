"""What of an HTTP message's head crosses the router, in both directions.

Towards the child goes every end-to-end header but credentials, cookies and what belongs to the client's own
connection; the framing is always ours (one `content-length`), which alone ends request smuggling. Towards the
client goes every end-to-end header but `server` and CORS, which the door says itself. Header names that carry an
underscore never pass: some servers read `Content_Length` as `Content-Length`.
"""

from __future__ import annotations

from collections.abc import Iterable
from http import HTTPStatus

from msgspec import Struct
from msgspec.structs import replace

from llamarouter.core.errors import RouterError, body_of, headers_of

Headers = list[tuple[bytes, bytes]]  # names in lower case, as ASGI has them

_HOP_BY_HOP = (
    b"connection",
    b"keep-alive",
    b"proxy-authenticate",
    b"proxy-authorization",
    b"proxy-connection",
    b"te",
    b"trailer",
    b"transfer-encoding",
    b"upgrade",
)
_KEPT_FROM_CHILD = frozenset(
    (
        *_HOP_BY_HOP,
        b"content-length",  # ours says it again
        b"authorization",
        b"x-api-key",
        b"cookie",
        b"origin",
        b"host",
        b"accept-encoding",
        b"expect",
        b"forwarded",
        b"http2-settings",
        b"x-request-id",  # ours says it again, where the client's can be said
    )
)
_SPECIAL_IN_ANSWER = frozenset((*_HOP_BY_HOP, b"content-length", b"content-type", b"server", b"x-request-id"))


class BrokenAnswerError(Exception):
    """What the child sent is not an HTTP answer that can be passed on."""


class AnswerHead(Struct):
    """The head of a child's answer, ready to be said again at the door."""

    status: int
    status_line: bytes  # without the line's end
    lines: list[bytes]  # the headers that pass, as they came, without framing
    length: int | None  # of the body in bytes; None: chunked
    reusable: bool  # the child keeps the connection open behind this answer
    event_stream: bool
    said: bytes | None = None  # the status line and the lines, each ended, once they were joined

    def headers(self) -> Headers:
        """The headers as ASGI has them, the body's length included."""
        pairs = [line.partition(b":")[::2] for line in self.lines]
        headers = [(name.lower(), value.strip()) for name, value in pairs]
        if self.length is not None and self.status not in (204, 304):
            headers.append((b"content-length", b"%d" % self.length))
        return headers


def header_of(headers: Iterable[tuple[bytes, bytes]], wanted: bytes) -> bytes | None:
    """The first value of a header; `wanted` in lower case."""
    for name, value in headers:
        if name == wanted:
            return value
    return None


def tokens_of(value: bytes) -> list[bytes]:
    """The members of a comma-separated header, in lower case."""
    return [token.strip().lower() for token in value.split(b",")]


def head_start_for_child(method: bytes, target: bytes, headers: Headers) -> bytes:
    """The head of the request to the child as far as it is the same for every body and every child."""
    parts = [b"%b %b HTTP/1.1\r\nhost: localhost\r\n" % (method, target)]
    dropped: frozenset[bytes] | set[bytes] = _KEPT_FROM_CHILD
    for name, value in headers:
        if name == b"connection" and len(value) > 10:  # longer than "keep-alive": it may name other headers
            dropped = dropped | set(tokens_of(value))
    for name, value in headers:
        if name not in dropped and b"_" not in name and name[:12] != b"x-forwarded-":
            parts.append(b"%b: %b\r\n" % (name, value))
    return b"".join(parts)


def own_lines_for_child(api_key: str | None, *, close: bool = False) -> bytes:
    """What the router itself says to a child: the child's own key, and whether the answer is to be the last one."""
    authorization = b"" if api_key is None else b"authorization: Bearer %b\r\n" % api_key.encode()
    return authorization + b"connection: close\r\n" if close else authorization


# A request with a body as it goes to a child: the start of its head, the router's own lines, what it is called, the
# length of the body, the body. As a pattern, because nearly every request goes through it.
WITH_BODY = b"%b%bx-request-id: %b\r\ncontent-length: %d\r\n\r\n%b"


def head_for_child(start: bytes, body_length: int | None, own_lines: bytes = b"", id: bytes = b"") -> bytes:
    """The whole head of the request to the child.

    `body_length`: None for a request that has no body (GET, HEAD). `own_lines`: of `own_lines_for_child`. `id`: what
    the request is called.
    """
    named = b"x-request-id: %b\r\n" % id if id else b""
    length = b"" if body_length is None else b"content-length: %d\r\n" % body_length
    return b"%b%b%b%b\r\n" % (start, own_lines, named, length)


def answer_head_of(head: bytes, *, head_only: bool) -> AnswerHead:
    """Read the head of an answer (all before its empty line). `head_only`: it answers a HEAD request.

    Raises `BrokenAnswerError`, also for an answer that only the end of the connection would end: its end could
    not be told from the death of the child.
    """
    status_line, *lines = head.split(b"\r\n")
    status = _status_of(status_line)
    if head.count(b"\n") != len(lines):
        raise BrokenAnswerError("a line of its head does not end in CRLF")
    answer = AnswerHead(status, status_line, [], None, status_line.startswith(b"HTTP/1.1"), False)
    chunked = False
    for line in lines:
        name, colon, value = line.partition(b":")
        name = name.lower()
        if name not in _SPECIAL_IN_ANSWER:
            if not colon or name[:1] in (b" ", b"\t", b""):
                raise BrokenAnswerError("its head has a line that is no header")
            if name[:15] != b"access-control-":
                answer.lines.append(line)
        elif name == b"content-type":
            answer.lines.append(line)
            answer.event_stream = value.strip()[:17].lower() == b"text/event-stream"
        elif name == b"content-length":
            answer.length = _length_of(value.strip(), answer.length)
        elif name == b"transfer-encoding":
            chunked = _is_chunked(value)
        elif name == b"connection" and b"close" in tokens_of(value):
            answer.reusable = False
    _settle_framing(answer, chunked=chunked, head_only=head_only)
    return answer


def answer_lines_of(head: AnswerHead, *, chunked: bool) -> bytes:
    """The head as it goes to an HTTP/1.1 client, each line ended, without the empty line.

    `chunked`: the body, whose length is not known, is chunked; else the end of the connection ends it.
    """
    if head.said is None:
        head.said = b"".join(b"%b\r\n" % line for line in (head.status_line, *head.lines))
    if head.length:
        return b"%bcontent-length: %d\r\n" % (head.said, head.length)
    if head.length is None:
        return head.said + (b"transfer-encoding: chunked\r\n" if chunked else b"")
    return head.said + (b"" if head.status in (204, 304) else b"content-length: 0\r\n")


def event_stream_head() -> AnswerHead:
    """The head of a stream that the router begins before the child does."""
    # nginx would keep it back otherwise.
    lines = [b"content-type: text/event-stream", b"cache-control: no-cache", b"x-accel-buffering: no"]
    return AnswerHead(200, b"HTTP/1.1 200 OK", lines, None, reusable=False, event_stream=True)


def with_lines(head: AnswerHead, lines: Iterable[bytes]) -> AnswerHead:
    """A head with more headers; the one that came may be used again, for another answer."""
    return replace(head, lines=[*head.lines, *lines], said=None)


def error_answer_of(error: RouterError) -> tuple[bytes, bytes]:
    """The head (without the empty line) and the body of an answer that is an error."""
    body = body_of(error)
    lines = [b"HTTP/1.1 %d %b\r\n" % (error.status, HTTPStatus(error.status).phrase.encode())]
    lines += [b"%b: %b\r\n" % pair for pair in headers_of(error)]
    lines.append(b"content-length: %d\r\n" % len(body))
    return b"".join(lines), body


def _status_of(status_line: bytes) -> int:
    code = status_line[9:12]
    if status_line[:8] not in (b"HTTP/1.1", b"HTTP/1.0") or not code.isdigit() or len(code) != 3:
        raise BrokenAnswerError("it does not begin with an HTTP status line")
    return int(code)


def _length_of(value: bytes, earlier: int | None) -> int:
    if not value.isdigit() or len(value) > 18 or (earlier is not None and earlier != int(value)):
        raise BrokenAnswerError("its content-length is not one number")
    return int(value)


def _is_chunked(value: bytes) -> bool:
    if value.strip().lower() != b"chunked":
        raise BrokenAnswerError("its transfer-encoding is not chunked")
    return True


def _settle_framing(answer: AnswerHead, *, chunked: bool, head_only: bool) -> None:
    if chunked and answer.length is not None:
        raise BrokenAnswerError("it has both a content-length and a transfer-encoding")
    if answer.status < 200 or answer.status in (204, 304):
        answer.length = 0
    elif answer.length is None and not chunked and not head_only:
        raise BrokenAnswerError("its length is not said")
