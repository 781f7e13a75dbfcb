"""`lr unload`: models out of memory."""

from __future__ import annotations

import click

from llamarouter.cli.failures import RouterFailure
from llamarouter.cli.models import explained, rows_from
from llamarouter.cli.output import say, say_json
from llamarouter.cli.parameters import MODEL, json_option, server_options
from llamarouter.cli.server_client import ServerClient, need_server

LIVING = ("loading", "loaded", "sleeping")


@click.command()
@click.argument("models", metavar="[MODEL]...", nargs=-1, type=MODEL)
@click.option("--all", "everything", is_flag=True, help="Every model that is loaded.")
@click.option("--force", is_flag=True, help="Do not wait for running requests: cut them.")
@server_options
@json_option
def unload(
    models: tuple[str, ...], everything: bool, force: bool, url: str | None, port: int | None, as_json: bool
) -> None:
    """End models' processes and free their memory.

    Running requests may end first, for as long as the router's --drain-timeout; new ones wait, and load the model
    again. Returns when the process is gone.

    \b
      lr unload user/model:Q4_K_M
      lr unload --all --force

    Exit codes: 0 unloaded (or was not loaded), 1 failed, 2 wrong usage, 130 interrupted.
    """
    if bool(models) == everything:
        raise click.UsageError("name the models, or say --all")
    server = need_server(url, port)
    wanted = [row.id for row in rows_from(server).rows if row.state in LIVING] if everything else list(models)
    results = []
    for model in wanted:
        ended = _unload(server, model, force)
        results.append({"model": model, "unloaded": ended})
        if not as_json:
            say(f"{model} unloaded" if ended else f"{model} was not loaded")
    if as_json:
        say_json(results)
    elif not wanted:
        say("nothing is loaded", err=True)


def _unload(server: ServerClient, model: str, force: bool) -> bool:
    try:
        server.post("/models/unload", {"model": model, "force": force, "wait": True}, patient=True)
    except RouterFailure as error:
        if error.status == 400 and "not running" in error.message:
            return False
        raise explained(error, server, [model]) from error
    return True
