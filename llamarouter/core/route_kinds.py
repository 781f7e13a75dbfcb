"""Route kinds: a dozen words for all paths, by which requests are counted.

A path that a client has made up is `other`: nobody can make more series than there are words here.
"""

from __future__ import annotations

from collections.abc import Mapping

OTHER = "other"

_BY_KIND: Mapping[str, tuple[str, ...]] = {
    "chat": ("/chat/completions", "/v1/chat/completions"),
    "completion": ("/completion", "/completions", "/v1/completions"),
    "infill": ("/infill",),
    "responses": ("/v1/responses", "/responses"),
    "messages": ("/v1/messages",),
    "embedding": ("/embedding", "/embeddings", "/v1/embeddings"),
    "rerank": ("/rerank", "/reranking", "/v1/rerank", "/v1/reranking"),
    "audio": ("/v1/audio/transcriptions", "/audio/transcriptions"),
    "systemone": ("/v1/systemone",),
    "tokens": (
        "/tokenize",
        "/detokenize",
        "/apply-template",
        "/chat/completions/input_tokens",
        "/v1/chat/completions/input_tokens",
        "/responses/input_tokens",
        "/v1/responses/input_tokens",
        "/v1/messages/count_tokens",
    ),
    "child": ("/props", "/slots", "/slots/{id_slot}", "/lora-adapters", "/v1/chat/completions/control"),
    "metrics": ("/metrics",),
    "stream": ("/v1/stream", "/v1/streams/lookup"),
    "models": (
        "/models",
        "/v1/models",
        "/v1/models/{id:path}",
        "/models/load",
        "/models/unload",
        "/models/reload",
    ),
    "events": ("/models/sse",),
    "health": ("/health", "/v1/health", "/livez", "/readyz"),
    "page": ("/",),
}
_BY_PATH = {path: kind for kind, paths in _BY_KIND.items() for path in paths}
_OURS = "/lr/"

KINDS = (*_BY_KIND, "lr", OTHER)


def kind_of(path: str) -> str:
    """The word for a path as it stands in the table of routes."""
    return _BY_PATH.get(path) or ("lr" if path.startswith(_OURS) else OTHER)
