"""The sockets that the router listens on, bound before anything else starts.

Bound here and not by the server: so that a port in use is one clear line, `::` leaves IPv4 to another address of the
list, a stale socket file is replaced and ours goes away at the end, and port 0 is known before the runtime folder is
named after it.
"""

from __future__ import annotations

import contextlib
import errno
import glob
import os
import re
import socket
import stat
from collections.abc import Iterator, Set

from msgspec import Struct

from llamarouter.core.errors import UsageError

_BACKLOG = 4096


class Bound(Struct, frozen=True):
    """One listening socket and the URL that reaches it."""

    socket: socket.socket
    url: str
    file: tuple[str, tuple[int, int]] | None = None  # of a UNIX socket: its absolute path, and which file it is

    @property
    def port(self) -> int | None:
        """The TCP port, or None for a UNIX socket."""
        return None if self.socket.family == socket.AF_UNIX else int(self.socket.getsockname()[1])

    def close(self) -> None:
        """Close it; the file of a UNIX socket goes away, unless somebody has put another in its place."""
        self.socket.close()
        if self.file is not None:
            with contextlib.suppress(OSError):
                if _identity(self.file[0]) == self.file[1]:
                    os.unlink(self.file[0])


def bind(hosts: tuple[str, ...], port: int, scheme: str = "http") -> list[Bound]:
    """Bind every address. Raises `UsageError` in one line; nothing stays bound then.

    `scheme`: of the URLs of what is bound to TCP.
    """
    bound: list[Bound] = []
    # One address alone takes both kinds of IP; of several, each takes its own, as in llama-server.
    several = len([host for host in hosts if not host.endswith(".sock")]) > 1
    try:
        for host in hosts:
            ours = {str(os.fstat(each.socket.fileno()).st_ino) for each in bound}
            unix = host.endswith(".sock")
            bound.append(_bind_unix(host) if unix else _bind_tcp(host, port, scheme, ours, v6only=several))
            if port == 0 and bound[-1].port is not None:
                port = bound[-1].port or 0
    except UsageError:
        for each in bound:
            each.close()
        raise
    return bound


def passed_on(listener: socket.socket, scheme: str = "http") -> Bound:
    """A socket that somebody has bound for us, who keeps it when we are gone."""
    host = listener.getsockname()
    if listener.family == socket.AF_UNIX:
        return Bound(listener, f"unix:{host}")
    return Bound(listener, _url_of(scheme, host[0], host[1]))


def _url_of(scheme: str, host: str, port: int) -> str:
    return f"{scheme}://{f'[{host}]' if ':' in host else host}:{port}"


def _bind_tcp(host: str, port: int, scheme: str, ours: set[str], *, v6only: bool) -> Bound:
    try:
        family, kind, proto, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
    except socket.gaierror as error:
        raise UsageError(f"--host {host}: no such address ({error.strerror})") from error
    listener = socket.socket(family, kind, proto)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    if family == socket.AF_INET6:
        listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, v6only)
    try:
        listener.bind(address)
        listener.listen(_BACKLOG)
    except OSError as error:
        listener.close()
        raise UsageError(refusal_of(host, port, error, ours)) from error
    listener.setblocking(False)
    return Bound(listener, _url_of(scheme, host, listener.getsockname()[1]))


def _bind_unix(path: str) -> Bound:
    with contextlib.suppress(OSError):
        if stat.S_ISSOCK(os.lstat(path).st_mode) and _is_stale(path):
            os.unlink(path)
    listener = socket.socket(socket.AF_UNIX)
    try:
        with _private_files():
            listener.bind(path)
        listener.listen(_BACKLOG)
    except OSError as error:
        listener.close()
        raise UsageError(f"--host {path}: {_why_not(path, error)}") from error
    listener.setblocking(False)
    return Bound(listener, f"unix:{path}", (os.path.abspath(path), _identity(path)))


@contextlib.contextmanager
def _private_files() -> Iterator[None]:
    """What is made within is for its owner alone, from its first moment on. The umask is the whole process's."""
    before = os.umask(0o177)
    try:
        yield
    finally:
        os.umask(before)


def _is_stale(path: str) -> bool:
    """Whether nobody listens behind a socket file; who is too busy to answer does."""
    with socket.socket(socket.AF_UNIX) as probe:
        probe.settimeout(1.0)
        return probe.connect_ex(path) in (errno.ECONNREFUSED, errno.ENOENT)


def _identity(path: str) -> tuple[int, int]:
    status = os.lstat(path)
    return status.st_dev, status.st_ino


def _why_not(path: str, error: OSError) -> str:
    if error.errno != errno.EADDRINUSE:
        return f"cannot listen there ({error.strerror or error})"
    with contextlib.suppress(OSError):
        if not stat.S_ISSOCK(os.lstat(path).st_mode):
            return "cannot listen there: a file of that name, which is no socket"
    owner = _process_with(_inodes_of_file(path))
    return f"in use{f' by {owner}' if owner else ''}; choose another name"


def refusal_of(host: str, port: int, error: OSError, ours: Set[str] = frozenset()) -> str:
    """Why an address cannot be had, in a line. `ours`: the inodes of what is bound already."""
    if error.errno == errno.EADDRINUSE:
        takers = _inodes_of_port(port)
        if takers and takers <= ours:
            return f"--host {host}: another address of the list means it as well; leave one of them out"
        owner = _process_with(takers - ours)
        who = f" by {owner}" if owner else ""
        return f"port {port} on {host} is in use{who}; choose another with --port N (0: any that is free)"
    if error.errno == errno.EACCES:
        return f"port {port} needs privileges; choose one above 1023 with --port N"
    if error.errno == errno.EADDRNOTAVAIL:
        return f"--host {host}: this machine has no such address"
    return f"--host {host} --port {port}: cannot listen there ({error.strerror})"


def _inodes_of_port(port: int) -> set[str]:
    """The sockets that listen on a port."""
    inodes = set()
    for table in ("/proc/net/tcp", "/proc/net/tcp6"):
        with contextlib.suppress(OSError), open(table) as rows:
            for row in rows:
                fields = row.split()
                if len(fields) > 9 and fields[3] == "0A" and fields[1].endswith(f":{port:04X}"):
                    inodes.add(fields[9])
    return inodes


def _inodes_of_file(path: str) -> set[str]:
    """The sockets that listen behind a file: known by the path that they were bound to."""
    inodes = set()
    with contextlib.suppress(OSError), open("/proc/net/unix", errors="replace") as rows:
        for row in rows:
            fields = row.split(maxsplit=7)
            if len(fields) == 8 and os.path.abspath(fields[7].strip()) == os.path.abspath(path):
                inodes.add(fields[6])
    return inodes


def _process_with(inodes: set[str]) -> str | None:
    """The process that has one of these sockets, as far as /proc tells (other users' processes are hidden)."""
    for link in glob.iglob("/proc/[0-9]*/fd/*") if inodes else ():
        with contextlib.suppress(OSError):
            found = re.fullmatch(r"socket:\[(\d+)\]", os.readlink(link))
            if found and found[1] in inodes:
                pid = link.split("/")[2]
                with open(f"/proc/{pid}/comm") as comm:
                    return f"process {pid} ({comm.read().strip()})"
    return None
