"""The names that a request may be sent to: what a web page cannot have made up.

A page of `evil.example` whose name points to 127.0.0.1 at its second look (DNS rebinding) is, to its browser, at home
on this router and may read everything. Its requests say `Host: evil.example`, which no page can change. So where only
this machine is listened to, Host must be localhost, an address of the loopback, a name of `--host` or one that the
operator allows (`--allowed-hosts`); once he names some, this holds for all addresses. UNIX sockets are out of a page's
reach. What a Host may look like at all is checked everywhere.
"""

from __future__ import annotations

import functools
import ipaddress
import re
from collections.abc import Sequence
from typing import TYPE_CHECKING

from msgspec import Struct

from llamarouter.core.errors import Misdirected, UsageError

if TYPE_CHECKING:
    from llamarouter.core.own_values import OwnValues

SOCKET_SUFFIX = ".sock"
_ANY = "*"
# RFC 9110, 7.2: a registered name, or an address in brackets, and a port.
_HOST = re.compile(rb"(\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9._~!$&'()*+,;=%-]*)(?::[0-9]{0,5})?")
_NAME = re.compile(r"\.?[a-z0-9_-]+(?:\.[a-z0-9_-]+)*|[0-9a-f:.]*:[0-9a-f:.]*")


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach an entry of `--host`."""
    if host.endswith(SOCKET_SUFFIX) or host.lower() == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


@functools.lru_cache(maxsize=256)
def name_of(host: bytes) -> str | None:
    """The name in a Host header, without brackets and port; None where it is no Host at all."""
    found = _HOST.fullmatch(host.strip())
    return None if found is None else found[1].decode().lower().strip("[]").removesuffix(".")


class Hosts(Struct, frozen=True):
    """`own`: the entries of `--host`; `allowed`: what the operator names besides (`.x.org`: x.org and all below)."""

    own: tuple[str, ...] = ("127.0.0.1",)
    allowed: tuple[str, ...] = ()

    def check(self, address: tuple[str, int | None] | None, host: bytes | None) -> None:
        """Raise `Misdirected` where a request that came to `address` is for somebody else.

        Without any Host it is from no browser, and what may lack one is another's question.
        """
        if host is None or address is None or not self._guards(address[0]):
            return
        name = name_of(host)
        if name is None or (name != address[0] and not self._goes_by(name)):
            raise Misdirected(f"this router does not go by the name {name!r} of the request's Host: {_HOW}")

    def _guards(self, address: str) -> bool:
        if _ANY in self.allowed:
            return False
        try:
            here = ipaddress.ip_address(address).is_loopback
        except ValueError:  # a UNIX socket
            return False
        return bool(self.allowed) or (here and any(is_loopback(own) and not _is_file(own) for own in self.own))

    def _goes_by(self, name: str) -> bool:
        if is_loopback(name) and not _is_file(name):
            return True
        if any(name == own.lower() for own in self.own if not _is_file(own)):
            return True
        return any(name == each.removeprefix(".") or (each[:1] == "." and name.endswith(each)) for each in self.allowed)


_HOW = "--allowed-hosts lets more names in, and a proxy in front can send `Host: localhost`"


def _is_file(host: str) -> bool:
    return host.endswith(SOCKET_SUFFIX)


def hosts_of(values: OwnValues, own: Sequence[str]) -> Hosts:
    """`--allowed-hosts`, beside the entries of `--host`."""
    text = values.text("--allowed-hosts")
    if text is None:
        return Hosts(tuple(own))
    names = tuple(dict.fromkeys(name for part in text.split(",") if (name := part.strip().lower().strip("[]"))))
    for name in names:
        if name != _ANY and not _NAME.fullmatch(name):
            where = values.written("--allowed-hosts")
            raise UsageError(
                f"{where} {name}: a name without scheme and port, as in llm.example.org, .example.org or *"
            )
    if not names:
        raise UsageError(f"{values.written('--allowed-hosts')} names no host")
    return Hosts(tuple(own), names)
