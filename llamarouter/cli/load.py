"""`lr load`: models into memory before anybody asks for them."""

from __future__ import annotations

import click

from llamarouter.cli.failures import RouterFailure
from llamarouter.cli.models import explained, rows_from
from llamarouter.cli.output import StatusLine, duration_of, say, say_json
from llamarouter.cli.parameters import MODEL, json_option, server_options
from llamarouter.cli.server_client import ServerClient, need_server
from llamarouter.cli.stopwatch import Stopwatch
from llamarouter.cli.waiting import Watch


@click.command()
@click.argument("models", metavar="MODEL...", nargs=-1, required=True, type=MODEL)
@server_options
@json_option
def load(models: tuple[str, ...], url: str | None, port: int | None, as_json: bool) -> None:
    """Load models now instead of at their first request.

    Returns when they answer, or with the reason why one does not. When everything is busy a load waits its turn, as
    a request would; Ctrl-C ends the waiting, not the load.

    \b
      lr load user/model:Q4_K_M
      lr load a b --json

    Exit codes: 0 loaded, 1 one did not load (the others were not tried), 2 wrong usage, 130 interrupted.
    """
    server = need_server(url, port)
    before = rows_from(server)
    results = []
    for model in models:
        row = before.row_of(model)
        seconds = None if row is not None and row.state == "loaded" else _load(server, model)
        results.append({"model": model, "loaded": True, "seconds": seconds})
        if not as_json:
            say(f"{model} was loaded already" if seconds is None else f"{model} loaded in {duration_of(seconds)}")
    if as_json:
        say_json(results)


def _load(server: ServerClient, model: str) -> float:
    """Seconds that it took."""
    stopwatch, status = Stopwatch(), StatusLine()
    try:
        with Watch(server, model, lambda doing: status.show(f"{model}: {doing}")):
            server.post("/models/load", {"model": model, "wait": True}, patient=True)
    except RouterFailure as error:
        raise explained(error, server, [model]) from error
    finally:
        status.clear()
    return stopwatch.seconds()
