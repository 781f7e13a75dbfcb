"""`lr ps`: the models that hold memory, and what they do."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

import click

from llamarouter.cli.failures import RouterFailure
from llamarouter.cli.models import RUNNING, Listing, Row, json_of, rows_from
from llamarouter.cli.output import by_device, duration_of, number_of, say, say_json, size_of, styled, table
from llamarouter.cli.parameters import json_option, server_options
from llamarouter.cli.server_client import ServerClient, need_server
from llamarouter.cli.stays import end_of

COLUMNS = ("MODEL", ">PID", "STATE", ">UPTIME", ">IN FLIGHT", ">WAITING", ">TOK/S", ">CONTEXT", ">LAYERS", "LAST USED")


@click.command()
@server_options
@json_option
def ps(url: str | None, port: int | None, as_json: bool) -> None:
    """Show the models that are in memory and what they do.

    IN FLIGHT are the requests inside a model's process, of as many as it has slots; WAITING those that the router
    holds back. CONTEXT is what the process really has, LAYERS how many of its layers are on a GPU, HOLDS what it holds
    of each device. ENDS says when a model ends by itself, where one has a time to live (lr-ttl, --ttl) or is pinned.
    Below stands what there is of each device.

    \b
      lr ps
      lr ps --json | jq '.models[] | {id, in_flight, waiting}'

    Exit codes: 0 done (also when nothing is loaded), 1 no router or it failed, 2 wrong usage.
    """
    server = need_server(url, port)
    listing = rows_from(server)
    rows = [row for row in listing.rows if row.state in RUNNING or row.waiting]
    if as_json:
        say_json({"models": [json_of(row) for row in rows], "devices": devices_from(server)})
        return
    if rows:
        more: dict[str, Callable[[Row], str]] = {}
        if any(row.held for row in rows):
            more["HOLDS"] = _holds
        if any(row.pinned or row.ttl is not None for row in rows):
            more["ENDS"] = end_of
        cells = [(*_cells(row), *(cell(row) for cell in more.values())) for row in rows]
        for line in table((*COLUMNS, *more), cells):
            say(line)
    else:
        say("nothing is loaded: a model loads at its first request, or with `lr load MODEL`", err=True)
    for line in devices_of(devices_from(server)):
        say(styled(line, dim=True))
    for row in rows:
        for shortfall in row.shortfalls:
            say(styled(f"{row.id}: {shortfall}", err=True, fg="yellow"), err=True)
    for line in failures_of(listing):
        say(styled(line, err=True, fg="yellow"), err=True)


def devices_from(server: ServerClient) -> list[Mapping[str, Any]]:
    """The router's devices; none where it does not look at them, or is llama-server's own."""
    try:
        state = server.get("/lr/devices")
    except RouterFailure:
        return []
    found = state.get("devices") if isinstance(state, dict) else None
    return list(found) if isinstance(found, list) else []


def devices_of(devices: Iterable[Mapping[str, Any]]) -> Iterator[str]:
    """What there is of each device, a line each."""
    for device in devices:
        said = [f"{size_of(device.get('booked'))} held by models"] if device.get("booked") else []
        said.append(f"{size_of(device.get('free'))} of {size_of(device.get('total'))} free")
        if device.get("budget") is not None:
            said.append(f"a budget of {size_of(device.get('budget'))}")
        if device.get("reserve"):
            said.append(f"{size_of(device.get('reserve'))} in reserve")
        if device.get("stale"):
            said.append("it does not answer: old figures")
        yield f"{device.get('name')}: {', '.join(said)}"


def _holds(row: Row) -> str:
    return by_device(row.held) if row.held else "-"


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
        lines.append(f"{row.id} failed{when}: {row.failure.message}{next_try} (more: `lr why {row.id}`)")
    return lines
