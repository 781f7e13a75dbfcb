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


def error_event(dialect: Dialect, error: RouterError) -> bytes:
    """The last event of a stream that failed."""
    payload = payload_of(error)
    if dialect is Dialect.OPENAI:
        return b"data: " + msgspec.json.encode({"error": payload}) + b"\n\n"
    rest = {key: value for key, value in payload.items() if key != "type"}
    if dialect is Dialect.ANTHROPIC:
        rest = {"error": {"type": _anthropic_type(error), **rest}}
    return b"event: error\ndata: " + msgspec.json.encode({"type": "error", **rest}) + b"\n\n"


def _anthropic_type(error: RouterError) -> str:
    """Anthropic's words differ for failures of the server: https://docs.anthropic.com/en/api/errors."""
    if error.status == 503:
        return "overloaded_error"
    return "api_error" if error.status >= 500 else error.type
