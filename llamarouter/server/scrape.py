"""What `GET /metrics` without a model says: what was counted, and how everything is now.

It is written from what the router knows anyway. No child is asked, no device waited for, no model used by it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING

import llamarouter
from llamarouter.core import metric_table as table
from llamarouter.core.catalog import Entry
from llamarouter.core.child_metrics import write_children
from llamarouter.core.exposition import Metric, Page, labels_of
from llamarouter.core.metric_table import UNKNOWN
from llamarouter.core.tally_page import write_tally
from llamarouter.host.own_process import own_process
from llamarouter.server.child import Child

if TYPE_CHECKING:
    from llamarouter.server.node import Node

STATES = ("unloaded", "downloading", "loading", "loaded", "sleeping", "stopping", "failed", "invalid")


def page_of(node: Node, *, open_metrics: bool) -> Page:
    """The page of what is now; it is yet to be written."""
    node.traffic.journal.flush()
    node.counting.keep({*node.shelf.catalog.entries, *node.supervisor.children, UNKNOWN, ""}, _keys(node))
    page = Page(open_metrics=open_metrics)
    _write_router(page, node)
    write_tally(page, node.counting.tally)
    _write_models(page, node)
    _write_devices(page, node)
    _write_children(page, node)
    _write_process(page)
    return page


def _keys(node: Node) -> set[str]:
    return {access.id for access in node.reception.gate.ring.all()}


def _write_router(page: Page, node: Node) -> None:
    engine = node.shelf.inventory.engines[None]
    says = labels_of(table.BUILD.labels, (llamarouter.__version__, engine.kind.name.lower(), engine.build or ""))
    page.family(table.BUILD, [(says, 1)])
    page.family(table.DRAINING, [("", int(node.supervisor.closing))])
    page.family(table.CONNECTIONS, [("", node.clients())])


def _write_models(page: Page, node: Node) -> None:
    scheduler, children = node.supervisor.scheduler, node.supervisor.children
    # A file that is listed by another name too is shown once; what lives is shown by whatever name it does.
    shown = [entry for id, entry in node.shelf.catalog.entries.items() if not entry.hidden or id in children]
    mine = {entry.id: labels_of(("model",), (entry.id,)) for entry in shown}
    states = {entry.id: state_of(entry, node) for entry in shown}
    every = list(mine.items())
    page.family(table.STATE, ((f'{labels},state="{states[model]}"', 1) for model, labels in every))
    counts = dict.fromkeys(STATES, 0)
    for state in states.values():
        counts[state] += 1
    page.family(table.MODELS, ((f'state="{state}"', count) for state, count in counts.items()))
    page.family(table.WAITING, ((labels, scheduler.waiting(model)) for model, labels in every))
    page.family(table.IN_FLIGHT, ((labels, scheduler.in_flight(model)) for model, labels in every))
    _per_child(page, node, table.SLOTS, lambda child: None if child.ready is None else child.ready.slots)
    _per_child(page, node, table.CHILD_CONNECTIONS, lambda child: child.connections.open if child.connections else None)
    held = (
        (labels_of(table.MODEL_MEMORY.labels, (m, d)), n) for m, by in scheduler.held().items() for d, n in by.items()
    )
    page.family(table.MODEL_MEMORY, held)


def _per_child(page: Page, node: Node, metric: Metric, of: Callable[[Child], int | None]) -> None:
    def samples() -> Iterator[tuple[str, float]]:
        for model, child in node.supervisor.children.items():
            if (value := of(child)) is not None:
                yield labels_of(metric.labels, (model,)), value

    page.family(metric, samples())


def state_of(entry: Entry, node: Node) -> str:
    """The word for what a model is doing, or cannot."""
    child = node.supervisor.children.get(entry.id)
    if child is not None:
        return "stopping" if child.stopping else child.stage.value
    if node.downloads.progress_of(entry.id) is not None:
        return "downloading"
    if entry.problem is not None or entry.model.problem is not None:
        return "invalid"
    return "failed" if entry.id in node.supervisor.lives.failures else "unloaded"


def _write_devices(page: Page, node: Node) -> None:
    figures = None if node.memory is None else node.memory.figures()
    if figures is None:
        return

    def family(metric: Metric, samples: Iterable[tuple[str, int]]) -> None:
        page.family(metric, ((labels_of(metric.labels, (device,)), value) for device, value in samples))

    rooms = figures.rooms.items()
    family(table.DEVICE_TOTAL, ((name, room.total) for name, room in rooms))
    family(table.DEVICE_FREE, ((name, room.free) for name, room in rooms))
    family(table.DEVICE_HELD, ((name, figures.held.get(name, 0)) for name, _ in rooms))
    family(table.DEVICE_BUDGET, ((name, room.most) for name, room in rooms))
    family(table.DEVICE_STALE, ((name, int(name in figures.stale)) for name, _ in rooms))
    page.family(table.DEVICE_AGE, [("", figures.age)])


def _write_children(page: Page, node: Node) -> None:
    ages = node.child_figures.ages()
    page.family(table.CHILD_AGE, ((labels_of(table.CHILD_AGE.labels, (model,)), age) for model, age in ages.items()))
    write_children(page, node.child_figures.all())


def _write_process(page: Page) -> None:
    own = own_process()
    for metric, value in (
        (table.CPU, own.cpu_seconds),
        (table.RESIDENT, own.resident),
        (table.VIRTUAL, own.virtual),
        (table.OPEN_FDS, own.open_fds),
        (table.MAX_FDS, own.max_fds),
        (table.STARTED, own.started),
    ):
        if value is not None:
            page.family(metric, [("", value)])
