"""CORS as llama-server's router has it by default: any origin is told that it may read the answer.

Credentials are not allowed together with any origin: a page of a stranger could then use a browser's stored key.
"""

from __future__ import annotations

from starlette.responses import Response


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


def cors_block(origin: bytes | None) -> bytes:
    """The same headers as lines of an answer's head, for the fast lane."""
    return b"" if origin is None else b"access-control-allow-origin: " + origin + b"\r\nvary: Origin\r\n"
