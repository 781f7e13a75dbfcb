"""May this key do that? Which models a key sees, and which routes it may use.

Whoever looks at a request as it comes in asks here, and nobody else decides. Every route that is not on a list here
needs an administrator: a new one is closed until somebody writes it down.
"""

from __future__ import annotations

import enum
import re
import unicodedata
from collections.abc import Callable
from fnmatch import translate

from llamarouter.core.errors import Forbidden
from llamarouter.core.routes import RELAYED


class Right(enum.Enum):
    """What a route asks of who comes."""

    PUBLIC = "public"  # nothing
    USE = "use"  # any key that may use models
    METRICS = "metrics"  # a key that reads metrics, or administers
    ADMIN = "admin"  # a key that administers


# Without a key: nothing here says a word about models. The page's files are beside it, and OPTIONS.
PUBLIC = frozenset({"/health", "/v1/health", "/livez", "/readyz", "/"})

# Whether a request that a proxy holds back may go on.
AUTH = "/lr/auth"

# What concerns everybody who uses the model: its settings, the prompts in its slots, the files of its cache, its load.
_SHARED = frozenset(
    {
        ("POST", "/props"),
        ("POST", "/lora-adapters"),
        ("POST", "/slots/{id_slot}"),
        ("GET", "/slots"),
    }
)
_METRICS = ("GET", "/metrics")
_USE = frozenset(
    {
        *((route.method, route.path) for route in RELAYED),
        ("GET", "/models"),
        ("GET", "/v1/models"),
        ("GET", "/v1/models/{id:path}"),
        ("GET", "/models/sse"),
        ("GET", "/v1/stream"),
        ("DELETE", "/v1/stream"),
        ("POST", "/v1/streams/lookup"),
        ("GET", AUTH),
        ("GET", "/tools"),
        ("POST", "/tools"),
        ("GET", "/cors-proxy"),
        ("POST", "/cors-proxy"),
    }
    - _SHARED
    - {_METRICS}
)


def right_of(method: str, path: str) -> Right:
    """What a route needs; `path`: as it stands in the table of routes."""
    if path in PUBLIC:
        return Right.PUBLIC
    asked = "GET" if method == "HEAD" else method, path
    if asked == _METRICS:
        return Right.METRICS
    return Right.USE if asked in _USE else Right.ADMIN


def needs_admin() -> Forbidden:
    return Forbidden("this is for administrators: the key may use models, and no more")


def reads_metrics_only() -> Forbidden:
    return Forbidden("this key reads /metrics, and no more")


def sees_nothing(model: str) -> bool:
    """Of a key that uses no models."""
    return False


def sees_of(globs: tuple[str, ...]) -> Callable[[str], bool]:
    """Whether an id is one of those that the globs mean; at least one.

    `*` is any signs, `/` too; `?` one sign, `[ab]` one of these. Case counts; signs that look the same and are written
    in two ways in Unicode are the same.
    """
    pattern = re.compile("|".join(translate(_composed(glob)) for glob in globs))
    return lambda model: pattern.match(_composed(model)) is not None


def _composed(text: str) -> str:
    return unicodedata.normalize("NFC", text)
