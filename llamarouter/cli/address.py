"""Where a router listens, as a person writes it and as a connection needs it."""

from __future__ import annotations

from typing import NamedTuple
from urllib.parse import urlsplit


class Address(NamedTuple):
    """Where a router listens: a UNIX socket, or a host and a port."""

    shown: str  # for messages: never a key
    unix: str | None = None
    host: str = ""
    port: int = 0
    tls: bool = False
    prefix: str = ""  # a path in front of all paths, as behind a reverse proxy

    @property
    def is_here(self) -> bool:
        return self.unix is not None


def address_of(url: str) -> Address:
    """Parse `http[s]://host[:port][/prefix]`; without a scheme, http is meant."""
    full = url if "://" in url else f"http://{url}"
    try:
        parts = urlsplit(full)
        port = parts.port
    except ValueError as error:
        raise wrong_usage(f"{url!r} is not an address: {error}") from error
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise wrong_usage(f"{url!r} is not an address; right would be http://127.0.0.1:8080")
    if parts.username or parts.password:
        raise wrong_usage("a key does not belong into the address: set LR_API_KEY")
    tls = parts.scheme == "https"
    return Address(
        f"{parts.scheme}://{parts.netloc}",
        host=parts.hostname,
        port=port or (443 if tls else 80),
        tls=tls,
        prefix=parts.path.rstrip("/"),
    )


def wrong_usage(message: str) -> Exception:
    """A `UsageError`; its module is imported only when something is wrong, because that is not free."""
    from llamarouter.core.errors import UsageError

    return UsageError(message)
