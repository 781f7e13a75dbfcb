"""Rows that are one request each: the router's own endpoints, and what is refused on the way to a model."""

from __future__ import annotations

from tests.reference.row import ENDPOINTS, MODELS, PAGE, RELAYED, Rows
from tests.reference.side import model_query

ASKED = Rows()
_ask = ASKED.ask

_ORIGIN = {"Origin": "http://elsewhere.example"}

for _path in ("/health", "/v1/health"):
    _ask(ENDPOINTS, f"GET {_path}", "GET", _path)
_ask(ENDPOINTS, "HEAD /health", "HEAD", "/health")
_ask(ENDPOINTS, "an unknown path", "GET", "/nowhere")
_ask(ENDPOINTS, "POST to an unknown path", "POST", "/nowhere", {})
_ask(ENDPOINTS, "a wrong method", "DELETE", "/health")
_ask(ENDPOINTS, "GET of a POST route", "GET", "/v1/chat/completions")
_ask(ENDPOINTS, "PUT", "PUT", "/models", {})
_ask(ENDPOINTS, "OPTIONS with an origin", "OPTIONS", "/v1/chat/completions", headers=_ORIGIN)
_ask(ENDPOINTS, "OPTIONS without an origin", "OPTIONS", "/anything")
_ask(ENDPOINTS, "an origin is reflected", "GET", "/health", headers=_ORIGIN)
_ask(ENDPOINTS, "a stranger's page administers", "POST", "/models/unload", {"model": "nowhere"}, headers=_ORIGIN)
_ask(ENDPOINTS, "GET /props", "GET", "/props")
_ask(ENDPOINTS, "GET /props?autoload=false", "GET", "/props?autoload=false")
_ask(ENDPOINTS, "GET /tools", "GET", "/tools")
_ask(ENDPOINTS, "POST /tools", "POST", "/tools", {"tool": "x"})
_ask(ENDPOINTS, "GET /cors-proxy", "GET", "/cors-proxy?url=http://127.0.0.1/")
_ask(ENDPOINTS, "POST /cors-proxy", "POST", "/cors-proxy?url=http://127.0.0.1/", {})
_ask(ENDPOINTS, "GET /metrics without a model", "GET", "/metrics")
_ask(ENDPOINTS, "GET /slots without a model", "GET", "/slots")
_ask(ENDPOINTS, "GET /lora-adapters without a model", "GET", "/lora-adapters")
_ask(ENDPOINTS, "POST /lora-adapters with its array", "POST", "/lora-adapters", [{"id": 0, "scale": 0.5}])
_ask(ENDPOINTS, "a target that is too long", "GET", "/health?" + "x" * 40000)
_ask(ENDPOINTS, "a header that is too long", "GET", "/health", headers={"X-Long": "x" * 10000})
_ask(ENDPOINTS, "GET /v1/models/{id}", "GET", "/v1/models/nowhere")
_ask(PAGE, "GET / of an engine without a page", "GET", "/")
_ask(PAGE, "GET /index.html of an engine without a page", "GET", "/index.html")

_ask(MODELS, "load: unknown", "POST", "/models/load", {"model": "nowhere"})
_ask(MODELS, "load: no model", "POST", "/models/load", {})
_ask(MODELS, "load: a number", "POST", "/models/load", {"model": 1})
_ask(MODELS, "load: not JSON", "POST", "/models/load", b"{")
_ask(MODELS, "load: an array", "POST", "/models/load", [])
_ask(MODELS, "unload: unknown", "POST", "/models/unload", {"model": "nowhere"})
_ask(MODELS, "unload: not running", "POST", "/models/unload", {"model": "beta"})
_ask(MODELS, "unload: no model", "POST", "/models/unload", {})
_ask(MODELS, "download: no model", "POST", "/models", {})
_ask(MODELS, "download: an empty name", "POST", "/models", {"model": ""})
_ask(MODELS, "download: not a repository's name", "POST", "/models", {"model": "no-slash"})
_ask(MODELS, "download: is here already", "POST", "/models", {"model": "user/repo:Q8_0"})
_ask(MODELS, "delete: no model", "DELETE", "/models")
_ask(MODELS, "delete: unknown", "DELETE", "/models?model=nowhere")
_ask(MODELS, "delete: not from the cache", "DELETE", "/models?model=beta")

_ask(ENDPOINTS, "GET /v1/stream without an id", "GET", "/v1/stream")
_ask(ENDPOINTS, "GET /v1/stream of an unknown id", "GET", "/v1/stream?conv_id=nobody")
_ask(ENDPOINTS, "lookup of unknown ids", "POST", "/v1/streams/lookup", {"conversation_ids": ["nobody"]})
_ask(ENDPOINTS, "lookup: a wrong body", "POST", "/v1/streams/lookup", b"nonsense")
_ask(ENDPOINTS, "lookup: no list", "POST", "/v1/streams/lookup", {"conversation_ids": 3})
_ask(ENDPOINTS, "DELETE /v1/stream without an id", "DELETE", "/v1/stream")
_ask(ENDPOINTS, "DELETE /v1/stream of an unknown id", "DELETE", "/v1/stream?conv_id=nobody")

_CHAT = "/v1/chat/completions"
_SAY = [{"role": "user", "content": "x"}]
_ask(RELAYED, "unknown model", "POST", _CHAT, {"model": "nowhere", "messages": _SAY})
_ask(RELAYED, "no model", "POST", _CHAT, {"messages": _SAY})
_ask(RELAYED, "model null", "POST", _CHAT, {"model": None, "messages": _SAY})
_ask(RELAYED, "model a number", "POST", _CHAT, {"model": 7, "messages": _SAY})
_ask(RELAYED, "model empty", "POST", _CHAT, {"model": "", "messages": _SAY})
_ask(RELAYED, "body an array", "POST", _CHAT, [])
_ask(RELAYED, "body not JSON", "POST", _CHAT, b'{"model": "alpha",')
_ask(RELAYED, "body empty", "POST", _CHAT, b"")
_ask(RELAYED, "autoload=false", "POST", _CHAT + "?autoload=false", {"model": "beta", "messages": _SAY})
_ask(RELAYED, "autoload=0", "POST", _CHAT + "?autoload=0", {"model": "beta", "messages": _SAY})
_ask(RELAYED, "the model in the query of a POST", "POST", "/tokenize?model=alpha", {"content": "the"})
_ask(RELAYED, "GET of an unknown model", "GET", "/props" + model_query("nowhere"))
_ask(RELAYED, "GET, autoload=false", "GET", "/props" + model_query("beta") + "&autoload=false")
_ask(RELAYED, "messages of an unknown model", "POST", "/v1/messages", {"model": "nowhere", "messages": _SAY})
_ask(RELAYED, "responses of an unknown model", "POST", "/v1/responses", {"model": "nowhere", "input": "x"})
