"""What `GET /lr/why` says: why a model failed, the last times, and how it is with it now."""

from __future__ import annotations

import asyncio
import time
from typing import Any

from msgspec.structs import asdict

from llamarouter.core.catalog import Entry
from llamarouter.core.incidents import Incident
from llamarouter.server.listing import stopped_of
from llamarouter.server.node import Node


def why(node: Node, entry: Entry) -> dict[str, Any]:
    """One model of the list."""
    model, supervisor = entry.model.id, node.supervisor
    child = supervisor.children.get(model)
    now = asyncio.get_running_loop().time()
    failure = supervisor.scheduler.failure_of(model)
    return {
        "model": model,
        "state": "unloaded" if child is None else child.stage.value,
        "problem": entry.problem or entry.model.problem,
        "error": None if failure is None else failure.error.message,
        "cooldown": supervisor.cooldown_left(model),
        "one_at_a_time": failure is not None and failure.is_broken,
        "stopped": stopped_of(model, supervisor),
        "failures": _failures(node, model),
        "quarantined": [
            {"path": held.path, "crash": held.crash, "seconds_left": held.until - now}
            for held in node.reception.quarantine.of(model, now)
        ],
    }


def why_gone(node: Node, model: str) -> dict[str, Any]:
    """One that is not listed any more, of which failures are remembered."""
    return {"model": model, "state": "gone", "failures": _failures(node, model)}


def _failures(node: Node, model: str) -> list[dict[str, Any]]:
    now = time.time()  # noqa: TID251 (beside dates)
    return [_shown(incident, now) for incident in node.chronicle.incidents.of(model)]


def _shown(incident: Incident, now: float) -> dict[str, Any]:
    return asdict(incident) | {"seconds_ago": max(0.0, now - incident.at)}
