"""The addresses that a router would listen on: free, or taken by whom."""

from __future__ import annotations

import errno
import os
import socket

from llamarouter.core.findings import Finding, Severity
from llamarouter.host.listening import refusal_of

AREA = "ports"


def check_ports(hosts: tuple[str, ...], port: int) -> list[Finding]:
    """Bound for an instant, and never listened on."""
    return [_socket_file(host) if host.endswith(".sock") else _tcp(host, port) for host in hosts]


def _tcp(host: str, port: int) -> Finding:
    where = f"--host {host} --port {port}"
    try:
        family, kind, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
    except OSError as error:
        return Finding(AREA, Severity.ERROR, f"no such address ({error.strerror})", where, "another --host")
    with socket.socket(family, kind) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(address)
        except OSError as error:
            what, _, fix = refusal_of(host, port, error).partition("; ")
            fix = fix or "another --host or --port"
            return Finding(AREA, Severity.ERROR, what, where, _without_choice(fix, error))
    return Finding(AREA, Severity.FINE, f"port {port} on {host} is free", where)


def _without_choice(fix: str, error: OSError) -> str:
    return f"stop what has it, or {fix}" if error.errno == errno.EADDRINUSE else fix


def _socket_file(path: str) -> Finding:
    folder = os.path.dirname(os.path.abspath(path))
    if not os.access(folder, os.W_OK | os.X_OK):
        return Finding(AREA, Severity.ERROR, f"no socket can be made in {folder}", f"--host {path}", "another --host")
    return Finding(AREA, Severity.FINE, "a socket can be made there", f"--host {path}")
