"""`lr reload`: the presets, the folders, the file of keys and the certificate read again, by the running router."""

from __future__ import annotations

from typing import Any

import click

from llamarouter.cli.failures import one_line
from llamarouter.cli.output import say, say_json, styled
from llamarouter.cli.parameters import json_option, server_options
from llamarouter.cli.server_client import need_server

_WORDS = (("added", "green"), ("changed", "yellow"), ("removed", "red"))


@click.command()
@server_options
@json_option
def reload(url: str | None, port: int | None, as_json: bool) -> None:
    """Have the router read presets, folders, keys and its certificate again.

    Only what has changed is touched: its running requests may end first, then it is unloaded, and loads as it is now
    at its next request. Where a file cannot be read everything stays as it was; a section that is wrong keeps its last
    good version, and so do the certificate and the keys of --api-key-file. `load-on-startup` counts when the router
    starts, not here. (SIGHUP does the same, and into the log.)

    \b
      lr reload
      lr reload --json | jq .changed

    Exit codes: 0 done, 1 refused: everything stays as it was, 2 wrong usage.
    """
    done = need_server(url, port).post("/models/reload", patient=True)
    if as_json:
        say_json({key: value for key, value in done.items() if key != "success"})
        return
    _show(done)
    for warning in done.get("warnings", ()):
        say(styled(one_line(f"{warning['where']}: {warning['reason']}"), err=True, fg="yellow"), err=True)


def _show(done: dict[str, Any]) -> None:
    unloading = done.get("unloading", ())
    for word, colour in _WORDS:
        for model in done.get(word, ()):
            more = " (is being unloaded)" if model in unloading else ""
            say(f"{styled(f'{word:<7}', fg=colour)}  {one_line(model)}{more}")
    number = done.get("models", 0)
    nothing = "" if any(done.get(word) for word, _ in _WORDS) else "nothing has changed; "
    say(f"{nothing}{number} model{'' if number == 1 else 's'}")
