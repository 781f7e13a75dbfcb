"""How all models are at this moment, as the records of the feed that would have led there."""

from __future__ import annotations

from collections.abc import Iterator

import msgspec

from llamarouter.server.child import Stage
from llamarouter.server.feed import Record
from llamarouter.server.listing import listed
from llamarouter.server.node import Node


def snapshot_of(node: Node) -> Iterator[Record]:
    """One record for each model of the list, two for one that is downloaded."""
    for entry in listed(node.shelf.catalog, node.downloads):
        model = entry.model.id
        progress = node.downloads.progress_of(model)
        if model not in node.supervisor.children and progress is not None:
            yield Record(model, "model_status", {"status": "downloading"})
            yield Record(model, "download_progress", {"progress": progress})
        else:
            yield Record(model, "status_change", _state_of(node, model))


def _state_of(node: Node, model: str) -> dict[str, object]:
    child = node.supervisor.children.get(model)
    if child is None:
        failed = node.supervisor.lives.failures.get(model)
        return {"status": "unloaded", **node.supervisor.lives.ending_of(model, None if failed is None else failed[0])}
    state: dict[str, object] = {"status": child.stage.value}
    if child.stage is Stage.LOADING and child.progress is not None:
        state["progress"] = msgspec.to_builtins(child.progress)
    elif child.stage is Stage.LOADED:
        state["info"] = child.info
    return state
