"""The router put together: its parts, each told whom it needs. Nothing runs yet."""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path

from msgspec import Struct, field

from llamarouter.core.exits import Exit
from llamarouter.core.scheduler import Limits, Scheduler
from llamarouter.core.settings import Settings
from llamarouter.host.engine import Engine
from llamarouter.host.header_cache import HeaderCache
from llamarouter.host.incident_file import IncidentFile
from llamarouter.host.inventory import Inventory
from llamarouter.host.key_file import KeyFile
from llamarouter.host.learnt_footprints import LearntFootprints
from llamarouter.host.passed_sockets import Passed
from llamarouter.host.runtime_folder import RuntimeFolder
from llamarouter.host.usage_file import USAGE, UsageFile
from llamarouter.relay.body_budget import BodyBudget
from llamarouter.relay.traffic import Traffic
from llamarouter.server.appraiser import LEARNT, Footprints
from llamarouter.server.child import Child
from llamarouter.server.chronicle import Chronicle
from llamarouter.server.counting import Counting
from llamarouter.server.downloads import Downloads
from llamarouter.server.fake_timing import SlowReception, SlowSpawner, is_asked_for
from llamarouter.server.feed import Feed
from llamarouter.server.gate import Gate
from llamarouter.server.learning import Learning
from llamarouter.server.log_book import LogBook
from llamarouter.server.memory import Devices, Memory
from llamarouter.server.node import Node
from llamarouter.server.page import Page
from llamarouter.server.page_folder import PageFolder
from llamarouter.server.page_store import PageStore
from llamarouter.server.reception import Reception
from llamarouter.server.request_log import RequestLog
from llamarouter.server.revival import Revival
from llamarouter.server.shelf import Shelf
from llamarouter.server.spawner import Spawner
from llamarouter.server.streams import Streams
from llamarouter.server.supervisor import Supervisor
from llamarouter.server.warden import Warden


class Plan(Struct, frozen=True, kw_only=True):
    """Everything that is known before the router runs."""

    settings: Settings
    environ: Mapping[str, str]
    engine: Engine
    headers: HeaderCache
    inventory: Inventory
    state: str | None  # the state folder, None where there is none to write to
    keys: KeyFile | None = None  # None: there are those of the command line
    devices: Devices | None = None  # None: nobody looks at the memory
    footprints: Footprints | None = None
    passed: Passed = Passed()
    umask: int | None = None  # the operator's own, for the models that are fetched: others may share their cache
    # The keys of the command line and of --api-key-file as they are now. Raises `UsageError`.
    operators: Callable[[], tuple[str, ...]] | None = None
    book: LogBook = field(default_factory=LogBook)  # where the log goes


def assemble(plan: Plan, folder: RuntimeFolder, tasks: asyncio.TaskGroup, stop: Callable[[], None]) -> Node:
    """The router's parts, each told whom it needs; nothing runs yet. Raises `UsageError`."""
    settings, environ = plan.settings, plan.environ
    feed = Feed()
    page = _page_of(plan)

    def ready(child: Child) -> None:
        if page.comes_from_children and child.ready is not None and child.has_page:
            tasks.create_task(page.take(child.ready.address, child.ready.api_key))
        if memory is not None:
            memory.ready(child)
        counting.ready(child)
        node.child_figures.begin()

    def failed(child: Child, end: Exit) -> None:
        chronicle.note(child, end, lines := supervisor.lives.ring_of(child.model).lines())
        warden.failed(child, end)
        counting.failed(child, end)
        if memory is not None:
            memory.failed(child, end, lines)

    shelf = _shelf_of(plan, lambda before, after: node.apply(before, after))
    slow = is_asked_for(environ)
    spawner = (SlowSpawner if slow else Spawner)(settings, shelf, folder, environ)
    chronicle = Chronicle(tasks, IncidentFile.within(plan.state))
    memory = _memory_of(plan, shelf)
    supervisor = _supervisor_of(settings, spawner, feed, ready, memory)
    supervisor.lives.witness = failed
    supervisor.lives.on_failure = Revival(supervisor, lambda model: node.load_unasked(model, "again")).failed
    downloads = _downloads_of(plan, tasks, feed, lambda: node.renew())
    gate = _gate_of(plan)
    reception = (SlowReception if slow else Reception)(settings, shelf, supervisor, downloads, gate)
    reception.witness = chronicle.refused
    traffic = _traffic_of(plan, reception)
    counting = Counting(reception.model_of, traffic.journal, supervisor.lives)
    warden = Warden(reception.quarantine, traffic)
    node = Node(
        settings=settings,
        environ=environ,
        shelf=shelf,
        supervisor=supervisor,
        chronicle=chronicle,
        counting=counting,
        memory=memory,
        downloads=downloads,
        reception=reception,
        feed=feed,
        traffic=traffic,
        book=plan.book,
        streams=Streams(supervisor, reception),
        page=page,
        tasks=tasks,
        created=int(time.time()),  # noqa: TID251 (an API field that is a date)
        stop=stop,
    )
    return node


def _page_of(plan: Plan) -> Page:
    settings = plan.settings
    folder = PageFolder(settings.ui_path) if settings.ui and settings.ui_path is not None else None
    return Page(PageStore(plan.engine, plan.state), enabled=settings.ui, folder=folder)


def _shelf_of(plan: Plan, on_change: Callable[[Inventory, Inventory], None]) -> Shelf:
    return Shelf(
        plan.inventory,
        settings=plan.settings,
        environ=plan.environ,
        engine=plan.engine,
        headers=plan.headers,
        on_change=on_change,
    )


def _downloads_of(
    plan: Plan, tasks: asyncio.TaskGroup, feed: Feed, on_done: Callable[[], Awaitable[None]]
) -> Downloads:
    environ = environ_of(plan.settings, plan.environ)
    cache, offline = plan.inventory.places.hub_cache, plan.settings.offline
    return Downloads(tasks, feed, cache, environ, on_done, offline=offline, umask=plan.umask)


def _gate_of(plan: Plan) -> Gate:
    usage = None if plan.state is None else UsageFile(Path(plan.state, USAGE))
    return Gate(plan.settings.api_keys, plan.keys, usage=usage)


def _traffic_of(plan: Plan, reception: Reception) -> Traffic:
    """Each request leaves its line in the log, where that is wanted."""
    traffic = Traffic(BodyBudget(plan.settings.queue_bytes))
    loop, book = asyncio.get_running_loop(), plan.book
    book.attach(loop)
    if plan.settings.log.requests and book.least <= logging.WARNING:
        requests = RequestLog(book.requests, loop.time, reception.model_of, least=book.least)
        traffic.journal.readers.append(requests.take)
    return traffic


def _limits_of(settings: Settings, *, by_memory: bool) -> Limits:
    return Limits(
        models_max=settings.models_max,
        max_wait=settings.max_wait,
        queue_timeout=settings.queue_timeout,
        queue_per_model=settings.queue_per_model,
        queue_in_all=settings.queue_in_all,
        queue_bytes=settings.queue_bytes,
        by_memory=by_memory,
    )


def _supervisor_of(
    settings: Settings, spawner: Spawner, feed: Feed, ready: Callable[[Child], None], memory: Memory | None
) -> Supervisor:
    scheduler = Scheduler(_limits_of(settings, by_memory=memory is not None), _jitter)
    supervisor = Supervisor(scheduler, spawner, feed, ready, memory.appraiser if memory is not None else None)
    if memory is not None:
        memory.attach(supervisor)
    return supervisor


def _memory_of(plan: Plan, shelf: Shelf) -> Memory | None:
    """Who looks at the memory; None: nobody is to."""
    if not plan.settings.memory_check or plan.devices is None or plan.footprints is None:
        return None
    learnt = LearntFootprints.read(None if plan.state is None else Path(plan.state, LEARNT))
    return Memory(shelf, plan.devices, plan.footprints, plan.settings.budgets, Learning(learnt))


def _jitter() -> float:
    """Pauses are a little longer than promised, each by another share: models that failed together come back apart."""
    return random.uniform(1.0, 1.2)


def environ_of(settings: Settings, environ: Mapping[str, str]) -> dict[str, str]:
    """The environment with what the command line says instead of it."""
    given = {"HF_TOKEN": settings.hf_token, "LR_RUNTIME_DIR": settings.runtime_dir}
    return {**environ, **{name: value for name, value in given.items() if value is not None}}
