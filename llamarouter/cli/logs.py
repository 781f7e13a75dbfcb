"""`lr logs`: what a model's process wrote."""

from __future__ import annotations

import json

import click

from llamarouter.cli.failures import RouterFailure
from llamarouter.cli.models import explained
from llamarouter.cli.output import printable, say
from llamarouter.cli.parameters import MODEL, json_option, server_options
from llamarouter.cli.server_client import need_server


@click.command()
@click.argument("model", type=MODEL)
@click.option("-f", "--follow", is_flag=True, help="Go on with what is written from now on, until Ctrl-C.")
@server_options
@json_option
def logs(model: str, follow: bool, url: str | None, port: int | None, as_json: bool) -> None:
    """Print what a model's process wrote.

    The router keeps the last lines of each model, also after its process has ended.

    \b
      lr logs user/model:Q4_K_M
      lr logs user/model:Q4_K_M -f

    With --json every line is one JSON object: {"line": ...}.

    Exit codes: 0 done, 1 failed, 2 wrong usage, 130 interrupted.
    """
    server = need_server(url, port)
    query = {"model": model, **({"follow": "1"} if follow else {})}
    try:
        with server.stream("GET", "/lr/logs", query=query) as lines:
            for line in lines:
                say(json.dumps({"line": line}) if as_json else printable(line))
    except RouterFailure as error:
        raise explained(error, server, [model]) from error
