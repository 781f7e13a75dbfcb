"""`lr rm`: delete a fetched model's files, through the running router or by itself."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING

import click

from llamarouter.cli.failures import CommandFailed, one_line
from llamarouter.cli.output import say, say_json, size_of
from llamarouter.cli.parameters import MODEL, json_option, server_options
from llamarouter.cli.server_client import ServerClient, find_server

if TYPE_CHECKING:
    from llamarouter.cli.models import Listing
    from llamarouter.core.model import Model


@click.command()
@click.argument("model", type=MODEL)
@click.option("-y", "--yes", is_flag=True, help="Do not ask.")
@click.option("-f", "--force", is_flag=True, help="Delete the files also where another model has them, too.")
@server_options
@json_option
def rm(model: str, yes: bool, force: bool, url: str | None, port: int | None, as_json: bool) -> None:
    """Delete a fetched model's files.

    Only what lies in a cache can be deleted so, and what another file of it needs too stays. Where another model in the
    list has the very same file, nothing is deleted without --force. A running router lets the model's requests end
    first. On a download that runs, it stops it and keeps what is there.

    \b
      lr rm ggml-org/gemma-3-4b-it-GGUF:Q4_K_M
      lr rm -y user/model:Q8_0

    Exit codes: 0 deleted, 1 not possible or not wanted, 2 wrong usage, 130 interrupted.
    """
    server = find_server(url, port)
    if server is not None:
        _through(server, model, yes, force, as_json)
    else:
        _by_itself(model, yes, force, as_json)


def _through(server: ServerClient, asked: str, yes: bool, force: bool, as_json: bool) -> None:
    from llamarouter.cli.models import rows_from
    from llamarouter.core.ids import spellings_of

    listing = rows_from(server)
    row = next((row for name in spellings_of(asked) if (row := listing.row_of(name))), None)
    if row is None:
        raise _unknown(asked, [row.id for row in listing.rows])
    if not as_json:
        say(one_line(f"{row.id}, {size_of(row.size)}: {row.path or row.state}"))
    _ask(yes, f"Have {server.address.shown} delete it?")
    server.delete("/models", model=row.id, **({"force": "1"} if force else {}))
    _say_done(row.id, row.size, as_json)


def _by_itself(asked: str, yes: bool, force: bool, as_json: bool) -> None:
    from llamarouter.cli.local import local_listing
    from llamarouter.core.errors import RouterError
    from llamarouter.host.removal import check_shared, plan_removal, remove

    try:
        listing = local_listing(None, None)
        removal = plan_removal(_found(asked, listing))
        if not force:
            check_shared(removal, {row.id: [row.path] for row in listing.rows if row.path is not None})
        if not as_json:
            for path in removal.paths:
                say(one_line(path))
        _ask(yes, f"Delete these {len(removal.paths)} files ({size_of(removal.bytes)})?")
        remove(removal)
    except RouterError as error:
        raise CommandFailed(error.message) from error
    _say_done(removal.model, removal.bytes, as_json)


def _found(asked: str, listing: Listing) -> Model:
    from llamarouter.core.ids import spellings_of
    from llamarouter.host.discovery import discover, places_of
    from llamarouter.host.header_cache import HeaderCache
    from llamarouter.host.removal import not_removable

    models = {model.id: model for model in discover(places_of(os.environ, None), HeaderCache(None)).models}
    for name in spellings_of(asked):
        if name in models:
            return models[name]
        if (row := listing.row_of(name)) is not None:
            raise not_removable(row.id)
    raise _unknown(asked, [row.id for row in listing.rows])


def _unknown(asked: str, names: list[str]) -> CommandFailed:
    from llamarouter.core.naming import nearest

    return CommandFailed(f"there is no model {asked!r}{nearest(asked, names) or '; `lr ls` lists them'}")


def _ask(yes: bool, question: str) -> None:
    if yes:
        return
    if not sys.stdin.isatty():
        from llamarouter.core.errors import UsageError

        raise UsageError("nobody is there to be asked: say -y to delete it")
    if not click.confirm(question, err=True):
        raise CommandFailed("nothing was deleted")


def _say_done(model: str, size: int | None, as_json: bool) -> None:
    if as_json:
        say_json({"deleted": model, "bytes": size})
    else:
        freed = f"{size_of(size)} freed" if size else "no space freed: another model has the same bytes"
        say(one_line(f"{model} is deleted ({freed})"))
