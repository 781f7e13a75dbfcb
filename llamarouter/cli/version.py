"""`lr version`: of this program and of the router that runs."""

from __future__ import annotations

import platform
from typing import Any

import click

from llamarouter import __version__
from llamarouter.cli.output import say, say_json
from llamarouter.cli.parameters import json_option, server_options
from llamarouter.cli.server_client import find_server


@click.command()
@server_options
@json_option
def version(url: str | None, port: int | None, as_json: bool) -> None:
    """Print the versions of lr and of the router.

    \b
      lr version
      lr version --json

    Exit codes: 0 done, 1 the router failed, 2 wrong usage.
    """
    server = find_server(url, port)
    status: dict[str, Any] | None = server.get("/lr/status") if server else None
    if as_json:
        say_json({"lr": __version__, "python": platform.python_version(), "router": status})
        return
    say(f"lr {__version__} (Python {platform.python_version()})")
    if server is None or status is None:
        say("no router is running here")
        return
    engine = status.get("engine") or {}
    say(f"{server.address.shown}: lr {status.get('version')}, engine {engine.get('kind')} {engine.get('build')}")
