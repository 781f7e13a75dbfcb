"""`lr events`: how all models are, and with -f what happens from then on."""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import datetime
from typing import Any

import click

from llamarouter.cli.failures import CommandFailed
from llamarouter.cli.output import printable, say, styled
from llamarouter.cli.parameters import MODEL, server_options
from llamarouter.cli.server_client import events_of, need_server

_FEED = {"ids": "1", "snapshot": "1", "ping": "15"}
SNAPSHOT_END = "snapshot_complete"


@click.command()
@click.option("-f", "--follow", is_flag=True, help="Go on with what happens, until Ctrl-C.")
@click.option("--model", "only", metavar="ID", type=MODEL, help="Of this model alone.")
@click.option("--json", "as_json", is_flag=True, help="Print each record as a line of JSON, for programs.")
@server_options
def events(follow: bool, only: str | None, as_json: bool, url: str | None, port: int | None) -> None:
    """Print what happens, as it happens.

    First how every model is; with -f then each change: loads and how far they are, ends with their reasons,
    downloads, a list that has changed. One line each, as it comes.

    \b
      lr events -f
      lr events -f --json | jq -r 'select(.data.reason) | "\\(.model): \\(.data.message)"'

    Exit codes: 0 done, 1 no router or it failed, 2 wrong usage, 130 interrupted.
    """
    server = need_server(url, port)
    known = False
    with server.stream("GET", "/models/sse", query=_FEED) as lines:
        for event in events_of(lines):
            if event.comment:
                continue
            record = record_of(event.data)
            if record.get("event") == SNAPSHOT_END and not follow:
                if only is not None and not known:
                    raise CommandFailed(f"there is no model '{only}'; `lr ls` lists them")
                return
            if only is None or record.get("model") in (only, "*"):
                known = known or record.get("model") == only
                _print(record, as_json)


def record_of(text: str) -> Mapping[str, Any]:
    """A record of the feed; an empty one where it is none."""
    try:
        record = json.loads(text)
    except ValueError:
        return {}
    return record if isinstance(record, dict) else {}


def words_of(record: Mapping[str, Any]) -> str:
    """What a record says, in a few words: `loading 42%`, `unloaded: ended by SIGSEGV`."""
    event, data = str(record.get("event")), record.get("data") or {}
    if not isinstance(data, dict):
        return event
    if event in ("model_status", "status_change"):
        said = str(data.get("status"))
        progress = data.get("progress")
        if isinstance(progress, dict) and isinstance(progress.get("value"), int | float):
            said += f" {progress['value']:.0%}"
        if data.get("stopped"):
            said += f" ({data['stopped']})"
        return f"{said}: {data['message']}" if data.get("message") else said
    if event == "download_progress":
        parts = [each for each in (data.get("progress") or {}).values() if isinstance(each, dict)]
        total = sum(each.get("total") or 0 for each in parts)
        return f"downloading {sum(each.get('done') or 0 for each in parts) / total:.0%}" if total else "downloading"
    reason = data.get("message") or data.get("reason")
    return event.replace("_", " ") + (f": {reason}" if reason else "")


def _print(record: Mapping[str, Any], as_json: bool) -> None:
    if as_json:
        say(json.dumps(record))
        return
    if record.get("event") == SNAPSHOT_END:
        return
    at = datetime.now().strftime("%H:%M:%S")
    name = "all" if record.get("model") == "*" else str(record.get("model"))
    say(f"{styled(at, dim=True)}  {printable(name)}  {printable(words_of(record))}")
