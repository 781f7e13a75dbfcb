"""`lr why`: what went wrong with a model, the last times, and what can be done about it."""

from __future__ import annotations

import os
import shlex
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

import click

from llamarouter.cli.failures import CommandFailed, RouterFailure
from llamarouter.cli.models import explained
from llamarouter.cli.output import duration_of, printable, say, say_json, styled
from llamarouter.cli.parameters import MODEL, json_option, server_options
from llamarouter.cli.server_client import find_server
from llamarouter.core.naming import nearest

Told = Mapping[str, Any]

_STOPPED = {
    "evicted": "it made room for another model",
    "expired": "nobody had asked for it in its time to live",
    "unloaded": "it was unloaded",
}


@click.command()
@click.argument("model", type=MODEL)
@click.option("--all", "all_of_them", is_flag=True, help="Show every failure in full, not only the last one.")
@server_options
@json_option
def why(model: str, all_of_them: bool, url: str | None, port: int | None, as_json: bool) -> None:
    """Show why a model failed, and what to do.

    The last failures: when, doing what, the cause, a hint, the command as it was run, and the end of the log. They
    are remembered when the router ends; without a router they are read from its state folder.

    \b
      lr why user/model:Q4_K_M
      lr why user/model:Q4_K_M --json | jq -r '.failures[0].hint'

    Exit codes: 0 done (also when it never failed), 1 there is no such model or the router failed, 2 wrong usage.
    """
    server = find_server(url, port)
    if server is None:
        told = _remembered(model)
    else:
        try:
            told = server.get("/lr/why", model=model)
        except RouterFailure as error:
            raise explained(error, server, [model]) from error
    if as_json:
        say_json(told)
    else:
        _show(told, all_of_them)


def _remembered(model: str) -> Told:
    """The same without a router: what its state folder has."""
    import time

    from msgspec.structs import asdict

    from llamarouter.cli.local import local_listing
    from llamarouter.core.incidents import Incidents
    from llamarouter.host.incident_file import IncidentFile
    from llamarouter.host.state import state_dir

    incidents = Incidents(IncidentFile.within(state_dir(os.environ)).read())
    row = local_listing(None, None).row_of(model)
    name = model if row is None else row.id
    found = incidents.of(name)
    if row is None and not found:
        names = [*incidents.models(), *(each.id for each in local_listing(None, None).rows)]
        raise CommandFailed(f"no router is running here, and no failure of {model!r} is known{nearest(model, names)}")
    now = time.time()  # noqa: TID251 (beside dates)
    failures = [asdict(each) | {"seconds_ago": max(0.0, now - each.at)} for each in found]
    return {"model": name, "state": None, "problem": row and row.problem, "failures": failures}


def _show(told: Told, all_of_them: bool) -> None:
    failures: Sequence[Told] = told.get("failures") or ()
    say(_how_it_is(told, failures))
    for held in told.get("quarantined") or ():
        left = duration_of(held.get("seconds_left"))
        say(printable(f"a request to {held.get('path')} crashed it ({held.get('crash')}): kept out for {left} more"))
    full, brief = (failures, ()) if all_of_them else (failures[:1], failures[1:])
    for failure in full:
        say()
        _show_one(failure)
    if brief:
        say()
        say(styled("before that (--all shows them in full)", dim=True))
        for failure in brief:
            say(f"  {_when(failure)}: {printable(str(failure.get('message')))}")


def _how_it_is(told: Told, failures: Sequence[Told]) -> str:
    """One line: how often it failed, and how it is now."""
    often = {0: "no failure is known", 1: "failed once"}.get(len(failures), f"failed {len(failures)} times lately")
    state = told.get("state")
    now = f"{told['model']}: {often}; " + (f"it is {state} now" if state else "no router is running here")
    if told.get("cooldown"):
        now += f", and left alone for {duration_of(told['cooldown'])} more"
    elif told.get("one_at_a_time"):
        now += ", and one request at a time may try it"
    stopped: Told = told.get("stopped") or {}
    if stopped:
        why = str(_STOPPED.get(str(stopped["reason"]), stopped["reason"]))
        if stopped.get("for"):
            why = f"it made room for {stopped['for']}, which needed its {stopped.get('lacks')}"
        now += f" ({why}, {duration_of(stopped['seconds_ago'])} ago)"
    if reason := told.get("problem") or (None if failures else told.get("error")):
        now += f". It cannot be started: {reason}"
    elif state == "unloaded" and not (
        failures or stopped or told.get("one_at_a_time")
    ):  # what keeps it out may lie in others
        now += f". `lr plan {told['model']}` says what a request for it would meet with"
    return printable(now)


def _show_one(failure: Told) -> None:
    inside = failure.get("inside")
    say(styled(_when(failure), bold=True))
    say(f"  {printable(str(failure.get('message')))}")
    if inside:
        say(f"  {inside} request{'s were' if inside != 1 else ' was'} inside")
    if failure.get("hint"):
        say(styled(f"  {printable(str(failure['hint']))}", fg="yellow"))
    say(styled(f"  cause {failure.get('cause')}{_ended(failure)}", dim=True))
    command, log = failure.get("command") or (), failure.get("log") or ()
    if command:
        say(styled("  command", dim=True))
        say(f"    {printable(shlex.join(map(str, command)))}")
    if log:
        say(styled("  the end of its log", dim=True))
        for line in log:
            say(f"    {printable(str(line))}")


def _ended(failure: Told) -> str:
    if failure.get("signal"):
        return f", signal {failure['signal']}"
    return f", exit code {failure['code']}" if failure.get("code") is not None else ""


def _when(failure: Told) -> str:
    """When, and doing what: `2026-11-26 15:04:05 (12 s ago), serving for 3 min`."""
    at = datetime.fromtimestamp(float(failure.get("at") or 0)).strftime("%Y-%m-%d %H:%M:%S")
    return f"{at} ({duration_of(failure.get('seconds_ago'))} ago), {_doing(failure)}"


def _doing(failure: Told) -> str:
    if failure.get("stage") == "refused":
        return "refused before its start"
    lasted = duration_of(failure.get("lasted"))
    return f"while loading, after {lasted}" if failure.get("stage") == "loading" else f"while serving, after {lasted}"
