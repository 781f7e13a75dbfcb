"""`lr ps`: the models that hold memory, and what they do."""

from __future__ import annotations

import click

from llamarouter.cli.models import RUNNING, Listing, Row, json_of, rows_from
from llamarouter.cli.output import duration_of, number_of, say, say_json, styled, table
from llamarouter.cli.parameters import json_option, server_options
from llamarouter.cli.server_client import need_server
from llamarouter.cli.stays import end_of

COLUMNS = ("MODEL", ">PID", "STATE", ">UPTIME", ">IN FLIGHT", ">WAITING", ">TOK/S", ">CONTEXT", ">LAYERS", "LAST USED")


@click.command()
@server_options
@json_option
def ps(url: str | None, port: int | None, as_json: bool) -> None:
    """Show the models that are in memory and what they do.

    IN FLIGHT are the requests inside a model's process, of as many as it has slots; WAITING those that the router
    holds back. CONTEXT is what the process really has, LAYERS how many of its layers are on a GPU. ENDS says when a
    model ends by itself, where one has a time to live (lr-ttl, --ttl) or is pinned.

    \b
      lr ps
      lr ps --json | jq '.models[] | {id, in_flight, waiting}'

    Exit codes: 0 done (also when nothing is loaded), 1 no router or it failed, 2 wrong usage.
    """
    server = need_server(url, port)
    listing = rows_from(server)
    rows = [row for row in listing.rows if row.state in RUNNING or row.waiting]
    if as_json:
        say_json({"models": [json_of(row) for row in rows]})
        return
    if rows:
        ends = any(row.pinned or row.ttl is not None for row in rows)
        columns = (*COLUMNS, "ENDS") if ends else COLUMNS
        for line in table(columns, [(*_cells(row), *([end_of(row)] if ends else [])) for row in rows]):
            say(line)
    else:
        say("nothing is loaded: a model loads at its first request, or with `lr load MODEL`", err=True)
    for line in failures_of(listing):
        say(styled(line, err=True, fg="yellow"), err=True)


def _cells(row: Row) -> tuple[str, ...]:
    return (
        row.id,
        number_of(row.pid),
        row.shown_state,
        duration_of(row.uptime),
        f"{row.in_flight}/{row.slots}" if row.in_flight is not None and row.slots else number_of(row.in_flight),
        number_of(row.waiting),
        number_of(row.tokens_per_second),
        number_of(row.n_ctx),
        _layers_of(row),
        _ago(row.last_used),
    )


def _layers_of(row: Row) -> str:
    if row.layers_offloaded is None:
        return "-"
    return f"{row.layers_offloaded}/{row.layers}" if row.layers else str(row.layers_offloaded)


def _ago(seconds: float | None) -> str:
    if seconds is None:
        return "-"
    return "now" if seconds < 1 else f"{duration_of(seconds)} ago"


def failures_of(listing: Listing) -> list[str]:
    """The models whose last try failed, and when the next one is allowed."""
    lines = []
    for row in listing.rows:
        if row.failure is None or row.state != "unloaded":
            continue
        when = f" {_ago(row.failure.seconds_ago)}" if row.failure.seconds_ago is not None else ""
        next_try = f"; next try in {duration_of(row.cooldown)}" if row.cooldown else ""
        lines.append(f"{row.id} failed{when}: {row.failure.message}{next_try}")
    return lines
