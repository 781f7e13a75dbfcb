"""Server-sent events: where one ends, and how a stream says, in its own dialect, that it failed.

A stream that breaks is cut behind its last whole event: a client that finds an error event inside a torn one
sees malformed JSON instead of the error.
"""

from __future__ import annotations

import msgspec

from llamarouter.core.errors import RouterError, payload_of
from llamarouter.core.routes import Dialect

_ENDS = (b"\n\n", b"\r\n\r\n", b"\r\r")


def end_of_events(data: bytes) -> int:
    """The offset just behind the last whole event in `data`; 0 if there is none."""
    if data.endswith(b"\n\n"):  # what llama-server writes
        return len(data)
    return max(data.rfind(end) + len(end) if end in data else 0 for end in _ENDS)


def comment(words: str) -> bytes:
    """A comment, which every reader of events skips. The words are one line."""
    return b": %b\n\n" % words.encode()


def error_event(dialect: Dialect, error: RouterError) -> bytes:
    """The last event of a stream that failed."""
    return _event_of(dialect, error.status, payload_of(error))


def answered_error_event(dialect: Dialect, status: int, body: bytes) -> bytes:
    """The last event of a stream that was begun before the model's process answered something else than a stream."""
    try:
        said = msgspec.json.decode(body, type=_ErrorBody).error
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        said = {}
    failed = status if status >= 400 else 502
    message = f"the model's process answered {status}, and no stream"
    return _event_of(dialect, failed, {"code": failed, "message": message, "type": "server_error"} | said)


class _ErrorBody(msgspec.Struct):
    error: dict[str, object]


def _event_of(dialect: Dialect, status: int, payload: dict[str, object]) -> bytes:
    if dialect is Dialect.OPENAI:
        return b"data: " + msgspec.json.encode({"error": payload}) + b"\n\n"
    rest = {key: value for key, value in payload.items() if key != "type"}
    if dialect is Dialect.ANTHROPIC:
        rest = {"error": {"type": _anthropic_type(status, payload["type"]), **rest}}
    return b"event: error\ndata: " + msgspec.json.encode({"type": "error", **rest}) + b"\n\n"


def _anthropic_type(status: int, kind: object) -> object:
    """Anthropic's words differ for failures of the server: https://docs.anthropic.com/en/api/errors."""
    if status == 503:
        return "overloaded_error"
    return "api_error" if status >= 500 else kind
