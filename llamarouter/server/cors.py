"""CORS as llama-server's router has it by default: any origin is told that it may read the answer.

Credentials are not allowed together with any origin: a page of a stranger could then use a browser's stored key.
"""

from __future__ import annotations

from starlette.responses import Response

from llamarouter.core.wire import Headers, header_of


def cors_headers(origin: bytes | None) -> list[tuple[bytes, bytes]]:
    """The headers for an answer to a request of `origin`; none for a request that has no origin."""
    if origin is None:
        return []
    return [(b"access-control-allow-origin", origin), (b"vary", b"Origin")]


def answer_to_options() -> Response:
    """The answer to any OPTIONS: 200, empty, without a key."""
    return Response(
        headers={
            "access-control-allow-methods": "GET, POST, DELETE, OPTIONS",
            "access-control-allow-headers": "*",
        },
        media_type="text/html",
    )


def cors_lines(headers: Headers) -> bytes:
    """The same for a request's headers, as lines of an answer's head: what the relay writes itself."""
    return b"".join(b"%b: %b\r\n" % pair for pair in cors_headers(header_of(headers, b"origin")))
