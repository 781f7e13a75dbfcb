"""`lr serve`: everything that is known before the router runs, said in a few lines, and the router.

Its command line is split by the option tables (ours and the engine's) before click could see it: click breaks
spellings such as `-hf`, `-lv` and `-ctk`, and every option of every llama-server build is accepted.
"""

from __future__ import annotations

import gc
import json
import logging
import math
import os
import shlex
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import click

from llamarouter.cli.failures import one_line
from llamarouter.core.naming import nearest

if TYPE_CHECKING:
    from llamarouter.core.catalog import Catalog
    from llamarouter.core.settings import Settings
    from llamarouter.server.assembly import Plan
    from llamarouter.server.node import Node

# How many are shown at the start; all of them are in `lr ls`.
_MOST_MODELS = 20
_MOST_WARNINGS = 12
# Seconds for the headers of files that were never seen before; those of the others are read while the router serves.
_READ_BEFORE_LISTENING = 0.05


def serve(argv: list[str]) -> int:
    """Run the router with the arguments behind `serve`; returns the exit code. Raises `UsageError`."""
    # Nearly all that is made until it listens lasts: to look for cycles in it would cost a tenth of the start.
    gc.disable()
    # Imported here: the server's half of the package costs a fifth of a second, and `lr --help` has no use for it.
    from llamarouter.cli.serve_log import set_up_log
    from llamarouter.core.settings import engine_of, listening_on, parse_settings
    from llamarouter.host.child_environment import child_environment
    from llamarouter.host.config_file import read_config
    from llamarouter.host.devices.machine import Machine
    from llamarouter.host.estimator import Estimator
    from llamarouter.host.footprint_cache import FootprintCache
    from llamarouter.host.hardening import harden
    from llamarouter.host.header_cache import HeaderCache
    from llamarouter.host.inventory import engine_for, take_inventory
    from llamarouter.host.key_file import KEYS, KeyFile
    from llamarouter.host.passed_sockets import take_passed
    from llamarouter.host.state import state_dir
    from llamarouter.server.appraiser import FOOTPRINTS
    from llamarouter.server.assembly import Plan

    environ = dict(os.environ)
    if any(word in ("-h", "--help", "--usage") for word in argv):
        from llamarouter.cli.serve_help import show_help

        show_help()
        return 0
    umask = harden()
    passed = take_passed(environ)  # before any child could inherit them
    engine = engine_for(engine_of(argv, environ), environ)
    config = read_config(environ)
    state = state_dir(environ)
    keys = KeyFile(state / KEYS)
    keys_kept = bool(keys.read())
    settings = parse_settings(argv, environ, engine.table, _read_text, config, keys_kept=keys_kept)
    settings = listening_on(settings, passed.hosts, passed.port, keys_kept=keys_kept)
    book = set_up_log(settings, environ)
    _warn_of_open_files(settings)
    settings, headers = _within_limits(settings), HeaderCache(state / "headers.json")
    headers.read_within(math.inf if settings.one_model is not None else _READ_BEFORE_LISTENING)
    inventory = take_inventory(settings, environ, engine, headers)
    headers.read_within(math.inf)
    _check_named(settings, inventory.catalog)
    plan = Plan(
        settings=settings,
        environ=environ,
        engine=engine,
        headers=headers,
        inventory=inventory,
        state=str(state),
        keys=keys,
        devices=Machine(engine.command, child_environment(environ)),
        footprints=Estimator(environ, FootprintCache(state / FOOTPRINTS)),
        passed=passed,
        umask=umask,
        # There were keys: a file without any is refused as it was then, not taken for a router that needs none.
        operators=lambda: parse_settings(argv, environ, engine.table, _read_text, config, keys_kept=True).api_keys,
        book=book,
    )
    return _run(plan)


def _warn_of_open_files(settings: Settings) -> None:
    """Log which of its files of keys everybody may read; a warning of the settings would outlive its mending."""
    if settings.secret_files:
        from llamarouter.host.checks.keys import check_secret_files

        for each in check_secret_files(settings.secret_files):
            logging.getLogger("llamarouter").warning("%s: %s: %s", each.where, each.what, each.fix)


def _within_limits(settings: Settings) -> Settings:
    """With as many clients as this process may have files for."""
    from msgspec.structs import replace

    from llamarouter.host.descriptors import clients_within

    wanted = settings.limits.max_connections
    if (most := clients_within(wanted)) < wanted:
        text = "--max-connections is %d, not %d: no more files may be open (%s)"
        logging.getLogger("llamarouter").warning(text, most, wanted, "LimitNOFILE= of the unit, or `ulimit -Hn`")
        settings = replace(settings, limits=replace(settings.limits, max_connections=most))
    return settings


def _read_text(path: str) -> str:
    return Path(path).read_text(encoding="utf-8")


def _check_named(settings: Settings, catalog: Catalog) -> None:
    """What the command line names is looked at. Raises `UsageError` where it cannot be used: it is no file of many."""
    from llamarouter.core.errors import UsageError
    from llamarouter.core.hub_names import is_valid_repo
    from llamarouter.core.ids import repo_in_id

    one = settings.one_model
    if one is not None:
        entry = catalog.entries[one.id]
        if entry.problem is not None:
            raise UsageError(f"{one.said}: {entry.problem}")
        if entry.hf_wanted is not None and settings.offline:
            raise UsageError(f"{one.said}: not in the cache, and --offline forbids to fetch it")
    default = settings.default_model
    if default is None or catalog.resolve(default) is not None:
        return
    if is_valid_repo(repo_in_id(default)) and one is None and not settings.offline:
        doubt = "--default-model %s is not here yet: requests that name no model are refused until it is"
        logging.getLogger("llamarouter").warning(doubt, default)
        return
    names = [name for each in catalog.entries.values() for name in (each.id, *each.aliases)]
    raise UsageError(f"--default-model {default}: there is no such model{nearest(default, names) or '; see lr ls'}")


def _run(plan: Plan) -> int:
    import asyncio

    import uvloop

    from llamarouter.server.run import serve as run

    # How long the loop waits for a thread that reads headers or decodes a large body, each time that it has news.
    sys.setswitchinterval(0.0005)
    try:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(run(plan, lambda node: _announce(plan, node)))
    except BaseExceptionGroup as group:
        # One line for the operator, whatever group the failure came in.
        from llamarouter.core.errors import UsageError

        usage = group.subgroup(UsageError)
        if usage is None:
            raise
        raise _first(usage) from None
    return 0


def _first(group: BaseExceptionGroup[BaseException]) -> BaseException:
    inner = group.exceptions[0]
    return _first(inner) if isinstance(inner, BaseExceptionGroup) else inner


def _announce(plan: Plan, node: Node) -> None:
    write = logging.getLogger("llamarouter").info if plan.settings.log.jsonl else click.echo
    for line in _first_words(plan, node):
        # The blanks in front are ours. What files are called must not steer a terminal.
        write(" " * (len(line) - len(line.lstrip(" "))) + one_line(line))
    if not plan.settings.log.jsonl:
        _try_it(plan, node)
    sys.stdout.flush()
    gc.freeze()
    gc.enable()


def _first_words(plan: Plan, node: Node) -> Iterator[str]:
    from llamarouter.host.engine import EngineKind

    catalog = plan.inventory.catalog
    # What cannot be started stands among the warnings below, with its reason.
    models = [entry.model.id for entry in catalog.entries.values() if entry.problem is None and not entry.hidden]
    yield f"llamarouter serves {_count(len(models), 'model')} with {plan.engine.build} ({plan.engine.origin})"
    if plan.engine.kind is EngineKind.EMBEDDED:
        yield "note: this is the EMBEDDED engine, on the CPU only; for a native one (and the GPU): lr engine build"
    yield from (f"  {model}" for model in models[:_MOST_MODELS])
    if (left := len(models) - _MOST_MODELS) > 0:
        yield f"  ... and {left} more: lr ls"
    if (unread := plan.inventory.unread) > 0:
        yield f"  the headers of {_count(unread, 'file')} are still being read"
    yield from (f"  warning: {warning}" for warning in catalog.skipped[:_MOST_WARNINGS])
    if (left := len(catalog.skipped) - _MOST_WARNINGS) > 0:
        yield f"  ... and {left} more warnings: lr ls"
    if not catalog.entries:
        yield "  no models yet: lr pull ggml-org/gemma-3-4b-it-GGUF:Q4_K_M, or --models-dir PATH"
    yield from (f"listening on {url}" for url in node.listening)
    if (default := plan.settings.default_model) is not None:
        which = "all requests" if plan.settings.answers_to_any_name else "requests that name no model"
        yield f"{which} are for {default}"


def _try_it(plan: Plan, node: Node) -> None:
    model = next((e.model.id for e in plan.inventory.catalog.entries.values() if e.launch), None)
    url = next((url for url in node.listening if url.startswith("http")), None)
    if model is None or url is None:
        return
    key = " -H 'Authorization: Bearer YOUR_KEY'" if not node.reception.gate.is_open else ""
    # Somebody will paste it into a shell.
    body = shlex.quote(json.dumps({"model": model, "messages": [{"role": "user", "content": "Hello"}]}))
    # Whose name the certificate bears is not ours to know: on this machine, for a first try, nobody checks it.
    curl = "curl -k" if url.startswith("https") else "curl"
    click.echo(f"try: {curl} {url}/v1/chat/completions{key} -d {body}")


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" + ("" if number == 1 else "s")
