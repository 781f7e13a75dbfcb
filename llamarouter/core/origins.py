"""Whose page a browser's request comes from, where nobody needs a key: a stranger's may ask, and administer nothing.

Any page may send a request to 127.0.0.1 with what its visitor is, which for a router without keys is an administrator:
it could stop the router, fetch until the disk is full, delete models, or read what stands in slots and logs. No page
can change `Origin` and `Sec-Fetch-Site`, and what is no browser sends neither. At home are the router's own page, pages
of this machine, and the origins that the operator names (`--cors-origins`).
"""

from __future__ import annotations

from llamarouter.core.cors import Cors
from llamarouter.core.errors import Forbidden
from llamarouter.core.hosts import is_loopback, name_of
from llamarouter.core.wire import Headers, header_of

# The page is from the very same scheme, name and port (a proxy in front may have changed the Host since), or it is
# none: typed into the address bar.
_AT_HOME = (b"same-origin", b"none")


def check_origin(headers: Headers, cors: Cors) -> None:
    """Raise `Forbidden` where a request for administrators comes from a stranger's page."""
    origin = header_of(headers, b"origin")
    if origin is None or header_of(headers, b"sec-fetch-site") in _AT_HOME:
        return
    if not (_is_here(origin, header_of(headers, b"host")) or cors.names(origin)):
        raise Forbidden(
            f"a page of {origin.decode('latin-1')!r} may not administer this router:"
            " --cors-origins names those that may, or use a key"
        )


def check_change(headers: Headers, cors: Cors) -> None:
    """The same for a GET that changes something: with the request for a picture a browser sends no origin."""
    if header_of(headers, b"sec-fetch-site") not in (None, *_AT_HOME) and header_of(headers, b"origin") is None:
        raise Forbidden("another page may not administer this router")
    check_origin(headers, cors)


def _is_here(origin: bytes, host: bytes | None) -> bool:
    scheme, _, rest = origin.partition(b"://")
    name = name_of(rest) if scheme in (b"http", b"https") else None
    return name is not None and (is_loopback(name) or (host is not None and name == name_of(host)))
