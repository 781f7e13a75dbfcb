"""`lr doctor`: what is wrong with this machine, its folders and its settings, and what mends it."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from msgspec.structs import asdict

from llamarouter.cli.failures import CommandFailed, one_line
from llamarouter.cli.output import say, say_json, styled
from llamarouter.cli.parameters import MODEL, json_option

if TYPE_CHECKING:
    from llamarouter.cli.server_client import ServerClient
    from llamarouter.core.findings import Finding
    from llamarouter.core.settings import Settings
    from llamarouter.host.engine import Engine
    from llamarouter.host.inventory import Inventory

_QUICK, _SLOW, _FRONT = 10.0, 60.0, 150.0  # seconds
_MARKS = {
    "error": ("red", "error"),
    "warning": ("yellow", "warning"),
    "note": ("cyan", "note"),
    "fine": ("green", "ok"),
}


@click.command()
@click.argument("serve_flags", metavar="[-- SERVE FLAGS]", nargs=-1, type=click.UNPROCESSED)
@click.option("--url", "public", metavar="PUBLIC", help="Also look at the proxy in front, through its public URL.")
@click.option("--model", type=MODEL, help="Whom --url asks for a stream; else one that is loaded.")
@click.option("--port", metavar="N", type=click.IntRange(0, 65535), help="The router of this machine on that port.")
@json_option
def doctor(serve_flags: tuple[str, ...], public: str | None, model: str | None, port: int | None, as_json: bool) -> int:
    """Look for what is wrong here, and say what mends it.

    Engine, devices, limits, folders, models and presets, ports, keys and the systemd unit: of the running router, else
    of one that `lr serve SERVE FLAGS` would start. With --url also what stands in front of it: whether it holds
    tokens back, loses headers or leaves administration open (a stream of 64 tokens is asked for; LR_API_KEY has the
    key). Nothing is changed, and whatever hangs is left after its time.

    \b
      lr doctor
      lr doctor -- --models-preset my.ini -c 8192
      lr doctor --url https://llm.example.org
      lr doctor --json | jq '.findings[] | select(.severity == "error")'

    Exit codes: 0 fine, 1 warnings, 2 errors (or wrong usage).
    """
    from llamarouter.core.findings import exit_code_of, sorted_by_severity

    findings = sorted_by_severity(_examined(list(serve_flags), public, model, port))
    status = exit_code_of(findings)
    if as_json:
        shown = [{**asdict(each), "severity": each.severity.value} for each in findings]
        say_json({"exit_code": status, "findings": shown})
    else:
        _show(findings)
    return status


def _examined(flags: list[str], public: str | None, model: str | None, port: int | None) -> list[Finding]:
    from llamarouter.cli.examination import examine
    from llamarouter.cli.server_client import find_server
    from llamarouter.core.findings import Finding, Severity
    from llamarouter.host.checks.folders import check_folders
    from llamarouter.host.checks.keys import check_keys, check_secret_files
    from llamarouter.host.key_file import KEYS
    from llamarouter.host.state import state_dir

    here = {name: value for name, value in os.environ.items() if name != "LR_URL"}
    way = None if public is None else _way(public)
    server, status, findings = None, dict[str, Any](), list[Finding]()
    try:
        server = find_server(None, port) if "LR_URL" not in os.environ or port is not None else None
        status = {} if server is None else server.get("/lr/status")
    except CommandFailed as error:
        fix = "`lr stop`, or look into its log"
        findings.append(Finding("router", Severity.ERROR, str(error), fix=fix))
    if status:
        what = f"runs on {', '.join(status.get('listen') or ())}, pid {status.get('pid')}"
        findings.append(Finding("router", Severity.FINE, what))
    else:
        findings.append(Finding("router", Severity.NOTE, "none is running here", fix="`lr serve` starts one"))
    key_file = status.get("key_file")
    key_path = Path(key_file) if key_file else state_dir(os.environ) / KEYS
    checks = [
        ("folders", _QUICK, lambda: check_folders(here, status.get("hub_cache"))),
        ("keys", _QUICK, lambda: [*check_keys(key_path), *check_secret_files(status.get("secret_files") or ())]),
        ("engine", _SLOW, lambda: _of_machine(flags, status, here)),
    ]
    if public is not None and way is not None:
        checks.append(("front", _FRONT, lambda: _of_front(public, way, server, model)))
    return [*findings, *examine(checks)]


def _of_machine(flags: list[str], status: Mapping[str, Any], environ: Mapping[str, str]) -> list[Finding]:
    """What hangs on the engine: devices, models, ports, limits, the unit."""
    from dataclasses import replace

    from llamarouter.core.errors import UsageError
    from llamarouter.core.findings import Finding, Severity
    from llamarouter.core.settings import engine_of
    from llamarouter.host.checks.engine import device_findings, engine_findings
    from llamarouter.host.checks.keys import check_secret_files
    from llamarouter.host.checks.port import check_ports
    from llamarouter.host.inventory import engine_for

    quiet = {**environ, "LR_STATE_DIR": os.devnull}  # what is found out is not kept: nothing is written
    running = bool(status)
    try:
        wanted = engine_of(flags, environ)
        if wanted is None and (named := (status.get("engine") or {}).get("command")):
            wanted = ("embedded",) if status["engine"].get("kind") == "embedded" else tuple(named)
        engine = engine_for(wanted, quiet)
        if running and wanted is not None and not flags:
            engine = replace(engine, origin="that of the router that runs")
    except UsageError as error:
        return [Finding("engine", Severity.ERROR, str(error), fix="`lr engine build`, or --engine PATH")]
    findings = [*engine_findings(engine), *device_findings(engine, environ)]
    settings, inventory = None, None
    try:
        settings = _settings(flags, status, environ, engine)
        inventory = _inventory(settings, quiet, engine)
    except UsageError as error:
        findings.append(Finding("settings", Severity.ERROR, str(error), fix="mend that flag, variable or file"))
    if settings is not None:
        findings += [
            Finding("settings", Severity.WARNING, each.reason, each.where, "leave it out, or correct it")
            for each in settings.warnings
        ]
        if not running:
            findings += [*check_secret_files(settings.secret_files), *check_ports(settings.host, settings.port)]
    return [*findings, *_of_inventory(inventory, settings, status, environ)]


def _of_inventory(
    inventory: Inventory | None, settings: Settings | None, status: Mapping[str, Any], environ: Mapping[str, str]
) -> list[Finding]:
    from llamarouter.host.checks.limits import check_limits
    from llamarouter.host.checks.models import check_models
    from llamarouter.host.checks.unit import check_unit
    from llamarouter.host.devices.roots import Roots

    pid, roots = status.get("pid"), Roots()
    has_gpu = roots.has_nvidia or roots.has_amd
    if inventory is None:
        return [*check_limits(pid), *check_unit(pid, (), environ, has_gpu=has_gpu)]
    entries = inventory.catalog.entries.values()
    largest = max((entry.model.size for entry in entries), default=0)
    locking = tuple(
        entry.id
        for entry in entries
        if entry.launch is not None and any(flag.option == "--mlock" for flag in entry.launch.flags)
    )
    folders = [each for each in (inventory.places.models_dir, inventory.places.hub_cache) if each is not None]
    return [
        *check_models(inventory, settings.preset if settings is not None else None),
        *check_limits(pid, largest, locking),
        *check_unit(pid, folders, environ, has_gpu=has_gpu),
    ]


def _settings(flags: list[str], status: Mapping[str, Any], environ: Mapping[str, str], engine: Engine) -> Settings:
    """Of the flags, else of what the running router says of itself. Raises `UsageError`."""
    from llamarouter.core.settings import parse_settings
    from llamarouter.host.config_file import read_config

    told = [("--models-dir", status.get("models_dir")), ("--models-preset", status.get("preset"))]
    words = flags or [word for name, value in told if value for word in (name, str(value))]
    # Whether there are keys is looked at elsewhere; a router that runs has passed that.
    kept = bool(status) or _keys_are_kept(environ)
    return parse_settings(words, environ, engine.table, _read, read_config(environ), keys_kept=kept)


def _keys_are_kept(environ: Mapping[str, str]) -> bool:
    from llamarouter.core.errors import UsageError
    from llamarouter.host.key_file import KEYS, KeyFile
    from llamarouter.host.state import state_dir

    try:
        return bool(KeyFile(state_dir(environ) / KEYS).read())
    except UsageError:
        return True  # said by the check of the keys


def _inventory(settings: Settings, environ: Mapping[str, str], engine: Engine) -> Inventory:
    from llamarouter.host.header_cache import HeaderCache
    from llamarouter.host.inventory import take_inventory

    return take_inventory(settings, environ, engine, HeaderCache(None))


def _of_front(public: str, way: Any, server: ServerClient | None, model: str | None) -> list[Finding]:
    from llamarouter.cli.models import rows_from
    from llamarouter.host.checks.front import check_front, socket_way

    direct = None
    if server is not None and server.address.unix is not None:
        direct = socket_way(server.address.unix)
        if model is None:
            loaded = [row.id for row in rows_from(server).rows if row.state == "loaded"]
            model = loaded[0] if loaded else None
    return check_front(public, way, direct, model)


def _way(public: str) -> Any:
    from llamarouter.core.errors import UsageError
    from llamarouter.host.checks.front import public_way

    try:
        return public_way(public, os.environ.get("LR_API_KEY"))
    except ValueError as error:
        raise UsageError(f"--url: {error}") from error


def _read(path: str) -> str:
    return Path(path).read_text(encoding="utf-8")


def _show(findings: list[Finding]) -> None:
    for each in findings:
        colour, mark = _MARKS[each.severity.value]
        say(f"{styled(f'{mark:<7}', fg=colour)} {each.area:<8} {one_line(each.what)}")
        for name, text in (("where", each.where), ("fix", each.fix)):
            if text:
                say(styled(f"{'':<16} {name}: {one_line(text)}", dim=name == "where"))
    count = {name: sum(each.severity.value == name for each in findings) for name in ("error", "warning", "note")}
    said = [f"{number} {name}{'s' if number != 1 else ''}" for name, number in count.items() if number]
    say(f"\n{', '.join(said) or 'all is well'}")
