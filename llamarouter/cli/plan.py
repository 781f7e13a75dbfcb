"""`lr plan`: what would happen if somebody asked for a model now."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import click

from llamarouter.cli.explain import command_lines
from llamarouter.cli.failures import CommandFailed, RouterFailure
from llamarouter.cli.models import explained
from llamarouter.cli.output import duration_of, say, say_json, size_of, styled
from llamarouter.cli.parameters import MODEL, json_option, server_options
from llamarouter.cli.server_client import find_server

Plan = Mapping[str, Any]  # docs/control.md

_SOURCES = {
    "measured": "measured",
    "engine": "as the engine reckons",
    "log": "as its last load said",
    "header": "roughly, by its header",
}
_PARTS = ("weights", "kv", "compute", "projector", "other")


@click.command()
@click.argument("model", type=MODEL)
@click.argument("serve_flags", metavar="[-- SERVE FLAGS]", nargs=-1, type=click.UNPROCESSED)
@server_options
@json_option
def plan(model: str, serve_flags: tuple[str, ...], url: str | None, port: int | None, as_json: bool) -> None:
    """Show what a request for a model would meet with now.

    Whether it fits, on which devices and with how many bytes; who would have to go for it, and what that costs; how
    long it loads; the exact command. Nothing is done. Asks the running router; without one, or with flags of
    `lr serve` (all of them behind --), works it out from what is here: nothing else is loaded then.

    \b
      lr plan user/model:Q4_K_M
      lr plan big -- --memory-budget 80% -c 32768

    Exit codes: 0 it would be served (perhaps after a wait), 1 it would be refused (or the router failed), 2 wrong
    usage.
    """
    found = _plan(model, list(serve_flags), url, port)
    if as_json:
        say_json(found)
    else:
        for line in lines_of(found):
            say(line)
    if found["verdict"] == "refused":
        raise CommandFailed(f"{found['model']} would be refused: {found['why']}")


def _plan(model: str, flags: list[str], url: str | None, port: int | None) -> Plan:
    server = None if flags else find_server(url, port)
    if server is None:
        from llamarouter.cli.local import local_plan

        return local_plan(flags, model)
    try:
        answer: Plan = server.post("/lr/plan", {"model": model})
    except RouterFailure as error:
        raise explained(error, server, [model]) from error
    return answer


def lines_of(plan: Plan) -> Iterator[str]:
    """A plan for people."""
    if plan["verdict"] != "refused":
        yield f"{plan['model']}: {plan['why']}"
    if not plan.get("command"):
        return
    yield from _section("place", [str(plan["place"])] if plan.get("place") else [])
    yield from _section("needs", _needs(plan))
    yield from _section("goes", [_loss(each) for each in (*plan["evict"], *plan["claim"])])
    yield from _section("loads in", [duration_of(plan["load_seconds"])] if plan["load_seconds"] else [])
    yield from _section("devices", [_room(name, room) for name, room in plan["rooms"].items()])
    yield styled("command", dim=True)
    yield from (f"  {line}" for line in command_lines(plan["command"], plan["flags"]))
    own = [f"{each['name']}={shlex.quote(each['value'])}" for each in plan["variables"]]
    yield from _section("with", own)


def _section(name: str, lines: Sequence[str]) -> Iterator[str]:
    heads = [name, *("" for _ in lines[1:])]
    for head, line in zip(heads, lines, strict=False):
        yield f"{styled(f'{head:<9}', dim=True)} {line}"


def _needs(plan: Plan) -> list[str]:
    lines = [_need(name, size, plan["parts"].get(name)) for name, size in plan["needs"].items()]
    source = _SOURCES.get(str(plan["source"]))
    if lines and source is not None:
        lines[0] += f"   ({source})"
    lines += [_growth(name, size) for name, size in plan["may_grow"].items()]
    return [*lines, *(f"but: {doubt}" for doubt in plan["doubts"])]


def _growth(name: str, size: int | None) -> str:
    much = "without a limit" if size is None else f"up to {size_of(size)}"
    return f"later: {much} more of {name}, as prompts come to fill it (--cache-ram)"


def _need(name: str, size: int, parts: Mapping[str, int] | None) -> str:
    """Bytes of a device, and what they are made of: not where only a part of it is placed there."""
    found = {part: parts[part] for part in _PARTS if parts.get(part)} if parts else {}
    if sum(found.values()) != size:
        return f"{name} {size_of(size)}"
    return f"{name} {size_of(size)}: " + ", ".join(f"{part} {size_of(each)}" for part, each in found.items())


def _loss(loss: Mapping[str, Any]) -> str:
    said = [f"idle for {duration_of(loss['idle'])}" if loss["idle"] is not None else f"{loss['in_flight']} in flight"]
    if loss["load_seconds"]:
        said.append(f"loads again in {duration_of(loss['load_seconds'])}")
    said += [f"frees {size_of(size)} of {name}" for name, size in loss["frees"].items()]
    return f"{loss['model']}: {', '.join(said)}"


def _room(name: str, room: Mapping[str, Any]) -> str:
    said = [f"{size_of(room['free'])} of {size_of(room['total'])} free"]
    if room["ours"]:
        said.append(f"{size_of(room['ours'])} held by models")
    if room["budget"] is not None:
        said.append(f"a budget of {size_of(room['budget'])}")
    if room["reserve"]:
        said.append(f"{size_of(room['reserve'])} in reserve")
    return f"{name}: {', '.join(said)}"
