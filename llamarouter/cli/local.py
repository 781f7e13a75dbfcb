"""What `lr serve` would find and do, worked out here while no router runs."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from llamarouter.cli.failures import CommandFailed
from llamarouter.cli.models import Listing, Row
from llamarouter.core.catalog import Catalog, Entry
from llamarouter.core.flags import OptionTable
from llamarouter.core.model import Model
from llamarouter.core.naming import nearest
from llamarouter.core.policy import Policy
from llamarouter.core.settings import Settings, engine_of, parse_settings
from llamarouter.host.child_environment import set_for_children
from llamarouter.host.config_file import read_config
from llamarouter.host.discovery import discover, places_of
from llamarouter.host.header_cache import HeaderCache
from llamarouter.host.state import state_dir

if TYPE_CHECKING:
    from llamarouter.host.inventory import Inventory

# What of the environment a list depends on; the rest (an address without a key, say) is the business of `lr serve`.
_OF_A_LIST = ("LLAMA_ARG_MODELS_DIR", "LLAMA_ARG_MODELS_PRESET")


def local_listing(models_dir: str | None, preset: str | None) -> Listing:
    """The models that `lr serve` with these flags, or with this environment, would offer. Raises `UsageError`.

    Without a preset no engine is needed: headers alone are read.
    """
    flags = [*_flag("--models-dir", models_dir), *_flag("--models-preset", preset)]
    environ = {name: os.environ[name] for name in _OF_A_LIST if name in os.environ}
    settings = parse_settings(flags, environ, OptionTable(()), _read)
    if settings.preset is not None:
        catalog = _inventory(settings, [], os.environ).catalog
        rows = [_row(entry.model, entry) for entry in catalog.entries.values() if not entry.hidden]
        return Listing(tuple(rows), tuple((each.where, each.reason) for each in catalog.skipped))
    found = discover(places_of(os.environ, settings.models_dir), _headers())
    # A file with a problem is in the table and among the notes: the note has its path.
    rows = [_row(model) for model in found.models]
    return Listing(tuple(rows), tuple((each.where, each.reason) for each in found.skipped))


def local_explanation(flags: list[str], model: str) -> Mapping[str, Any]:
    """How `lr serve FLAGS` would start a model, in the shape in which the router tells it."""
    inventory = _planned(flags)
    entry = _entry(inventory.catalog, model)
    from llamarouter.core.explain import explain

    key = entry.launch.engine_key if entry.launch is not None else None
    return explain(entry, inventory.engine_of(key).command, set_for_children(os.environ))


def local_plan(flags: list[str], model: str) -> Mapping[str, Any]:
    """What a request for a model would meet with if `lr serve FLAGS` ran and had loaded nothing."""
    from llamarouter.host.inventory import engine_for
    from llamarouter.server.lone_plan import lone_plan

    engine = engine_for(engine_of(flags, os.environ), os.environ)
    settings = parse_settings(flags, os.environ, engine.table, _read, read_config(os.environ))
    if not settings.memory_check:
        raise CommandFailed("a router with --no-memory-check plans nothing: lr explain shows how a model is started")
    inventory = _inventory(settings, flags, os.environ)
    return lone_plan(_entry(inventory.catalog, model), inventory, settings, os.environ)


def local_preset(flags: list[str], model: str | None) -> str:
    """What `lr serve FLAGS` would offer (or one model of it) as a preset for llama-server's own router."""
    from llamarouter.core.explain import as_llama_server_ini

    catalog = _planned(flags).catalog
    return as_llama_server_ini(catalog if model is None else Catalog([_entry(catalog, model)]))


def _planned(flags: list[str]) -> Inventory:
    """Everything as `lr serve FLAGS` would see it, this environment included."""
    from llamarouter.host.inventory import engine_for

    table = engine_for(engine_of(flags, os.environ), os.environ).table
    return _inventory(parse_settings(flags, os.environ, table, _read, read_config(os.environ)), flags, os.environ)


def _inventory(settings: Settings, flags: list[str], environ: Mapping[str, str]) -> Inventory:
    from llamarouter.host.inventory import engine_for, take_inventory

    return take_inventory(settings, environ, engine_for(engine_of(flags, environ), environ), _headers())


def _headers() -> HeaderCache:
    return HeaderCache(state_dir(os.environ) / "headers.json")


def _flag(name: str, value: str | None) -> list[str]:
    return [name, value] if value is not None else []


def _read(path: str) -> str:
    return Path(path).read_text(encoding="utf-8")


def _entry(catalog: Catalog, model: str) -> Entry:
    entry = catalog.resolve(model)
    if entry is None:
        names = [name for each in catalog.entries.values() for name in (each.id, *each.aliases)]
        raise CommandFailed(f"there is no model {model!r}{nearest(model, names) or '; `lr ls` lists them'}")
    return entry


def _row(model: Model, entry: Entry | None = None) -> Row:
    header = model.header
    policy = entry.policy if entry is not None else Policy()
    return Row(
        id=model.id,
        state="unloaded",
        source=model.source.value,
        aliases=entry.aliases if entry is not None else (),
        size=model.size or None,
        quant=header.quant if header is not None else None,
        parameters=header.n_params if header is not None else None,
        context=header.n_ctx_train if header is not None else None,
        path=model.files.model if model.files is not None else None,
        problem=(entry.problem if entry is not None else None) or model.problem,
        load_on_startup=entry is not None and entry.load_on_startup,
        pinned=policy.pinned,
        priority=policy.priority,
        ttl=policy.ttl,
    )
