"""`lr logs`: what the router did, or what a model's process wrote."""

from __future__ import annotations

import json

import click

from llamarouter.cli.failures import RouterFailure
from llamarouter.cli.models import explained
from llamarouter.cli.output import printable, say
from llamarouter.cli.parameters import MODEL, json_option, server_options
from llamarouter.cli.server_client import need_server

_FOLLOWED = 10  # lines before those to come, unless somebody says how many


@click.command()
@click.argument("model", type=MODEL, required=False)
@click.option("-f", "--follow", is_flag=True, help="Go on with what is written from now on, until Ctrl-C.")
@click.option("-n", "--lines", "last", type=click.IntRange(0), help="The last N lines (default: all; with -f: 10).")
@server_options
@json_option
def logs(model: str | None, follow: bool, last: int | None, url: str | None, port: int | None, as_json: bool) -> None:
    """Print what the router, or the process of a model, wrote.

    The router keeps its last lines: a line for each request that is over, what happened to models and why. It keeps
    those of each model, also after its process has ended.

    \b
      lr logs -f
      lr logs user/model:Q4_K_M -n 50
      lr logs --json | jq -r 'select(.status >= 500) | .id'

    With --json every line is one JSON object: of a model {"line": ...}, of the router what docs/logs.md describes.

    Exit codes: 0 done, 1 failed, 2 wrong usage, 130 interrupted.
    """
    server = need_server(url, port)
    query = {}
    if model is not None:
        query["model"] = model
    elif as_json:
        query["format"] = "json"
    if follow:
        query["follow"] = "1"
        last = _FOLLOWED if last is None else last
    if last is not None:
        query["n"] = str(last)
    try:
        with server.stream("GET", "/lr/logs", query=query) as lines:
            for line in lines:
                say(json.dumps({"line": line}) if as_json and model is not None else printable(line))
    except RouterFailure as error:
        raise explained(error, server, [] if model is None else [model]) from error
