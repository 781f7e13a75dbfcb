"""The sockets that the router listens on, bound before anything else starts.

Bound here and not by the server: so that a port in use is one clear line, IPv6 is IPv6 only, a stale socket file
is replaced, and port 0 is known before the runtime folder is named after it.
"""

from __future__ import annotations

import contextlib
import errno
import glob
import ipaddress
import os
import re
import socket
import stat
from dataclasses import dataclass

from llamarouter.core.errors import UsageError

_BACKLOG = 4096


@dataclass(frozen=True, slots=True)
class Bound:
    """One listening socket and the URL that reaches it."""

    socket: socket.socket
    url: str
    file: tuple[str, int] | None = None  # of a UNIX socket: path and inode

    @property
    def port(self) -> int | None:
        """The TCP port, or None for a UNIX socket."""
        return None if self.socket.family == socket.AF_UNIX else int(self.socket.getsockname()[1])

    def close(self) -> None:
        """Listen no more, and leave no socket's file, unless it is another's by now."""
        self.socket.close()
        if self.file is not None:
            path, inode = self.file
            with contextlib.suppress(OSError):
                if os.lstat(path).st_ino == inode:
                    os.unlink(path)


def bind(hosts: tuple[str, ...], port: int, scheme: str = "http") -> list[Bound]:
    """Bind every address. Raises `UsageError` in one line; nothing stays bound then.

    `scheme`: of the URLs of what is bound to TCP.
    """
    bound: list[Bound] = []
    try:
        for host in hosts:
            bound.append(_bind_unix(host) if host.endswith(".sock") else _bind_tcp(host, port, scheme))
            if port == 0 and bound[-1].port is not None:
                port = bound[-1].port or 0
    except UsageError:
        for each in bound:
            each.close()
        raise
    return bound


def _bind_tcp(host: str, port: int, scheme: str) -> Bound:
    try:
        family, kind, proto, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
    except socket.gaierror as error:
        raise UsageError(f"--host {host}: no such address ({error.strerror})") from error
    listener = socket.socket(family, kind, proto)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    if family == socket.AF_INET6:
        listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
    try:
        listener.bind(address)
        listener.listen(_BACKLOG)
    except OSError as error:
        listener.close()
        raise UsageError(_refusal(host, port, error)) from error
    listener.setblocking(False)
    shown = f"[{host}]" if ":" in host else host
    return Bound(listener, f"{scheme}://{shown}:{listener.getsockname()[1]}")


def _bind_unix(path: str) -> Bound:
    with contextlib.suppress(OSError):
        if stat.S_ISSOCK(os.lstat(path).st_mode) and not _answers(path):
            os.unlink(path)
    listener = socket.socket(socket.AF_UNIX)
    try:
        listener.bind(path)
        os.chmod(path, 0o600)
        listener.listen(_BACKLOG)
    except OSError as error:
        listener.close()
        raise UsageError(f"--host {path}: cannot listen there ({error.strerror or error})") from error
    listener.setblocking(False)
    return Bound(listener, f"unix:{path}", (path, os.lstat(path).st_ino))


def _answers(path: str) -> bool:
    with socket.socket(socket.AF_UNIX) as probe:
        return probe.connect_ex(path) == 0


def _refusal(host: str, port: int, error: OSError) -> str:
    if error.errno == errno.EADDRINUSE:
        owner = _owner_of(port)
        who = f" by {owner}" if owner else ""
        return f"port {port} on {host} is in use{who}; choose another with --port N (0: any that is free)"
    if error.errno == errno.EACCES:
        return f"port {port} needs privileges; choose one above 1023 with --port N"
    if error.errno == errno.EADDRNOTAVAIL:
        return f"--host {host}: this machine has no such address"
    return f"--host {host} --port {port}: cannot listen there ({error.strerror})"


def _owner_of(port: int) -> str | None:
    """The process that listens on a port, as far as /proc tells (other users' processes are hidden)."""
    inodes = set()
    for table in ("/proc/net/tcp", "/proc/net/tcp6"):
        with contextlib.suppress(OSError), open(table) as rows:
            for row in rows:
                fields = row.split()
                if len(fields) > 9 and fields[3] == "0A" and fields[1].endswith(f":{port:04X}"):
                    inodes.add(fields[9])
    for link in glob.iglob("/proc/[0-9]*/fd/*"):
        with contextlib.suppress(OSError):
            found = re.fullmatch(r"socket:\[(\d+)\]", os.readlink(link))
            if found and found[1] in inodes:
                pid = link.split("/")[2]
                with open(f"/proc/{pid}/comm") as comm:
                    return f"process {pid} ({comm.read().strip()})"
    return None


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach an address."""
    if host.endswith(".sock") or host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
