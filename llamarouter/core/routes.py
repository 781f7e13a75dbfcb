"""The relayed routes: which paths go to a child, by which method, and what they need there.

One more proxied path is one more row here; both doors of the relay and the route table of the application
are made from it. The paths are llama-server's (`tools/server/server.cpp`, build b11434).
"""

from __future__ import annotations

import enum

from msgspec import Struct


class Dialect(enum.Enum):
    """In which shape a stream of this route says that it failed."""

    OPENAI = "openai"  # data: {"error": {...}}
    ANTHROPIC = "anthropic"  # event: error, data: {"type": "error", "error": {...}}
    RESPONSES = "responses"  # event: error, data: {"type": "error", ...}


class Streams(enum.Enum):
    """What body is answered by events."""

    NEVER = "never"
    JSON = "json"  # one whose `stream` is true
    FORM = "form"  # a form whose field `stream` is the word true


class Route(Struct, frozen=True):
    """One relayed path. `slot`: its requests occupy one of the child's slots while they run."""

    path: str
    method: str  # POST (the model is in the body) or GET (the model is in the query)
    slot: bool
    dialect: Dialect = Dialect.OPENAI
    streams: Streams = Streams.NEVER


def _posts(slot: bool, dialect: Dialect, *paths: str, streams: Streams = Streams.NEVER) -> list[Route]:
    return [Route(path, "POST", slot, dialect, streams) for path in paths]


RELAYED: tuple[Route, ...] = (
    *_posts(
        True,
        Dialect.OPENAI,
        "/completion",
        "/completions",
        "/v1/completions",
        "/chat/completions",
        "/v1/chat/completions",
        "/infill",
        streams=Streams.JSON,
    ),
    *_posts(True, Dialect.OPENAI, "/v1/audio/transcriptions", "/audio/transcriptions", streams=Streams.FORM),
    *_posts(
        True,
        Dialect.OPENAI,
        "/embedding",
        "/embeddings",
        "/v1/embeddings",
        "/rerank",
        "/reranking",
        "/v1/rerank",
        "/v1/reranking",
        "/v1/systemone",
    ),
    *_posts(True, Dialect.RESPONSES, "/v1/responses", "/responses", streams=Streams.JSON),
    *_posts(True, Dialect.ANTHROPIC, "/v1/messages", streams=Streams.JSON),
    *_posts(
        False,
        Dialect.OPENAI,
        "/props",
        "/v1/chat/completions/control",
        "/tokenize",
        "/detokenize",
        "/apply-template",
        "/chat/completions/input_tokens",
        "/v1/chat/completions/input_tokens",
        "/responses/input_tokens",
        "/v1/responses/input_tokens",
        "/lora-adapters",
        "/slots/{id_slot}",
    ),
    *_posts(False, Dialect.ANTHROPIC, "/v1/messages/count_tokens"),
    Route("/props", "GET", False),
    Route("/metrics", "GET", False),
    Route("/slots", "GET", False),
    Route("/lora-adapters", "GET", False),
)


def fast_routes(prefix: str = "") -> dict[bytes, Route]:
    """The routes that the fast lane knows, by their target as it comes; `prefix` is before every path.

    Exact paths only: a path with a parameter (`/slots/{id_slot}`) takes the slow door.
    """
    return {
        (prefix + route.path).encode(): route for route in RELAYED if route.method == "POST" and "{" not in route.path
    }
