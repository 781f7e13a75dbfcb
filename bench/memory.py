"""Resident memory of a router: idle, and what a client's connection costs."""

from __future__ import annotations

import re
import resource
import socket
from contextlib import ExitStack
from pathlib import Path

from bench.candidates import Candidate

_CONNECTIONS = 500


def resident(candidate: Candidate) -> float:
    """Megabytes that the router has in memory now."""
    found = re.search(r"VmRSS:\s+(\d+) kB", Path(f"/proc/{candidate.pid}/status").read_text())
    return int(found[1]) / 1024 if found else 0.0


def of_a_connection(candidate: Candidate) -> float:
    """Kilobytes for each connection that is kept open after an answer."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    before = resident(candidate)
    with ExitStack() as stack:
        for _ in range(_CONNECTIONS):
            client = stack.enter_context(socket.create_connection(("127.0.0.1", candidate.port), timeout=10))
            client.sendall(b"GET /health HTTP/1.1\r\nhost: localhost\r\n\r\n")
            client.recv(65536)
        return (resident(candidate) - before) * 1024 / _CONNECTIONS
