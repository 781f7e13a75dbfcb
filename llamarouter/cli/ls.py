"""`lr ls`: the models that can be asked for, from the running router, else from what lies on this machine."""

from __future__ import annotations

import click

from llamarouter.cli.models import Listing, Row, json_of, rows_from
from llamarouter.cli.output import by_device, count_of, number_of, say, say_json, size_of, styled, table
from llamarouter.cli.parameters import json_option, server_options
from llamarouter.cli.server_client import find_server
from llamarouter.cli.stays import stay_of

COLUMNS = ("ID", ">SIZE", "QUANT", ">PARAMS", ">CONTEXT", "SOURCE", "STATE")


@click.command()
@click.option("--models-dir", metavar="PATH", help="List what `lr serve --models-dir PATH` would offer.")
@click.option("--models-preset", metavar="PATH", help="List what `lr serve --models-preset PATH` would offer.")
@server_options
@json_option
def ls(models_dir: str | None, models_preset: str | None, url: str | None, port: int | None, as_json: bool) -> None:
    """List the models that can be asked for.

    Asks the running router. Without one, or with --models-dir or --models-preset, looks itself: in the caches
    and folders in which `lr serve` would. What was left out stands below the table, with its reason.

    \b
      lr ls
      lr ls --models-dir ./models
      lr ls --json | jq -r '.models[].id'

    Exit codes: 0 done, 1 the router failed, 2 wrong usage.
    """
    server = None if models_dir or models_preset else find_server(url, port)
    if server is not None:
        listing = rows_from(server)
    else:
        from llamarouter.cli.local import local_listing

        listing = local_listing(models_dir, models_preset)
    if as_json:
        say_json(_listing_as_json(listing))
    else:
        _show(listing)


def _listing_as_json(listing: Listing) -> dict[str, object]:
    return {
        "models": [{**json_of(row), "state": row.shown_state.split()[0]} for row in listing.rows],
        "warnings": [{"where": where, "reason": reason} for where, reason in listing.warnings],
    }


def _show(listing: Listing) -> None:
    if listing.rows:
        more = {"MEMORY": memory_of, "STAYS": stay_of}
        # Where there is nothing to be said in a column, there is none.
        shown = [name for name, words_of in more.items() if any(words_of(row) for row in listing.rows)]
        rows = [(*_cells(row), *(more[name](row) or "-" for name in shown)) for row in listing.rows]
        for line in table((*COLUMNS, *shown), rows):
            say(line)
    else:
        say("no models yet: `lr pull user/model` fetches one, `lr serve --models-dir PATH` serves a folder", err=True)
    for line in warnings_of(listing):
        say(styled(line, err=True, fg="yellow"), err=True)


def _cells(row: Row) -> tuple[str, ...]:
    return (
        row.id,
        size_of(row.size),
        row.quant or "-",
        count_of(row.parameters),
        number_of(row.context),
        row.source,
        row.shown_state,
    )


def memory_of(row: Row) -> str:
    """What it takes of each device, and whether that was measured or estimated."""
    return f"{by_device(row.memory)} {row.memory_is}" if row.memory else ""


def warnings_of(listing: Listing) -> list[str]:
    """What was left out, what cannot be started and what failed, a line each."""
    lines = [f"{where}: {reason}" for where, reason in listing.warnings]
    for row in listing.rows:
        if row.problem and not _is_said(row, row.problem, listing):
            lines.append(f"{row.id}: {row.problem}")
        elif row.failure and row.state == "unloaded":
            lines.append(f"{row.id}: {row.failure.message} (more: `lr why {row.id}`)")
        lines += [f"{row.id}: {shortfall}" for shortfall in row.shortfalls]
    return list(dict.fromkeys(lines))


def _is_said(row: Row, problem: str, listing: Listing) -> bool:
    """Whether a warning about the same place says it: by the file's path, or by the preset's line."""
    return any(
        (where == row.path and reason.endswith(problem))
        or (problem.startswith(f"{where}: ") and reason.endswith(problem.removeprefix(f"{where}: ")))
        for where, reason in listing.warnings
    )
