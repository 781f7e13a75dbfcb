"""The router's life: sockets, supervisor, servers, signals, and the order in which they go.

    bind -> runtime folder -> supervisor { servers, start-up loads } -> drain -> servers end -> children gone -> exit 0

The supervisor is the outer block, not uvicorn's lifespan: were it inside, a failure of it would leave `/health`
answering with nobody behind. First SIGTERM or SIGINT drains, a second one hurries, SIGHUP reloads,
the certificate too. A service manager is told of all of it. The sockets that it has passed are left alone from the
first moment of the drain: who connects then is for the next router.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import signal
import socket
from collections.abc import Callable, Iterator

import uvicorn
from msgspec import Struct

from llamarouter.core.errors import UsageError
from llamarouter.core.model import Skipped
from llamarouter.core.refusals import draining
from llamarouter.core.scheduler import Phase
from llamarouter.core.startup import loads_at_start
from llamarouter.host.hardening import close_to_others
from llamarouter.host.listening import Bound, bind, passed_on
from llamarouter.host.notify import Notifier
from llamarouter.host.runtime_folder import RuntimeFolder
from llamarouter.host.tls import Tls
from llamarouter.relay.silence import cutting_silent
from llamarouter.server.assembly import Plan, assemble, environ_of
from llamarouter.server.doors import admin_door, public_door
from llamarouter.server.heartbeat import Heartbeat
from llamarouter.server.node import Node

log = logging.getLogger("llamarouter")


class _Server(uvicorn.Server):
    """uvicorn without its signal handlers: ours drain first."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield

    def accept_no_more(self) -> None:
        """What is connected stays; who connects from now on waits in the kernel for the next owner of the socket."""
        for server in self.servers:
            server.close()


async def serve(plan: Plan, announce: Callable[[Node], None]) -> None:
    """Run the router until it is told to stop. Raises `UsageError` where it cannot start."""
    settings = plan.settings
    tls = None if settings.certificate is None else Tls(*settings.certificate)
    scheme = "http" if tls is None else "https"
    passed = [passed_on(each, scheme) for each in plan.passed.public]
    bound = passed or bind(settings.host, settings.port, scheme)
    port = next((each.port for each in bound if each.port is not None), None)
    with contextlib.ExitStack() as stack:
        for each in bound:
            stack.callback(each.close)
        folder = stack.enter_context(RuntimeFolder.open(environ_of(settings, plan.environ), port))
        async with asyncio.TaskGroup() as tasks:
            await _Life(plan, folder, _Doors(bound, tls), tasks, announce).run()


class _Doors(Struct, frozen=True):
    """What the router listens on; within TLS what is on TCP, where there is a certificate."""

    bound: list[Bound]
    tls: Tls | None

    def urls(self, prefix: str) -> tuple[str, ...]:
        return tuple(each.url + (prefix if each.port is not None else "") for each in self.bound)

    def renew(self) -> Skipped | None:
        """Take the certificate again; one that cannot be used changes nothing, and is said."""
        if self.tls is None:
            return None
        try:
            self.tls.renew()
        except UsageError as error:
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
        self._node.renewals.append(doors.renew)
        if (operators := plan.operators) is not None:
            self._node.renewals.append(lambda: self._node.reception.gate.renew(operators))
        self._node.clients = lambda: sum(len(server.server_state.connections) for server in self._public)
        self._supervisor = self._node.supervisor
        self._passed = plan.passed
        self._public: list[_Server] = []
        self._heartbeat = Heartbeat(Notifier(plan.environ), self._supervisor.scheduler.deadline, self._in_a_line)
        self._node.reloading = self._heartbeat.reloading

    async def run(self) -> None:
        """Serve until stopped; every child is gone on return."""
        servers = self._servers()
        async with self._node.running():
            running = [self._tasks.create_task(server.serve(sockets)) for server, sockets in servers]
            self._handle_signals()
            self._supervisor.errands.begin(asyncio.to_thread(close_to_others))
            self._folder.write_info(self._node.status())
            self._announce(self._node)
            self._load_on_startup()
            if self._node.shelf.inventory.unread:
                self._tasks.create_task(self._node.shelf.look())
            with self._heartbeat.beating():
                with cutting_silent(self._node.traffic, self._settings.timeout):
                    await self._stopping.wait()
                    await self._drain()
                for server, _ in servers:
                    server.should_exit = True
                await asyncio.wait(running)

    def _servers(self) -> list[tuple[_Server, list[socket.socket]]]:
        admin_sockets = [each.socket for each in bind((self._folder.admin_socket,), 0)]
        public = [(_Server(config), sockets) for config, sockets in self._doors.configs(self._node)]
        self._public = [server for server, _ in public]
        return [*public, (_Server(admin_door(self._node)), [*admin_sockets, *self._passed.admin])]

    def _load_on_startup(self) -> None:
        places = self._settings.models_max
        wanted, left = loads_at_start(self._node.shelf.catalog.entries.values(), places)
        for model in left:
            log.warning("%s is not loaded at start: --models-max is %d", model, places)
        for model in wanted:
            self._node.load_unasked(model, "at start")

    def _in_a_line(self) -> str:
        """What a service manager shows of the router."""
        scheduler, catalog = self._supervisor.scheduler, self._node.shelf.catalog
        ready = sum(scheduler.phase_of(model) is Phase.READY for model in self._supervisor.children)
        busy = sum(scheduler.in_flight(model) for model in self._supervisor.children)
        word = "stopping: " if self._supervisor.closing else ""
        return f"{word}{len(catalog.entries)} models, {ready} loaded, {busy} requests being answered"

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
        self._tasks.create_task(self._node.reload())

    async def _drain(self) -> None:
        busy = sum(self._supervisor.scheduler.in_flight(model) for model in self._supervisor.children)
        log.info("stopping: %d requests may end within %g s", busy, self._settings.drain_timeout)
        self._node.feed.end()
        self._node.downloads.end()
        self._node.shelf.hurry()
        self._supervisor.close(self._settings.drain_timeout)
        self._heartbeat.stopping()
        if self._passed.public:
            for server in self._public:
                server.accept_no_more()
        await self._node.streams.stop_unheard()
        self._node.traffic.close(draining())
        await self._supervisor.lives.until_empty()
        for ring in (self._node.book.ring, *self._supervisor.lives.rings.values()):
            ring.end()
