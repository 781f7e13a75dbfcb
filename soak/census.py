"""What a router holds at rest: descriptors, threads, tasks, memory, children, files of its runtime folder."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import socket
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from soak.box import Box, children_of

_PATIENCE = 30.0


@dataclass(frozen=True, slots=True)
class Census:
    """`memory` in bytes; `descriptors` by kind (socket, pipe, file ...)."""

    descriptors: Counter[str]
    threads: int
    tasks: int
    memory: int
    children: int  # zombies included
    sockets: int  # below the runtime folder
    files: int  # there, without them

    @property
    def open(self) -> int:
        return self.descriptors.total()


@dataclass(frozen=True, slots=True)
class Row:
    """A line of the table: how it was, how it is, what is still well."""

    name: str
    before: int
    after: int
    bar: int

    @property
    def is_well(self) -> bool:
        return self.after <= self.bar


def taken(box: Box) -> Census:
    """Of the router as it is now."""
    status = Path(f"/proc/{box.pid}/status").read_text()
    inside = [path for path in box.runtime.rglob("*") if not path.is_dir()]
    sockets = sum(path.is_socket() for path in inside)
    return Census(
        descriptors=Counter(_descriptors_of(box.pid)),
        threads=int(_field(status, "Threads")),
        tasks=int(asked(box, "GET", "/lr/status")["tasks"]),
        memory=int(_field(status, "VmRSS").split()[0]) * 1024,
        children=sum(1 for _ in children_of(box.pid)),
        sockets=sockets,
        files=len(inside) - sockets,
    )


def compared(before: Census, after: Census) -> list[Row]:
    """What must have come back. Memory may be a tenth and 8 MB more: an allocator keeps what was once needed."""
    return [
        Row("descriptors", before.open, after.open, before.open),
        Row("threads", before.threads, after.threads, before.threads),
        Row("tasks", before.tasks, after.tasks, before.tasks),
        Row("resident, MB", before.memory // 10**6, after.memory // 10**6, before.memory * 11 // 10 // 10**6 + 8),
        Row("children", before.children, after.children, 0),
        Row("sockets in the runtime folder", before.sockets, after.sockets, before.sockets),
        Row("other files there", before.files, after.files, before.files),
    ]


def asked(box: Box, method: str, path: str) -> dict[str, Any]:
    """What the router says by its admin socket. Raises `OSError` where it does not answer."""
    connection = http.client.HTTPConnection("localhost", timeout=_PATIENCE)
    connection.sock = socket.socket(socket.AF_UNIX)
    try:
        connection.sock.settimeout(_PATIENCE)
        connection.sock.connect(str(_admin_socket(box)))
        connection.request(method, path)
        said: dict[str, Any] = json.loads(connection.getresponse().read())
    finally:
        connection.close()
    return said


def _admin_socket(box: Box) -> Path:
    return next(path for path in box.runtime.rglob("*.sock") if path.name == "admin.sock")


def left_behind(box: Box) -> list[str]:
    """Processes of a router that has gone, and what is left of its runtime folder."""
    left = [str(path) for path in box.runtime.rglob("*") if path.is_socket()]
    for arguments in Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):
            if str(box.folder).encode() in arguments.read_bytes() and int(arguments.parent.name) != os.getpid():
                left.append(f"process {arguments.parent.name}: {arguments.read_bytes()[:200]!r}")
    return left


def _descriptors_of(pid: int) -> Iterator[str]:
    for link in Path(f"/proc/{pid}/fd").iterdir():
        with contextlib.suppress(OSError):
            target = os.readlink(link)
            yield "file" if target.startswith("/") else target.partition(":")[0]


def _field(status: str, name: str) -> str:
    return next(line.partition(":")[2] for line in status.splitlines() if line.startswith(f"{name}:"))
