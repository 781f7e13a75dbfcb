"""`lr stop`: the router and all its models."""

from __future__ import annotations

import os
import select

import click

from llamarouter.cli.output import say, say_json
from llamarouter.cli.parameters import json_option, server_options
from llamarouter.cli.server_client import need_server

LOOK_AGAIN_SECONDS = 0.1  # only where the kernel cannot tell that a process ended


@click.command()
@click.option("--wait/--no-wait", default=True, help="Return when it is gone, or at once.  [default: wait]")
@server_options
@json_option
def stop(wait: bool, url: str | None, port: int | None, as_json: bool) -> None:
    """Let running requests end, then stop the router.

    It takes no new requests meanwhile. How long the running ones may take is the router's --drain-timeout.

    \b
      lr stop
      lr stop --port 8081 --no-wait

    Exit codes: 0 stopped, 1 no router or it failed, 2 wrong usage, 130 interrupted (it goes on stopping).
    """
    server = need_server(url, port)
    pid = server.get("/lr/status").get("pid")
    server.post("/lr/stop")
    # A process on another machine cannot be watched from here.
    waited = wait and server.address.is_here and isinstance(pid, int)
    if waited:
        until_gone(pid)
    if as_json:
        say_json({"stopped": waited, "pid": pid})
    else:
        say(f"{server.address.shown} {'has stopped' if waited else 'is stopping'}")


def until_gone(pid: int) -> None:
    """Return when the process has ended."""
    if hasattr(os, "pidfd_open"):
        try:
            descriptor = os.pidfd_open(pid)
        except ProcessLookupError:
            return
        try:
            poller = select.poll()
            poller.register(descriptor, select.POLLIN)
            poller.poll()
        finally:
            os.close(descriptor)
        return
    while _is_alive(pid):  # macOS
        select.select([], [], [], LOOK_AGAIN_SECONDS)


def _is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True
