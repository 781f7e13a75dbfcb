"""The devices that an engine can use, and what it calls them: its own `--list-devices`.

    ask(engine) -> Listing(devices, problem, at)       blocking, some 10 ms to seconds: it opens every device

What a driver knows better (how much is free) is asked of the driver; here are the names, and whatever only the engine
can see: Vulkan and Metal devices. An engine that was built for no GPU has none, whatever the machine has.
"""

from __future__ import annotations

import contextlib
import subprocess
import time
from collections.abc import Mapping, Sequence

from msgspec import Struct

from llamarouter.core.physical import Listed, listed_of

_HEAD = "Available devices:"


class Listing(Struct, frozen=True):
    """What one engine says. `problem`: why it says nothing, in one line; `at`: the monotonic clock's seconds."""

    devices: tuple[Listed, ...] = ()
    problem: str | None = None
    at: float = 0.0


def ask(command: Sequence[str], environ: Mapping[str, str], seconds: float) -> Listing:
    """Run the engine for its list. `environ`: that of its children."""
    try:
        process = subprocess.Popen(
            [*command, "--list-devices"],
            env=dict(environ),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
    except OSError as error:
        return _failed(f"cannot be run ({error.strerror})")
    try:
        text = process.communicate(timeout=seconds)[0].decode("utf-8", "replace")
    except subprocess.TimeoutExpired:
        _abandon(process)
        return _failed(f"no answer within {seconds:g} s")
    if _HEAD not in text:
        return _failed(f"it ended with {process.returncode} and names no devices")
    return Listing(listed_of(text), None, time.monotonic())


def _failed(reason: str) -> Listing:
    return Listing((), f"the engine does not list its devices: {reason}", time.monotonic())


def _abandon(process: subprocess.Popen[bytes]) -> None:
    """Kill it, and wait for it no longer than a second: a driver may hold it for ever."""
    process.kill()
    if process.stdout is not None:
        process.stdout.close()
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(1.0)
