"""What a service manager hears, on a real socket of its own."""

from __future__ import annotations

import asyncio
import os
import socket
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from llamarouter.host.notify import Notifier
from llamarouter.server.heartbeat import Heartbeat


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


@pytest.mark.parametrize(("late", "beats"), [(None, True), (-60.0, True), (5.0, True), (11.0, False)])
def test_a_scheduler_that_nobody_calls_is_not_well(runtime: Path, late: float | None, beats: bool) -> None:
    path = str(runtime / "notify")

    async def live() -> None:
        loop = asyncio.get_running_loop()
        notifier = Notifier({"NOTIFY_SOCKET": path, "WATCHDOG_USEC": "30000000"})
        heart = Heartbeat(notifier, lambda: None if late is None else loop.time() - late, lambda: "here")
        with heart.beating(), heart.reloading(), heart.reloading():
            pass

    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as heard:
        heard.bind(path)
        heard.settimeout(5)
        asyncio.run(live())
        messages = [heard.recv(100).decode().split("\n")[0] for _ in range(6 if beats else 5)]
    assert messages[0] == "READY=1"
    assert ("WATCHDOG=1" in messages) is beats
    # Of two reloads at once the last one ends it.
    assert messages[-4:] == ["STATUS=here", "RELOADING=1", "RELOADING=1", "READY=1"]
