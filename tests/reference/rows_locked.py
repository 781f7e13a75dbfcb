"""Rows on a router with keys, a page of the operator's, autoload off, and a UNIX socket beside its port."""

from __future__ import annotations

import os

from tests.reference.row import COMMAND_LINE, ENDPOINTS, PAGE, RELAYED, Rows
from tests.reference.seen import Seen
from tests.reference.side import Side

LOCKED = Rows()
ARGUMENTS = (
    *("--models-dir", "models", "--offline", "--no-models-autoload", "--path", "page"),
    *("--api-key", "key-a,key-b", "--api-key-file", "keys", "--host", "127.0.0.1,side.sock"),
)
ENVIRON = {"LLAMA_API_KEY": "key-of-the-environment"}

_ask = LOCKED.ask
_NO_KEY = {"Authorization": ""}

for _what, _headers in {
    "no key": {},
    "a wrong key": {"Authorization": "Bearer wrong"},
    "the first key": {"Authorization": "Bearer key-a"},
    "the second key": {"Authorization": "Bearer key-b"},
    "the key of the file": {"Authorization": "Bearer key-of-the-file"},
    "the key of the environment": {"Authorization": "Bearer key-of-the-environment"},
    "a key without Bearer": {"Authorization": "key-a"},
    "a key in X-Api-Key": {"X-Api-Key": "key-a"},
    "a key in X-Api-Key with Bearer": {"X-Api-Key": "Bearer key-a"},
}.items():
    _ask(COMMAND_LINE, f"keys: {_what}", "GET", "/props", headers=_headers)

for _path in ("/health", "/v1/health", "/models", "/v1/models", "/metrics", "/models/sse", "/slots", "/nowhere"):
    _ask(ENDPOINTS, f"without a key: {_path}", "GET", _path)
_ask(ENDPOINTS, "without a key: OPTIONS", "OPTIONS", "/models")
_ask(
    ENDPOINTS, "a page elsewhere where there are keys", "GET", "/health", headers={"Origin": "http://elsewhere.example"}
)

for _path in ("/", "/index.html", "/app.js", "/style.css", "/manifest.webmanifest", "/sw.js", "/nowhere.js"):
    _ask(PAGE, f"a folder's page without a key: {_path}", "GET", _path)
    _ask(PAGE, f"a folder's page: {_path}", "GET", _path, headers={"Authorization": "Bearer key-a"})
_ask(PAGE, "a file outside of the folder", "GET", "/../models.ini", headers={"Authorization": "Bearer key-a"})

_KEY = {"Authorization": "Bearer key-a"}
_BODY = {"model": "alpha", "content": "the"}
_ask(RELAYED, "autoload is off", "POST", "/tokenize", _BODY, headers=_KEY)
_ask(RELAYED, "autoload is off, ?autoload=1", "POST", "/tokenize?autoload=1", _BODY, headers=_KEY)
_ask(RELAYED, "autoload is off, the model is loaded", "POST", "/tokenize", _BODY, headers=_KEY)
_ask(RELAYED, "no key", "POST", "/tokenize", _BODY)


@LOCKED.row(COMMAND_LINE, "a socket beside a port")
def _socket(side: Side) -> Seen:
    path = os.path.join(side.root, "side.sock")
    answer = side.over_socket(path, "/health")
    return side.normalizer.answer(answer.status, answer.headers, answer.body)
