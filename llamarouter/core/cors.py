"""CORS: which page in a browser may read an answer, as llama-server's router decides it.

    origins          an answer to a request of Origin O says
    `*`              O with credentials (the default), else `*`
    `localhost`      O if its host is localhost, 127.0.0.1 or [::1]; else nothing
    `A, B`           O if it is one of them; else nothing
    anything else    that text

Where there are keys, `*` is never with credentials: a page that anybody wrote shall not come with what the browser
knows (the passwords of a proxy in front), and an API key it can send by itself.

OPTIONS on any path is answered 200, empty, without a key, with all that a preflight asks for. Where llama-server sends
an empty header (`*` with credentials, and a request without an origin), nothing is sent: it means the same. It sends a
list as it is, which no browser takes.
"""

from __future__ import annotations

import re

from msgspec import Struct
from msgspec.structs import replace

from llamarouter.core.wire import Headers, header_of

ANY = "*"
LOCALHOST = "localhost"
_LOOPBACK = re.compile(rb"https?://(?:localhost|127\.0\.0\.1|\[::1\])(?::[0-9]{1,5})?", re.ASCII)


class Cors(Struct, frozen=True, kw_only=True):
    """What the operator decided. The texts go into headers as they are."""

    origins: str = ANY
    methods: str = "GET, POST, DELETE, OPTIONS"
    headers: str = ANY
    credentials: bool = True
    quiet: bool = False  # say nothing where no origin asks

    def with_keys(self) -> Cors:
        """The same for a router that has keys."""
        return replace(self, credentials=False, quiet=True) if self.origins == ANY else self

    def names(self, origin: bytes) -> bool:
        """Whether the operator has named this very origin."""
        return origin in [each.strip().encode() for each in self.origins.split(",")] and origin != ANY.encode()

    def headers_for(self, origin: bytes | None) -> Headers:
        """What any answer to a request of `origin` carries."""
        if origin is None and self.quiet:
            return []
        if not self._reflects:
            return [(b"access-control-allow-origin", self.origins.encode())]
        if origin is None:
            return []
        vary = (b"vary", b"Origin")
        return [(b"access-control-allow-origin", origin), vary] if self._allows(origin) else [vary]

    def preflight_headers(self) -> Headers:
        """What an answer to OPTIONS carries besides."""
        return [
            (b"access-control-allow-credentials", b"true" if self.credentials else b"false"),
            (b"access-control-allow-methods", self.methods.encode()),
            (b"access-control-allow-headers", self.headers.encode()),
        ]

    def lines_for(self, headers: Headers) -> bytes:
        """The same as `headers_for`, as lines of a head, each ended: what the relay writes itself."""
        return b"".join(b"%b: %b\r\n" % pair for pair in self.headers_for(header_of(headers, b"origin")))

    @property
    def _reflects(self) -> bool:
        return self.origins == LOCALHOST or "," in self.origins or (self.origins == ANY and self.credentials)

    def _allows(self, origin: bytes) -> bool:
        if self.origins == LOCALHOST:
            return _LOOPBACK.fullmatch(origin) is not None
        return origin != b"" if self.origins == ANY else self.names(origin)
