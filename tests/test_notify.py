"""What a service manager hears, on a real socket of its own."""

from __future__ import annotations

import os
import socket
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from llamarouter.host.notify import Notifier


@pytest.fixture
def runtime() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="lr-", dir="/tmp") as folder:
        yield Path(folder)


def test_without_a_manager_nothing_is_said() -> None:
    for environ in ({}, {"NOTIFY_SOCKET": "relative"}, {"WATCHDOG_USEC": "1000"}):
        notifier = Notifier(environ)
        assert not notifier.is_heard
        assert notifier.watchdog is None
        notifier.tell("READY=1")


def test_an_abstract_address_is_meant_by_an_at_sign() -> None:
    name = f"lr-notify-{os.getpid()}"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as heard:
        heard.bind(f"\0{name}")
        notifier = Notifier({"NOTIFY_SOCKET": f"@{name}"})
        notifier.tell("READY=1", "STATUS=here")
        notifier.close()
        assert heard.recv(100) == b"READY=1\nSTATUS=here"


def test_a_manager_that_is_gone_stops_nobody(runtime: Path) -> None:
    notifier = Notifier({"NOTIFY_SOCKET": str(runtime / "nobody")})
    notifier.tell("READY=1")
    assert notifier.is_heard
    notifier.close()


@pytest.mark.parametrize(
    ("usec", "pid", "seconds"),
    [("30000000", "", 30), ("500000", "ours", 0.5), ("500000", "1", None), ("0", "", None), ("x", "", None)],
)
def test_the_watchdog_is_for_one_process(runtime: Path, usec: str, pid: str, seconds: float | None) -> None:
    notifier = Notifier(
        {
            "NOTIFY_SOCKET": str(runtime / "n"),
            "WATCHDOG_USEC": usec,
            "WATCHDOG_PID": pid.replace("ours", str(os.getpid())),
        }
    )
    assert notifier.watchdog == seconds
    notifier.close()
