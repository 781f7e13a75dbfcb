"""`lr explain`: how a model would be started, word by word, and where each word came from."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from typing import Any

import click

from llamarouter.cli.failures import CommandFailed, RouterFailure
from llamarouter.cli.models import explained
from llamarouter.cli.output import say, say_json, styled, table
from llamarouter.cli.parameters import MODEL, json_option, server_options
from llamarouter.cli.server_client import ServerClient, find_server

Explanation = Mapping[str, Any]  # model, command, env, flags [{option, values, origin}], policy, problem


@click.command()
@click.argument("model", required=False, type=MODEL)
@click.argument("serve_flags", metavar="[-- SERVE FLAGS]", nargs=-1, type=click.UNPROCESSED)
@click.option("--models-dir", metavar="PATH", help="Explain what `lr serve --models-dir PATH` would do.")
@click.option("--models-preset", metavar="PATH", help="Explain what `lr serve --models-preset PATH` would do.")
@click.option("--llama-server", "as_ini", is_flag=True, help="Print all models as a preset for llama-server's router.")
@server_options
@json_option
def explain(
    model: str | None,
    serve_flags: tuple[str, ...],
    models_dir: str | None,
    models_preset: str | None,
    as_ini: bool,
    url: str | None,
    port: int | None,
    as_json: bool,
) -> None:
    """Show how a model is started, and why so.

    The exact command, what is set in its environment, and for each flag the file and line, the command line, the
    environment variable or the default that it comes from. Asks the running router; without one, or with flags of
    `lr serve` (all of them behind --), works it out from what lies on this machine.

    \b
      lr explain user/model:Q4_K_M
      lr explain fast --models-preset presets/ab.ini
      lr explain fast -- --models-preset presets/ab.ini -c 8192
      lr explain --llama-server > models.ini && llama-server --models-preset models.ini

    Exit codes: 0 done, 1 it cannot be started (or the router failed), 2 wrong usage.
    """
    if model is not None and model.startswith("-"):  # `lr explain --llama-server -- -c 8192`
        serve_flags, model = (model, *serve_flags), None
    flags = [*_flag("--models-dir", models_dir), *_flag("--models-preset", models_preset), *serve_flags]
    server = None if flags else find_server(url, port)
    if as_ini:
        say(_preset(server, flags, model), newline=False)
        return
    if model is None:
        raise click.UsageError("name a model, or say --llama-server for all of them")
    explanation = _explanation(server, flags, model)
    if as_json:
        say_json(explanation)
    else:
        _show(explanation)
    if explanation.get("problem"):
        raise CommandFailed(f"{explanation['model']} cannot be started: {explanation['problem']}")


def _flag(name: str, value: str | None) -> list[str]:
    return [name, value] if value is not None else []


def _explanation(server: ServerClient | None, flags: list[str], model: str) -> Explanation:
    if server is None:
        from llamarouter.cli.local import local_explanation

        return local_explanation(flags, model)
    try:
        answer: Explanation = server.get("/lr/explain", model=model)
    except RouterFailure as error:
        raise explained(error, server, [model]) from error
    return answer


def _preset(server: ServerClient | None, flags: list[str], model: str | None) -> str:
    if server is None:
        from llamarouter.cli.local import local_preset

        return local_preset(flags, model)
    query = {"format": "llama-server", **({"model": model} if model is not None else {})}
    try:
        with server.stream("GET", "/lr/explain", query=query) as lines:
            return "".join(f"{line}\n" for line in lines)
    except RouterFailure as error:
        raise explained(error, server, [model] if model is not None else []) from error


def _show(explanation: Explanation) -> None:
    command: Sequence[str] = explanation.get("command") or ()
    flags: Sequence[Mapping[str, Any]] = explanation.get("flags") or ()
    policy: Sequence[Mapping[str, Any]] = explanation.get("policy") or ()
    environment: Mapping[str, str] = explanation.get("env") or {}
    if not command:
        return
    say(styled("command", dim=True))
    for line in command_lines(command, flags):
        say(f"  {line}")
    if flags:
        say()
        rows = [(str(flag["option"]), shlex.join(map(str, flag["values"])), str(flag["origin"])) for flag in flags]
        for line in table(("FLAG", "VALUE", "FROM"), rows):
            say(line)
    if policy:
        say()
        rows = [(str(rule["key"]), str(rule["value"]), str(rule["origin"])) for rule in policy]
        for line in table(("POLICY", "VALUE", "FROM"), rows):
            say(line)
    if environment:
        say()
        say(styled("environment", dim=True))
        origins = {each["name"]: each["origin"] for each in explanation.get("variables") or ()}
        for name in sorted(environment):
            origin = f"   ({origins[name]})" if name in origins else ""
            say(f"  {name}={shlex.quote(environment[name])}{origin}")


def command_lines(command: Sequence[str], flags: Sequence[Mapping[str, Any]]) -> list[str]:
    """The command for a shell: what is run on the first line, then each flag with its values on a line of its own."""
    groups = [[str(flag["option"]), *map(str, flag["values"])] for flag in flags]
    told = [word for group in groups for word in group]
    ends = list(command[len(command) - len(told) :]) == told if told else False
    if not ends:
        return [shlex.join(command)]
    lines = [shlex.join(command[: len(command) - len(told)]), *(f"  {shlex.join(group)}" for group in groups)]
    return [f"{line} \\" for line in lines[:-1]] + lines[-1:]
