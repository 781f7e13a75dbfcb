"""The router's life: sockets, supervisor, servers, signals, and the order in which they go.

    bind -> runtime folder -> supervisor { servers, start-up loads } -> drain -> servers end -> children gone -> exit 0

The supervisor is the outer block, not uvicorn's lifespan: were it inside, a failure of it would leave `/health`
answering with nobody behind. First SIGTERM or SIGINT drains, a second one hurries, SIGHUP reloads,
the certificate too.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
import signal
import socket
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

import uvicorn

from llamarouter.core.catalog import Catalog
from llamarouter.core.errors import UsageError
from llamarouter.core.model import Skipped
from llamarouter.core.refusals import draining
from llamarouter.core.scheduler import Limits, Scheduler
from llamarouter.core.settings import Settings
from llamarouter.core.startup import loads_at_start
from llamarouter.host.engine import Engine
from llamarouter.host.header_cache import HeaderCache
from llamarouter.host.inventory import Inventory
from llamarouter.host.listening import Bound, bind
from llamarouter.host.runtime_folder import RuntimeFolder
from llamarouter.host.tls import Tls
from llamarouter.relay.body_budget import BodyBudget
from llamarouter.relay.silence import cutting_silent
from llamarouter.relay.traffic import Traffic
from llamarouter.server.child import Child
from llamarouter.server.doors import admin_door, public_door
from llamarouter.server.downloads import Downloads
from llamarouter.server.fake_timing import SlowReception, SlowSpawner, is_asked_for
from llamarouter.server.feed import Feed
from llamarouter.server.node import Node
from llamarouter.server.page import Page
from llamarouter.server.page_folder import PageFolder
from llamarouter.server.page_store import PageStore
from llamarouter.server.reception import Reception
from llamarouter.server.revival import Revival
from llamarouter.server.shelf import Shelf
from llamarouter.server.spawner import Spawner
from llamarouter.server.streams import Streams
from llamarouter.server.supervisor import Supervisor

log = logging.getLogger("llamarouter")


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """Everything that is known before the router runs."""

    settings: Settings
    environ: Mapping[str, str]
    engine: Engine
    headers: HeaderCache
    inventory: Inventory
    state: str | None  # the state folder, None where there is none to write to


class _Server(uvicorn.Server):
    """uvicorn without its signal handlers: ours drain first."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


async def serve(plan: Plan, announce: Callable[[Node], None]) -> None:
    """Run the router until it is told to stop. Raises `UsageError` where it cannot start."""
    settings = plan.settings
    tls = None if settings.certificate is None else Tls(*settings.certificate)
    bound = bind(settings.host, settings.port, "http" if tls is None else "https")
    port = next((each.port for each in bound if each.port is not None), None)
    with contextlib.ExitStack() as stack:
        for each in bound:
            stack.callback(each.close)
        folder = stack.enter_context(RuntimeFolder.open(_environ_of(settings, plan.environ), port))
        async with asyncio.TaskGroup() as tasks:
            await _Life(plan, folder, _Doors(bound, tls), tasks, announce).run()


def assemble(plan: Plan, folder: RuntimeFolder, tasks: asyncio.TaskGroup, stop: Callable[[], None]) -> Node:
    """The router's parts, each told whom it needs; nothing runs yet. Raises `UsageError`."""
    settings, environ = plan.settings, plan.environ
    feed = Feed()
    store = PageStore(plan.engine, plan.state)
    folder_of_page = PageFolder(settings.ui_path) if settings.ui and settings.ui_path is not None else None

    def changed(before: Catalog, after: Catalog) -> None:
        node.apply(before, after)

    def ready(child: Child) -> None:
        if settings.ui and folder_of_page is None and child.ready is not None and child.has_page:
            tasks.create_task(store.take(child.ready.address, child.ready.api_key))

    async def downloaded() -> None:
        await node.reload()

    shelf = Shelf(
        plan.inventory,
        settings=settings,
        environ=environ,
        engine=plan.engine,
        headers=plan.headers,
        on_change=changed,
    )
    limits = Limits(
        models_max=settings.models_max,
        max_wait=settings.max_wait,
        queue_timeout=settings.queue_timeout,
        queue_per_model=settings.queue_per_model,
        queue_in_all=settings.queue_in_all,
        queue_bytes=settings.queue_bytes,
    )
    slow = is_asked_for(environ)
    spawner = (SlowSpawner if slow else Spawner)(settings, shelf, folder, environ)
    supervisor = Supervisor(Scheduler(limits, _jitter), spawner, feed, ready)
    supervisor.lives.on_failure = Revival(supervisor, lambda model: node.begin(reception.load(model))).failed
    cache = plan.inventory.places.hub_cache
    downloads = Downloads(tasks, feed, cache, _environ_of(settings, environ), downloaded, offline=settings.offline)
    reception = (SlowReception if slow else Reception)(settings, shelf, supervisor, downloads)
    node = Node(
        settings=settings,
        environ=environ,
        shelf=shelf,
        supervisor=supervisor,
        downloads=downloads,
        reception=reception,
        feed=feed,
        traffic=Traffic(BodyBudget(settings.queue_bytes)),
        streams=Streams(supervisor, shelf, reception),
        page=Page(store, enabled=settings.ui, folder=folder_of_page),
        tasks=tasks,
        created=int(time.time()),  # noqa: TID251 (an API field that is a date)
        stop=stop,
    )
    return node


@dataclass(frozen=True, slots=True)
class _Doors:
    """What the router listens on; within TLS what is on TCP, where there is a certificate."""

    bound: list[Bound]
    tls: Tls | None

    def urls(self, prefix: str) -> tuple[str, ...]:
        return tuple(each.url + (prefix if each.port is not None else "") for each in self.bound)

    def renew(self) -> Skipped | None:
        """Take the certificate again; one that cannot be used changes nothing, and is said here and in the log."""
        if self.tls is None:
            return None
        try:
            self.tls.renew()
        except UsageError as error:
            log.error("the certificate stays as it was: %s", error)
            return Skipped("the certificate stays as it was", str(error))
        log.info("the certificate was read again, for connections from now on")
        return None

    def configs(self, node: Node) -> Iterator[tuple[uvicorn.Config, list[socket.socket]]]:
        """How uvicorn runs them; its TLS is for all sockets of a server, and a UNIX socket needs none."""
        if self.tls is None:
            yield public_door(node), [each.socket for each in self.bound]
            return
        yield public_door(node, self.tls.context), [each.socket for each in self.bound if each.port is not None]
        unix = [each.socket for each in self.bound if each.port is None]
        if unix:
            yield public_door(node), unix


class _Life:
    """One run: what is built, and what signals do to it."""

    def __init__(
        self,
        plan: Plan,
        folder: RuntimeFolder,
        doors: _Doors,
        tasks: asyncio.TaskGroup,
        announce: Callable[[Node], None],
    ) -> None:
        settings = plan.settings
        self._settings = settings
        self._folder = folder
        self._doors = doors
        self._tasks = tasks
        self._announce = announce
        self._stopping = asyncio.Event()
        self._node = assemble(plan, folder, tasks, self._stopping.set)
        self._node.listening = doors.urls(settings.api_prefix)
        self._node.renew_certificate = doors.renew
        self._supervisor = self._node.supervisor

    async def run(self) -> None:
        """Serve until stopped; every child is gone on return."""
        servers = self._servers()
        async with self._supervisor:
            running = [self._tasks.create_task(server.serve(sockets)) for server, sockets in servers]
            self._handle_signals()
            self._folder.write_info(self._node.status())
            self._announce(self._node)
            self._load_on_startup()
            if self._node.shelf.inventory.unread:
                self._tasks.create_task(self._node.shelf.look())
            with cutting_silent(self._node.traffic, self._settings.timeout):
                await self._stopping.wait()
                await self._drain()
            for server, _ in servers:
                server.should_exit = True
            await asyncio.wait(running)

    def _servers(self) -> list[tuple[_Server, list[socket.socket]]]:
        admin_socket = bind((self._folder.admin_socket,), 0)
        configs = [*self._doors.configs(self._node), (admin_door(self._node), [each.socket for each in admin_socket])]
        return [(_Server(config), sockets) for config, sockets in configs]

    def _load_on_startup(self) -> None:
        places = self._settings.models_max
        wanted, left = loads_at_start(self._node.shelf.catalog.entries.values(), places)
        for model in left:
            log.warning("%s is not loaded at start: --models-max is %d", model, places)
        for model in wanted:
            self._node.begin(self._node.reception.load(model))

    # --- the end ----------------------------------------------------------------------------------------------------

    def _handle_signals(self) -> None:
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._asked_to_stop)
        loop.add_signal_handler(signal.SIGHUP, self._asked_to_reload)

    def _asked_to_stop(self) -> None:
        if self._stopping.is_set():
            log.warning("stopping at once")
            self._supervisor.close(0.0)
        self._stopping.set()

    def _asked_to_reload(self) -> None:
        self._doors.renew()
        self._tasks.create_task(self._node.reload())

    async def _drain(self) -> None:
        busy = sum(self._supervisor.scheduler.in_flight(model) for model in self._supervisor.children)
        log.info("stopping: %d requests may end within %g s", busy, self._settings.drain_timeout)
        self._node.feed.end()
        self._node.downloads.end()
        self._node.shelf.hurry()
        self._supervisor.close(self._settings.drain_timeout)
        await self._node.streams.stop_unheard()
        self._node.traffic.close(draining())
        await self._supervisor.lives.until_empty()
        for ring in self._supervisor.lives.rings.values():
            ring.end()


def _jitter() -> float:
    """Pauses are a little longer than promised, each by another share: models that failed together come back apart."""
    return random.uniform(1.0, 1.2)


def _environ_of(settings: Settings, environ: Mapping[str, str]) -> dict[str, str]:
    """The environment with what the command line says instead of it."""
    given = {"HF_TOKEN": settings.hf_token, "LR_RUNTIME_DIR": settings.runtime_dir}
    return {**environ, **{name: value for name, value in given.items() if value is not None}}
