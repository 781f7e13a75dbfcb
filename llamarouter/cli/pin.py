"""`lr pin` and `lr unpin`: models that are never stopped to make room for another one."""

from __future__ import annotations

import click

from llamarouter.cli.failures import RouterFailure
from llamarouter.cli.models import explained
from llamarouter.cli.output import say, say_json, styled
from llamarouter.cli.parameters import MODEL, json_option, server_options
from llamarouter.cli.server_client import ServerClient, need_server


@click.command()
@click.argument("models", metavar="MODEL...", nargs=-1, required=True, type=MODEL)
@server_options
@json_option
def pin(models: tuple[str, ...], url: str | None, port: int | None, as_json: bool) -> None:
    """Keep models in memory: they make room for no other.

    A pinned model is not stopped for another one, and does not end by its time to live. It is not loaded by this
    (`lr load` does that), and `lr unload` ends it all the same. Holds until the router ends, or until a reload finds
    another lr-pin in the model's section; to keep it, write lr-pin = true there.

    \b
      lr pin user/model:Q4_K_M

    Exit codes: 0 done, 1 failed (as many are pinned as there are places, say), 2 wrong usage.
    """
    _tell(models, True, need_server(url, port), as_json)


@click.command()
@click.argument("models", metavar="MODEL...", nargs=-1, required=True, type=MODEL)
@server_options
@json_option
def unpin(models: tuple[str, ...], url: str | None, port: int | None, as_json: bool) -> None:
    """Let pinned models make room for others again.

    Also one that its preset pins, until the router ends.

    \b
      lr unpin user/model:Q4_K_M

    Exit codes: 0 done, 1 failed, 2 wrong usage.
    """
    _tell(models, False, need_server(url, port), as_json)


def _tell(models: tuple[str, ...], pinned: bool, server: ServerClient, as_json: bool) -> None:
    results = []
    for model in models:
        try:
            answer = server.post("/lr/pin" if pinned else "/lr/unpin", {"model": model})
        except RouterFailure as error:
            raise explained(error, server, [model]) from error
        results.append({"model": answer["model"], "pinned": answer["pinned"], "loaded": answer["loaded"]})
        for warning in answer.get("warnings") or ():
            say(styled(str(warning), err=True, fg="yellow"), err=True)
        if not as_json:
            hint = f"; it is not loaded: lr load {model}" if pinned and not answer["loaded"] else ""
            say(f"{answer['model']} is {'pinned' if answer['pinned'] else 'not pinned'}{hint}")
    if as_json:
        say_json(results)
