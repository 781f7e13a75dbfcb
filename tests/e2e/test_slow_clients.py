"""Hundreds of clients that are slow in every way, against a whole router: the others do not notice, and they go."""

from __future__ import annotations

import contextlib
import json
import select
import socket
import time
from pathlib import Path
from urllib.parse import urlsplit

from tests.e2e.conftest import Router, Serve, until
from tests.e2e.test_nginx import fake

__all__ = ("fake",)
EACH = 150  # of every kind
HEAD = b"POST /v1/chat/completions HTTP/1.1\r\nhost: localhost\r\n"
STREAM = {"model": "a", "stream": True, "messages": [], "fake": {"tokens": 10**6, "delay": 0}}


def connections_of(router: Router) -> int:
    """Connections of clients that the router's process has, by its descriptors and the kernel's table."""
    port = f":{urlsplit(router.url).port or 0:04X}"
    rows = [row.split() for row in Path("/proc/net/tcp").read_text().splitlines()[1:]]
    return sum(row[1].endswith(port) and row[3] in ("01", "08") for row in rows)


def health(router: Router) -> float:
    """Seconds of a `GET /health` on a connection of its own."""
    address = urlsplit(router.url)
    before = time.monotonic()
    with socket.create_connection((address.hostname, address.port), timeout=10) as client:
        client.sendall(b"GET /health HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n")
        assert client.recv(64).startswith(b"HTTP/1.1 200")
    return time.monotonic() - before


def test_slow_clients_hold_up_nobody_and_are_let_go(serve: Serve, fake: Path, models_dir: Path) -> None:
    limits = ("--header-timeout", 3, "--body-timeout", 3, "--send-timeout", 3)
    router = serve(fake, "--models-dir", models_dir, *limits)
    address = urlsplit(router.url)
    with router.client() as client:
        assert client.post("/v1/completions", json={"model": "a", "prompt": "x"}).status_code == 200
    stream = json.dumps(STREAM).encode()
    kinds = {
        "silent": b"",
        "head": HEAD + b"x-slow: ",
        "body": HEAD + b"content-length: 100000\r\n\r\n",
        "reader": HEAD + b"content-length: %d\r\n\r\n%b" % (len(stream), stream),
    }
    slow: dict[socket.socket, str] = {}
    with contextlib.ExitStack() as stack:
        for _ in range(EACH):
            for kind, begun in kinds.items():
                sock = stack.enter_context(socket.create_connection((address.hostname, address.port)))
                sock.setblocking(False)
                sock.send(begun)
                slow[sock] = kind
        assert connections_of(router) >= len(slow) * 0.9
        times, end = [], time.monotonic() + 8
        while time.monotonic() < end:
            for sock, kind in slow.items():
                if kind in ("head", "body"):
                    with contextlib.suppress(OSError):
                        sock.send(b"y")
            times.append(health(router))
            select.select([], [], [], 0.05)
        times.sort()
        assert times[len(times) * 95 // 100] < 0.1, times[-10:]
        # Those who only wait for a slot have not been given anything to read yet but comments.
        waiting = [sock for sock, kind in slow.items() if kind == "reader"]
        until(lambda: connections_of(router) <= len(waiting), seconds=10)
    until(lambda: connections_of(router) == 0, seconds=10)
    assert health(router) < 1
