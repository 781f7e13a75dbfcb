"""What systemd is told by a service of `Type=notify`: datagrams to the socket that `NOTIFY_SOCKET` names.

Nobody answers, and nothing is ever waited for: a message that cannot be sent now is lost, the next one may do.
(sd_notify(3))
"""

from __future__ import annotations

import contextlib
import os
import socket
import time
from collections.abc import Mapping


class Notifier:
    """The line to the service manager; where there is none it says nothing."""

    def __init__(self, environ: Mapping[str, str]) -> None:
        address = environ.get("NOTIFY_SOCKET", "")
        # "@" stands for the NUL of an abstract address.
        self._address = f"\0{address[1:]}" if address.startswith("@") else address
        self._socket: socket.socket | None = None
        # Seconds within which the manager wants to hear of us; None: it does not.
        self.watchdog = _watchdog_of(environ) if address.startswith(("/", "@")) else None
        if address.startswith(("/", "@")):
            self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC)
            self._socket.setblocking(False)

    @property
    def is_heard(self) -> bool:
        """Whether a service manager listens."""
        return self._socket is not None

    def tell(self, *lines: str) -> None:
        """Send `NAME=value` lines, as one message."""
        if self._socket is not None:
            with contextlib.suppress(OSError):
                self._socket.sendto("\n".join(lines).encode(errors="replace"), self._address)

    def tell_reloading(self) -> None:
        """A reload begins; its time tells the manager which of several it was. (`READY=1` ends it.)"""
        self.tell("RELOADING=1", f"MONOTONIC_USEC={time.monotonic_ns() // 1000}")

    def close(self) -> None:
        """Say nothing more."""
        if self._socket is not None:
            self._socket.close()
            self._socket = None


def _watchdog_of(environ: Mapping[str, str]) -> float | None:
    micros, pid = environ.get("WATCHDOG_USEC", ""), environ.get("WATCHDOG_PID", "")
    if not micros.isdigit() or int(micros) == 0 or pid not in ("", str(os.getpid())):
        return None
    return int(micros) / 1e6
