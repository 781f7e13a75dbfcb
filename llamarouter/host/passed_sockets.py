"""The sockets that systemd has bound for us and passes at the start: they outlive us, so nobody is refused meanwhile.

    LISTEN_PID LISTEN_FDS LISTEN_FDNAMES -> Passed: those of the public door, and those of administration

(sd_listen_fds(3))
"""

from __future__ import annotations

import os
import socket
from collections.abc import Mapping

from msgspec import Struct

from llamarouter.core.errors import UsageError
from llamarouter.core.unit import ADMIN

_FIRST = 3


class Passed(Struct, frozen=True):
    """Listening sockets that are not ours to bind, nor to unlink."""

    public: tuple[socket.socket, ...] = ()
    admin: tuple[socket.socket, ...] = ()

    @property
    def hosts(self) -> tuple[str, ...]:
        """Their addresses, as `--host` has them."""
        return tuple(host_of(each) for each in self.public)

    @property
    def port(self) -> int | None:
        """The port of the first on TCP."""
        ports = [each.getsockname()[1] for each in self.public if each.family != socket.AF_UNIX]
        return int(ports[0]) if ports else None


def host_of(listener: socket.socket) -> str:
    """The address that a socket listens on: an IP, or the path of a UNIX socket."""
    name = listener.getsockname()
    if listener.family == socket.AF_UNIX:
        return os.fsdecode(name)
    return str(name[0])


def take_passed(environ: Mapping[str, str]) -> Passed:
    """The sockets passed to this process. Raises `UsageError` where one is of no use."""
    if environ.get("LISTEN_PID") != str(os.getpid()):
        return Passed()
    count = environ.get("LISTEN_FDS", "")
    names = environ.get("LISTEN_FDNAMES", "").split(":")
    public: list[socket.socket] = []
    admin: list[socket.socket] = []
    for place in range(int(count) if count.isdigit() else 0):
        name = names[place] if place < len(names) else ""
        (admin if name == ADMIN else public).append(_listener(_FIRST + place, name))
    return Passed(tuple(public), tuple(admin))


def _listener(descriptor: int, name: str) -> socket.socket:
    where = f"the socket {name or 'unknown'} that systemd passes (descriptor {descriptor})"
    try:
        listener = socket.socket(fileno=descriptor)
        listens = listener.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN)
    except OSError as error:
        raise UsageError(f"{where}: {error.strerror}") from error
    if listener.type != socket.SOCK_STREAM or not listens:
        listener.detach()
        raise UsageError(f"{where} does not listen: its unit wants ListenStream= and Accept=no")
    if listener.family == socket.AF_UNIX and not host_of(listener).startswith("/"):
        listener.detach()
        raise UsageError(f"{where} has no path in the file system: it wants ListenStream=/run/NAME.sock")
    listener.set_inheritable(False)
    listener.setblocking(False)
    return listener
