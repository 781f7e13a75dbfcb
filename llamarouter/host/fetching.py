"""A fetch from the Hub as the router sees it: a process of its own whose events come one by one.

    async with aclosing(fetch_events("user/repo:Q4_K_M", cache, environ)) as events:
        async for event in events: ...          Planned, Progressed, Noted, at last Fetched or Failed: exactly one

Closing the generator, or cancelling who reads it, kills the process and reaps it; what is fetched so far is kept.
Should the router itself be killed, the process goes too (setpriv, where there is one; else at its next line).
"""

from __future__ import annotations

import asyncio
import os
import shutil
import sys
from asyncio.subprocess import DEVNULL, PIPE, Process
from collections.abc import AsyncGenerator, Mapping
from pathlib import Path

from llamarouter.core.fetch_events import Failed, Fetched, FetchEvent, Noted, Planned, Progressed, decode_event

__all__ = ["Failed", "FetchEvent", "Fetched", "Noted", "Planned", "Progressed", "fetch_events"]

# The plan of a model with hundreds of shards is one line.
_MAX_LINE = 4 << 20
_PACKAGE_PARENT = str(Path(__file__).resolve().parents[2])


async def fetch_events(
    spec: str,
    cache: str,
    environ: Mapping[str, str],
    *,
    endpoint: str | None = None,
    offline: bool = False,
    projector: bool = True,
    umask: int | None = None,
) -> AsyncGenerator[FetchEvent, None]:
    """Fetch a model into a hub cache. `environ`: for the process, with the token and the proxies that it needs.
    `umask`: what the files are made with, where it is not our own.

    Never raises for what goes wrong in the process: that is the last event, `Failed`.
    """
    process = await _spawned(_command(spec, cache, endpoint, offline, projector, umask), environ)
    try:
        while True:
            event = await _next_event(process)
            yield event
            if isinstance(event, Fetched | Failed):
                return
    finally:
        await _reap(process)


async def _next_event(process: Process) -> FetchEvent:
    assert process.stdout is not None
    try:
        line = await process.stdout.readline()
        if line:
            return decode_event(line)
    except ValueError as error:  # no event, or a line beyond all measure
        return Failed("internal_error", f"the fetching process wrote what is no event: {error}")
    return Failed("internal_error", f"the fetching process ended without a word (exit code {await process.wait()})")


def _command(
    spec: str, cache: str, endpoint: str | None, offline: bool, projector: bool, umask: int | None
) -> list[str]:
    setpriv = shutil.which("setpriv") if sys.platform == "linux" else None
    command = [setpriv, "--pdeathsig", "KILL", "--"] if setpriv else []
    # -P: no module is taken from the folder that the router happens to be started in.
    command += [sys.executable, "-P", "-m", "llamarouter.host.fetch", "--cache", os.path.abspath(cache)]
    command += ["--endpoint", endpoint] if endpoint else []
    command += ["--offline"] if offline else []
    command += [] if projector else ["--no-projector"]
    command += [] if umask is None else ["--umask", f"{umask:o}"]
    return [*command, "--", spec]


async def _spawned(command: list[str], environ: Mapping[str, str]) -> Process:
    # In a session of its own: a Ctrl-C in the router's terminal is the router's to act upon.
    return await asyncio.create_subprocess_exec(
        *command,
        stdin=DEVNULL,
        stdout=PIPE,
        stderr=DEVNULL,
        env={**environ, "PYTHONPATH": _PACKAGE_PARENT},
        limit=_MAX_LINE,
        start_new_session=True,
    )


async def _reap(process: Process) -> None:
    if process.returncode is None:
        process.kill()
    # A second cancellation must not leave it unreaped: the loop reaps it in any case, here it is only waited for.
    await process.wait()
