"""Rows on a router below a prefix, with a key, origins of the operator's, and settings for the page."""

from __future__ import annotations

from tests.reference.row import COMMAND_LINE, ENDPOINTS, PAGE, RELAYED, Rows
from tests.reference.seen import Seen
from tests.reference.side import Side

BELOW = Rows()
PREFIX = "/below"
ARGUMENTS = (
    *("--models-dir", "models", "--offline", "--api-prefix", PREFIX, "--api-key", "key", "--no-ui"),
    *("--cors-origins", "localhost", "--cors-methods", "GET, POST", "--cors-headers", "X-One"),
    *("--no-cors-credentials", "--ui-config", '{"theme": "dark"}'),
)

_ask = BELOW.ask
_KEY = {"Authorization": "Bearer key"}
_FROM_HERE = {"Origin": "http://localhost:3000"}
_FROM_ELSEWHERE = {"Origin": "http://elsewhere.example"}

_ask(ENDPOINTS, "below a prefix: /health", "GET", "/health")
_ask(ENDPOINTS, "below a prefix: /v1/models/{id}", "GET", "/v1/models/nowhere", headers=_KEY)
_ask(ENDPOINTS, "below a prefix: an unknown path", "GET", "/nowhere", headers=_KEY)
_ask(COMMAND_LINE, "what the page is told", "GET", "/props", headers=_KEY)
_ask(PAGE, "below a prefix without a page: /", "GET", "/", headers=_KEY)
_ask(PAGE, "below a prefix without a page: /sw.js", "GET", "/sw.js", headers=_KEY)
_ask(ENDPOINTS, "origins of this machine: from here", "GET", "/health", headers={**_KEY, **_FROM_HERE})
_ask(ENDPOINTS, "origins of this machine: from elsewhere", "GET", "/health", headers={**_KEY, **_FROM_ELSEWHERE})
_ask(ENDPOINTS, "origins of this machine: OPTIONS from here", "OPTIONS", "/models", headers=_FROM_HERE)
_ask(ENDPOINTS, "origins of this machine: OPTIONS from elsewhere", "OPTIONS", "/models", headers=_FROM_ELSEWHERE)
_ask(RELAYED, "below a prefix", "POST", "/tokenize", {"model": "alpha", "content": "the"}, headers=_KEY)


@BELOW.row(ENDPOINTS, "a path without its prefix")
def _without(side: Side) -> Seen:
    prefix, side.prefix = side.prefix, ""
    try:
        return side.see("GET", "/health", headers=_KEY)
    finally:
        side.prefix = prefix


@BELOW.row(RELAYED, "below a prefix an answer is taken up again")
def _resumed(side: Side) -> Seen:
    body = {"model": "alpha", "prompt": "the", "n_predict": 3, "stream": True}
    first = side.ask("POST", "/completion", body, headers={**_KEY, "X-Conversation-Id": "talk"})
    again = side.ask("GET", "/v1/stream?conv_id=talk&from=0", headers=_KEY)
    return {"first": first.status, "again": again.status, "same": first.body == again.body}
