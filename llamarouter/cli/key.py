"""`lr key`: who may use the router, for what and how much. A secret is printed once, to stdout, and kept nowhere."""

from __future__ import annotations

import os
import secrets
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from llamarouter.cli.failures import RouterFailure
from llamarouter.cli.output import say, say_json, styled, table
from llamarouter.cli.parameters import json_option

if TYPE_CHECKING:
    from llamarouter.cli.server_client import ServerClient
    from llamarouter.core.keys import Key
    from llamarouter.host.key_file import KeyFile


@click.group()
def key() -> None:
    """Make, list and take away keys for the router.

    With the first key nobody comes in without one. A running router knows of every change at once; what it answers
    already is answered. Keys are in the file keys.toml of the state folder, as hashes.

    \b
      lr key add ann --models 'qwen/*,gemma' --rpm 60
      lr key add ops --admin
      lr key add prometheus --metrics
      lr key ls
      lr key rotate ann

    Exit codes: 0 done, 1 failed, 2 wrong usage.
    """


_port = click.option("--port", metavar="N", type=click.IntRange(0, 65535), help="Of the router on that port.")


@key.command()
@click.argument("name")
@click.option("--models", metavar="GLOB,...", help="Only these, by id: user/model:Q4_K_M, 'user/*' (else all).")
@click.option("--admin", is_flag=True, help="May load, unload, fetch, delete, and see what the router knows.")
@click.option("--metrics", is_flag=True, help="Reads /metrics, and may do nothing else: for Prometheus.")
@click.option("--rpm", metavar="N", type=int, help="Requests in any 60 seconds.")
@click.option("--concurrent", metavar="N", type=int, help="Requests at once, those that wait included.")
@click.option("--tokens-per-day", metavar="N", type=int, help="Tokens of prompts and answers until midnight, UTC.")
@click.option("--expires", metavar="DATE", help="2027-06-30 (to its end, UTC), a time in ISO 8601, or 90d, 12h.")
@click.option("--default-model", metavar="ID", help="For requests that name no model that the key has.")
@_port
@json_option
def add(
    name: str,
    models: str | None,
    admin: bool,
    metrics: bool,
    rpm: int | None,
    concurrent: int | None,
    tokens_per_day: int | None,
    expires: str | None,
    default_model: str | None,
    port: int | None,
    as_json: bool,
) -> None:
    """Make a key, and print its secret: it is not shown again.

    The models that it does not have are not there for it, in no list and no message. Case counts in a GLOB; `*` is any
    signs, `/` too.

    \b
      lr key add ann --models 'qwen/*' --default-model qwen/qwen3:Q4_K_M
      lr key add ci --rpm 30 --concurrent 2 --tokens-per-day 200000 --expires 90d

    Exit codes: 0 done, 1 failed, 2 wrong usage.
    """
    from llamarouter.core.keys import Key, Limits, added, digest_of, expiry_of, globs_of

    server, file = _place(port)
    now = datetime.now(UTC)
    secret = _secret()
    made = Key(
        name=name,
        digest=digest_of(secret.encode()),
        created=now.replace(microsecond=0),
        models=None if models is None else globs_of(models),
        admin=admin,
        metrics=metrics,
        limits=Limits(rpm=rpm, concurrent=concurrent, tokens_per_day=tokens_per_day),
        expires=None if expires is None else expiry_of(expires, now),
        default_model=default_model,
    )
    doubts = _doubts(made, server)
    keys = file.change(lambda before: added(before, made))
    _tell(server)
    _show_secret(made, secret, as_json)
    for doubt in doubts:
        _warn(doubt)
    if len(keys) == 1:
        say(
            "this is the first key: nobody comes in without one any more (health and the page's files stay open)",
            err=True,
        )


@key.command()
@_port
@json_option
def ls(port: int | None, as_json: bool) -> None:
    """List the keys: their rights and limits, never a secret.

    Where a router runs, also what each of them does now, and what it has used today.

    Exit codes: 0 done, 1 failed, 2 wrong usage.
    """
    server, file = _place(port)
    used = _used(server)
    keys = [{**_shown(each), **used.get(each.name, {})} for each in file.read()]
    keys += [shown for name, shown in used.items() if all(each["name"] != name for each in keys)]
    if as_json:
        say_json({"file": str(file.path), "keys": keys})
        return
    if not keys:
        say("no keys: everybody on this machine may use the router; `lr key add NAME` makes one", err=True)
        return
    columns = ("NAME", "RIGHTS", "MODELS", "LIMITS", "DEFAULT", "EXPIRES", "TODAY")
    for line in table(columns, [_cells(each) for each in keys]):
        say(line)


@key.command()
@click.argument("names", metavar="NAME...", nargs=-1, required=True)
@_port
def rm(names: tuple[str, ...], port: int | None) -> None:
    """Take keys away: they open nothing any more.

    What is being answered is answered.

    Exit codes: 0 done, 1 failed, 2 wrong usage.
    """
    from llamarouter.core.keys import removed

    server, file = _place(port)

    def without(keys: tuple[Key, ...]) -> tuple[Key, ...]:
        for name in names:
            keys = removed(keys, name)
        return keys

    left = file.change(without)
    _tell(server)
    for name in names:
        say(f"{name} is no key any more")
    if not left and server is not None:
        say("no key is left: until it is started again the router lets nobody in but with a key of --api-key", err=True)


@key.command()
@click.argument("name")
@_port
@json_option
def rotate(name: str, port: int | None, as_json: bool) -> None:
    """Give a key a new secret, and print it: the old one opens nothing any more.

    Its rights, limits, what it has used and its conversations stay.

    Exit codes: 0 done, 1 failed, 2 wrong usage.
    """
    from llamarouter.core.keys import digest_of, rotated

    server, file = _place(port)
    secret = _secret()
    keys = file.change(lambda before: rotated(before, name, digest_of(secret.encode())))
    _tell(server)
    _show_secret(next(each for each in keys if each.name == name), secret, as_json)


def _secret() -> str:
    from llamarouter.core.keys import secret_of

    return secret_of(secrets.token_urlsafe(32))


def _place(port: int | None) -> tuple[ServerClient | None, KeyFile]:
    """The router that runs here, if one does, and its file of keys."""
    from llamarouter.cli.server_client import find_server
    from llamarouter.host.key_file import KEYS, KeyFile
    from llamarouter.host.state import state_dir

    if os.environ.get("LR_URL") and port is None:
        from llamarouter.cli.address import wrong_usage

        raise wrong_usage("keys are made on the machine of their router: unset LR_URL, or name one here with --port")
    server = find_server(None, port)
    path = None if server is None else server.get("/lr/status").get("key_file")
    return server, KeyFile(Path(path) if path else state_dir(os.environ) / KEYS)


def _doubts(made: Key, server: ServerClient | None) -> list[str]:
    """What of a key means nothing to the router that runs. Raises `UsageError` where it contradicts itself."""
    from llamarouter.core.errors import UsageError
    from llamarouter.core.key_rules import sees_of

    names = _names_of(server)
    doubts = [
        f"--models {glob}: no model has such an id now; `lr ls` shows them"
        for glob in made.models or ()
        if names and not any(map(sees_of((glob,)), names.values()))
    ]
    default = made.default_model
    if default is None:
        return doubts
    model = names.get(default)
    if model is None and names:
        doubts.append(f"--default-model {default}: there is no such model now")
    if made.models is not None and not sees_of(made.models)(model or default):
        if model is not None:
            raise UsageError(f"--default-model {default}: {model} is not among the key's --models")
        doubts.append(f"--default-model {default}: if that is its id, it is not among the key's --models")
    return doubts


def _names_of(server: ServerClient | None) -> dict[str, str]:
    """Every id and alias, and the id that it means."""
    if server is None:
        return {}
    rows = server.get("/models")["data"]
    aliases = {alias: row["id"] for row in rows for alias in row.get("aliases") or ()}
    return aliases | {row["id"]: row["id"] for row in rows}


def _used(server: ServerClient | None) -> dict[str, dict[str, Any]]:
    if server is None:
        return {}
    try:
        return {each["name"]: each for each in server.get("/lr/keys")["keys"]}
    except RouterFailure as error:
        _warn(f"what keys have used is not known: {error}")
        return {}


def _tell(server: ServerClient | None) -> None:
    """Have the router look at the file now, where it would within a second."""
    _used(server)


def _shown(each: Key) -> dict[str, Any]:
    from llamarouter.core.keys import said_of

    return said_of(each)


def _show_secret(made: Key, secret: str, as_json: bool) -> None:
    if as_json:
        say_json({**_shown(made), "secret": secret})
        return
    say(secret)
    say(f"the secret of {made.name}; it is kept nowhere and not shown again", err=True)


def _warn(text: str) -> None:
    say(styled(text, err=True, fg="yellow"), err=True)


def _cells(each: Mapping[str, Any]) -> tuple[str, ...]:
    limits = [
        f"{each[name]} {unit}"
        for name, unit in (("rpm", "a minute"), ("concurrent", "at once"), ("tokens_per_day", "tokens a day"))
        if each.get(name)
    ]
    today = each.get("tokens_today")
    return (
        str(each["name"]),
        next((right for right in ("admin", "metrics") if each.get(right)), "use"),
        ",".join(each["models"]) if each.get("models") else "none" if each.get("metrics") else "all",
        ", ".join(limits) or "none",
        str(each.get("default_model") or "-"),
        "expired" if each.get("expired") else str(each.get("expires") or "never"),
        "-" if today is None else f"{today} tokens",
    )
