"""What `GET /models` says: llama-server's fields, and ours below `lr`."""

from __future__ import annotations

import asyncio
import re
from typing import Any

import msgspec

from llamarouter.core.access import Access
from llamarouter.core.catalog import Catalog, Entry
from llamarouter.core.launch import without_secrets
from llamarouter.core.model import Model, Skipped, Source
from llamarouter.host.inventory import Inventory
from llamarouter.server.child import Child, Stage
from llamarouter.server.downloads import Downloads
from llamarouter.server.lives import reasons_of
from llamarouter.server.supervisor import Supervisor

_SECRET_KEYS = re.compile(r"^(hf-token|hft|HF_TOKEN|api-key|mcp-servers-json)\s*=.*$", re.MULTILINE)


class ModelList:
    """The whole answer of `GET /models`. Of a thousand models nearly all do nothing: what is said of those is written
    once, and kept until the next look around.
    """

    def __init__(self, supervisor: Supervisor, downloads: Downloads, created: int) -> None:
        self._supervisor = supervisor
        self._downloads = downloads
        self._created = created  # the unix time that every entry carries
        self._inventory: Inventory | None = None
        self._quiet: dict[str, msgspec.Raw] = {}  # by id, of this inventory

    def of(self, inventory: Inventory, access: Access) -> Any:
        """What is said now, of what a key sees; files, options and what failed are for administrators."""
        if not access.admin:
            return self._for_users(inventory, access)
        if inventory is not self._inventory:
            self._inventory = inventory
            self._quiet.clear()
        entries = listed(inventory.catalog, self._downloads)
        stirring = self._stirring()
        warnings = _warnings(inventory.catalog, self._downloads)
        return {
            "data": [self._describe(entry, inventory, entry.model.id in stirring) for entry in entries],
            "object": "list",
            "warnings": [{"where": each.where, "reason": each.reason} for each in warnings],
        }

    def _for_users(self, inventory: Inventory, access: Access) -> Any:
        entries = [entry for entry in listed(inventory.catalog, self._downloads) if access.sees(entry.id)]
        described = (describe(each, inventory, self._supervisor, self._downloads, self._created) for each in entries)
        return {"data": [for_users(each) for each in described], "object": "list", "warnings": []}

    def _stirring(self) -> set[str]:
        """The models of which more is to be said than what lies on the disk."""
        supervisor, downloads = self._supervisor, self._downloads
        lives = supervisor.lives
        lived = {*supervisor.children, *lives.failures, *lives.architectures, *lives.stops}
        return {
            *lived,
            *supervisor.appraised(),
            *downloads.progress(),
            *downloads.failures,
            *supervisor.scheduler.restless(),
        }

    def _describe(self, entry: Entry, inventory: Inventory, stirs: bool) -> Any:
        known = None if stirs else self._quiet.get(entry.model.id)
        if known is not None:
            return known
        described = describe(entry, inventory, self._supervisor, self._downloads, self._created)
        if not stirs and described["lr"]["memory"] is None:  # what is known of it changes with every look
            self._quiet[entry.model.id] = msgspec.Raw(msgspec.json.encode(described))
        return described


def _warnings(catalog: Catalog, downloads: Downloads) -> list[Skipped]:
    """What was left out, and what was asked for and did not come."""
    missed = [
        Skipped(model, error.message) for model, error in downloads.failed_lately() if model not in catalog.entries
    ]
    return [*catalog.skipped, *missed]


def listed(catalog: Catalog, downloads: Downloads) -> list[Entry]:
    """What the list shows: the catalogue, and what is on its way and not known by any other name yet."""
    coming = [model for model in downloads.progress() if model not in catalog.entries]
    entries = [entry for entry in catalog.entries.values() if not entry.hidden]
    entries += [Entry(model=Model(id=model, source=Source.CACHE, removable=True), hf_wanted=model) for model in coming]
    return sorted(entries, key=lambda entry: entry.model.id)


def describe(entry: Entry, inventory: Inventory, supervisor: Supervisor, downloads: Downloads, created: int) -> Any:
    """One model."""
    model = entry.model
    download = downloads.progress().get(model.id)
    child = supervisor.children.get(model.id)
    info = child.info if child is not None else {}
    described: dict[str, Any] = {
        "id": model.id,
        "aliases": list(entry.aliases),
        "tags": list(entry.tags),
        "object": "model",
        "owned_by": "llamacpp",
        "created": created,
        "status": _status(entry, inventory, supervisor, child, downloads),
        "architecture": _architecture(entry) | supervisor.lives.architectures.get(model.id, {}),
        "source": model.source.value,
        "can_remove": model.removable,
        "lr": _ours(entry, supervisor, child, download) | {"failure": _failure(entry, supervisor, downloads)},
    }
    # What only the child knows (`meta`), while it runs.
    return described | {key: value for key, value in info.items() if key not in described}


# What of ours is for everybody who uses a model.
_FOR_USERS = (
    *("size", "quant", "n_params", "context", "waiting", "progress", "uptime", "in_flight", "slots", "n_ctx"),
    *("tokens_per_second", "load_seconds"),
)


def for_users(described: dict[str, Any]) -> dict[str, Any]:
    """One model as a key sees it that administers nothing: no file, no option, no process."""
    ours, status = described["lr"], described["status"]
    status = {name: value for name, value in status.items() if name not in ("args", "preset")}
    return {
        **described,
        "can_remove": False,
        "status": {**status, "args": []},
        "lr": {name: ours[name] for name in _FOR_USERS if name in ours},
    }


def _status(
    entry: Entry,
    inventory: Inventory,
    supervisor: Supervisor,
    child: Child | None,
    downloads: Downloads,
) -> dict[str, Any]:
    progress = downloads.progress_of(entry.model.id)
    launch = entry.launch
    argv = () if launch is None else (*inventory.engine_of(launch.engine_key).command, *launch.argv())
    if child is not None:  # in its place
        argv = child.command
    status: dict[str, Any] = {"value": _value(child, progress), "args": without_secrets(argv)}
    if entry.preset_text:
        status["preset"] = _SECRET_KEYS.sub(r"\1 = ***", entry.preset_text)
    if child is not None and child.progress is not None and child.stage is Stage.LOADING:
        status["progress"] = msgspec.to_builtins(child.progress)
    elif child is None and progress is not None:
        status["progress"] = progress
    if child is None and (failed := supervisor.lives.failures.get(entry.model.id)) is not None:
        status["exit_code"] = failed[0].exit_code
        status["failed"] = True
    return status


def _value(child: Child | None, download: object | None) -> str:
    if child is not None:
        return child.stage.value
    return "unloaded" if download is None else "downloading"


def _architecture(entry: Entry) -> dict[str, list[str]]:
    return {"input_modalities": list(entry.input_modalities), "output_modalities": list(entry.output_modalities)}


def _ours(entry: Entry, supervisor: Supervisor, child: Child | None, download: float | None) -> dict[str, Any]:
    model, header = entry.model, entry.model.header
    ours: dict[str, Any] = {
        "size": model.size or None,
        "quant": header.quant if header is not None else None,
        "n_params": header.n_params if header is not None else None,
        "context": header.n_ctx_train if header is not None else None,
        "path": model.files.model if model.files is not None else None,
        "problem": entry.problem or model.problem,
        "waiting": supervisor.scheduler.waiting(model.id),
        "cooldown": supervisor.cooldown_left(model.id),
        "progress": download,
        "load_on_startup": entry.load_on_startup,
        **_policy(model.id, supervisor),
        "stopped": stopped_of(model.id, supervisor),
        "memory": supervisor.needs_of(model.id),
    }
    if model.unread:
        ours["unread"] = True
    if child is not None:
        ours |= _running(child, supervisor)
    return ours


def _policy(model: str, supervisor: Supervisor) -> dict[str, Any]:
    """How long it stays, as it holds now; `ttl` and `expires_in` are seconds."""
    policy = supervisor.scheduler.policy_of(model)
    return {"ttl": policy.ttl, "pinned": policy.pinned, "priority": policy.priority}


def stopped_of(model: str, supervisor: Supervisor) -> dict[str, Any] | None:
    """Why the router stopped a model that is not loaded: evicted (`for` which one), expired or unloaded."""
    stopped = supervisor.lives.stops.get(model)
    if stopped is None or model in supervisor.children:
        return None
    return {**reasons_of(stopped[0]), "seconds_ago": asyncio.get_running_loop().time() - stopped[1]}


def _running(child: Child, supervisor: Supervisor) -> dict[str, Any]:
    now = asyncio.get_running_loop().time()
    ready = child.ready
    last_used = supervisor.scheduler.last_used(child.model)
    return {
        "pid": child.pid,
        "uptime": now - child.started,
        "in_flight": supervisor.scheduler.in_flight(child.model),
        "tokens_per_second": child.tokens_per_second,
        "last_used": None if last_used is None else now - last_used,
        "expires_in": supervisor.scheduler.expires_in(child.model, now),
        "slots": ready.slots if ready is not None else None,
        "n_ctx": ready.n_ctx if ready is not None else None,
        "layers_offloaded": ready.layers_offloaded if ready is not None else None,
        "layers": ready.layers if ready is not None else None,
        "load_seconds": ready.load_seconds if ready is not None else None,
        "progress": child.progress.value if child.progress is not None else None,
        "place": child.placement.label or None if child.placement is not None else None,
        "held": dict(supervisor.scheduler.held().get(child.model, {})),
        "shortfalls": list(child.shortfalls),
    }


def _failure(entry: Entry, supervisor: Supervisor, downloads: Downloads) -> dict[str, Any] | None:
    """Why the last child of a model ended, or why its files are not here."""
    now = asyncio.get_running_loop().time()
    if (failed := supervisor.lives.failures.get(entry.model.id)) is not None:
        end, at = failed
        return {
            "reason": end.cause.value,
            "message": end.message,
            "last_words": list(end.last_words),
            "signal": end.signal,
            "hint": end.hint(entry.model.id),
            "seconds_ago": now - at,
        }
    if entry.hf_wanted is not None and (refused := downloads.failures.get(entry.model.id)) is not None:
        error, at = refused
        return {"reason": error.reason, "message": error.message, "last_words": [], "seconds_ago": now - at}
    return None
