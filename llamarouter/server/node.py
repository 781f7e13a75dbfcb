"""The router, assembled: who knows what, and the few actions that concern more than one of them."""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Mapping
from contextlib import AbstractContextManager, AsyncExitStack, asynccontextmanager, nullcontext
from typing import Any

from msgspec.structs import replace

import llamarouter
from llamarouter.core.build_info import build_info_of
from llamarouter.core.catalog import Catalog, Entry
from llamarouter.core.changes import Changes, changes_between
from llamarouter.core.cors import Cors
from llamarouter.core.errors import Conflict, ModelNotFound, RouterError, UsageError
from llamarouter.core.events import Pinned, PolicySet
from llamarouter.core.explain import Explanation, explain
from llamarouter.core.model import Skipped
from llamarouter.core.pins import origin_of_pin
from llamarouter.core.placed import placed
from llamarouter.core.scheduler import Phase
from llamarouter.core.settings import Settings
from llamarouter.host import child_process
from llamarouter.host.child_environment import set_for_children
from llamarouter.host.inventory import Inventory
from llamarouter.host.removal import check_shared, drop_partials, files_of, plan_removal, remove
from llamarouter.relay.traffic import Traffic
from llamarouter.server.child_figures import ChildFigures
from llamarouter.server.chronicle import Chronicle
from llamarouter.server.counting import Counting
from llamarouter.server.downloads import Downloads
from llamarouter.server.feed import Feed
from llamarouter.server.log_book import LogBook
from llamarouter.server.memory import Memory
from llamarouter.server.page import Page
from llamarouter.server.reception import Reception
from llamarouter.server.shelf import Shelf
from llamarouter.server.streams import Streams
from llamarouter.server.supervisor import Supervisor

log = logging.getLogger("llamarouter")


class Node:
    """Everything that the application needs, by name."""

    def __init__(
        self,
        *,
        settings: Settings,
        environ: Mapping[str, str],
        shelf: Shelf,
        supervisor: Supervisor,
        chronicle: Chronicle,
        counting: Counting,
        memory: Memory | None,
        downloads: Downloads,
        reception: Reception,
        feed: Feed,
        traffic: Traffic,
        book: LogBook,
        streams: Streams,
        page: Page,
        tasks: asyncio.TaskGroup,
        created: int,
        stop: Callable[[], None],
    ) -> None:
        self.settings = settings
        self.shelf = shelf
        self.supervisor = supervisor
        self.chronicle = chronicle
        self.counting = counting
        self.child_figures = ChildFigures(supervisor.children, supervisor.errands)
        self.memory = memory
        self.downloads = downloads
        self.reception = reception
        self.feed = feed
        self.traffic = traffic
        self.book = book
        self.streams = streams
        self.page = page
        self.created = created  # unix seconds: when this router started
        self.stop = stop
        self.clients: Callable[[], int] = lambda: 0  # how many are connected
        self.listening: tuple[str, ...] = ()
        # What else a reload reads: the certificate of the doors, the file of keys; each says why it stays as it was.
        self.renewals: list[Callable[[], Skipped | None]] = []
        self.reloading: Callable[[], AbstractContextManager[None]] = nullcontext  # in the block a reload runs
        self.environ = environ
        self._tasks = tasks
        self._deleting: set[str] = set()
        self._started = asyncio.get_running_loop().time()
        self._decide(shelf.catalog)

    @property
    def cors(self) -> Cors:
        """What pages elsewhere may do, by whether there are keys now."""
        cors = self.settings.cors
        return cors if self.reception.gate.is_open else cors.with_keys()

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """In the block children may live; at its end they have gone, and then whoever looked at the devices."""
        async with AsyncExitStack() as stack:
            stack.callback(self.reception.gate.close)
            stack.callback(self.traffic.journal.flush)
            if self.memory is not None:
                await stack.enter_async_context(self.memory)
            await stack.enter_async_context(self.supervisor)
            await stack.enter_async_context(self.child_figures)
            self.supervisor.errands.begin(child_process.prepare())
            if self.memory is not None:
                self.supervisor.errands.begin(self._look_at_memory(self.memory))
            yield

    async def _look_at_memory(self, memory: Memory) -> None:
        await memory.begin()
        for warning in await self.doubts_of_memory():
            log.warning("%s", warning)

    async def doubts_of_memory(self) -> tuple[Skipped, ...]:
        """What was said of devices and cannot be, where somebody looks at them."""
        unknown = () if self.memory is None else await self.memory.unknown_devices()
        return (*unknown, *await self.doubts_of_pins())

    async def doubts_of_pins(self) -> tuple[Skipped, ...]:
        """Pinned models that cannot all be in memory at once, where somebody looks at it."""
        pinned = [model for model in self.supervisor.scheduler.pinned() if model in self.shelf.catalog.entries]
        misfit = None if self.memory is None else await self.memory.misfit_of(pinned)
        if misfit is None:
            return ()
        where = origin_of_pin(self.shelf.catalog.entries[misfit.model])
        return (Skipped(where or "lr pin", str(misfit)),)

    def begin(self, work: Coroutine[Any, Any, None]) -> asyncio.Future[None]:
        """Run something that nobody has to wait for; whoever waits sees its error, and so does no sibling."""
        outcome: asyncio.Future[None] = asyncio.get_running_loop().create_future()

        async def run() -> None:
            try:
                await work
            except RouterError as error:
                outcome.set_exception(error)
                outcome.exception()  # it may be that nobody waits: then it is in the list of models
            else:
                outcome.set_result(None)
            finally:
                if not outcome.done():
                    outcome.cancel()

        self._tasks.create_task(run())
        return outcome

    def load_unasked(self, model: str, when: str) -> None:
        """Load a model for which no client waits: where it is refused, the log says why."""
        self.begin(self._load_unasked(model, when))

    async def _load_unasked(self, model: str, when: str) -> None:
        try:
            await self.reception.load(model)
        except RouterError as error:
            if model not in self.supervisor.lives.failures:  # of those it was said already
                log.warning("%s is not loaded %s: %s", model, when, error.message)

    async def reload(self) -> None:
        """As `read_again`, where nobody hears of it: a refusal is in the log."""
        await self._logged(self.read_again())

    async def renew(self) -> None:
        """As `look_again`, where nobody hears of it: something was fetched."""
        await self._logged(self.look_again())

    async def _logged(self, look: Awaitable[Changes]) -> None:
        try:
            await look
        except (UsageError, OSError) as error:
            log.error("reload refused, everything stays as it was: %s", error)

    async def read_again(self) -> Changes:
        """A reload that somebody asks for: `look_again`, and once that is not refused everything else that is read."""
        self.book.reopen()  # whatever comes of the rest: somebody may have moved a log away
        with self.reloading():
            changes = await self.look_again()
            doubts = tuple(doubt for renew in self.renewals if (doubt := renew()) is not None)
        for doubt in doubts:
            log.error("%s", doubt)
        return replace(changes, warnings=(*changes.warnings, *doubts))

    async def look_again(self) -> Changes:
        """Read everything anew, whether it has changed or not; what has failed may be tried at once.

        Only what has changed is touched. Raises `UsageError`, `OSError` where it cannot be read, and touches nothing.
        """
        before = self.shelf.catalog
        await self.shelf.look(force=True)
        for model in self.shelf.catalog.entries:
            self._allow(model)
        self.reception.quarantine.clear()
        self.reception.gate.look_again()
        changes = changes_between(before, self.shelf.catalog)
        doubts = await self.doubts_of_memory()
        changes = replace(changes, warnings=(*changes.warnings, *doubts), news=(*changes.news, *doubts))
        for warning in changes.news:
            log.warning("%s", warning)
        log.info("reloaded %d models; %s", len(self.shelf.catalog.entries), changes)
        return changes

    def _allow(self, model: str) -> None:
        """What has failed may be tried at once; what runs or loads is left alone."""
        scheduler = self.supervisor.scheduler
        if scheduler.phase_of(model) is Phase.ABSENT and scheduler.failure_of(model) is not None:
            self.supervisor.forget(model, 0.0)

    def apply(self, before: Inventory, after: Inventory) -> None:
        """The shelf has changed: drain the children whose launch is another now, forget what was wrong.

        A child whose file or engine was replaced goes on with the old one, which it has mapped.
        """
        changes = changes_between(before.catalog, after.catalog)
        for model in changes.stale:
            self.supervisor.forget(model, self.settings.drain_timeout)
        swapped = after.swapped(before)
        if self.memory is not None:
            for key in swapped:
                self.memory.forget_engine(after.engine_of(key).command)
        replaced = (*changes.replaced, *after.run_by(swapped))
        for model in replaced:
            self._allow(model)
        for model in (*changes.stale, *replaced):
            self.reception.quarantine.forget(model)
        self._decide(after.catalog)
        if before.catalog.entries:
            self.feed.tell("*", "models_reload")

    def _decide(self, catalog: Catalog) -> None:
        """Have the models stay as long as the presets say."""
        learnt = {} if self.memory is None else self.memory.load_seconds()
        policies = {id: replace(entry.policy, load_seconds=learnt.get(id)) for id, entry in catalog.entries.items()}
        self.supervisor.decide(PolicySet(policies))

    def pin(self, model: str, pinned: bool | None) -> None:
        """Pin or unpin a model until the router ends; None: what its preset says holds again.

        Raises `Conflict` where as many are pinned as there are places.
        """
        places, others = self.settings.models_max, set(self.supervisor.scheduler.pinned()) - {model}
        if pinned and places and len(others) >= places:
            names = ", ".join(sorted(others))
            raise Conflict(
                f"--models-max is {places}, and as many models are pinned already ({names}): `lr unpin` one of them"
            )
        self.supervisor.decide(Pinned(model, pinned))
        log.info("%s is %s", model, "pinned" if self.supervisor.scheduler.policy_of(model).pinned else "not pinned")

    async def remove(self, entry: Entry, *, force: bool = False) -> None:
        """Delete the files of a cached model, after its child has drained and gone.

        Raises `Conflict` where that cannot be; unless `force`, also where another listed model has one of the files;
        `ModelNotFound` where somebody deletes it already.
        """
        model = entry.model.id
        if model in self._deleting:
            raise ModelNotFound(f"model '{model}' is being deleted")
        self._deleting.add(model)
        try:
            await self._remove(entry, force)
        finally:
            self._deleting.discard(model)

    async def _remove(self, entry: Entry, force: bool) -> None:
        model = entry.model.id
        others = {
            each.model.id: files_of(each.model)
            for each in self.shelf.catalog.entries.values()
            # What was fetched for a section is listed by its own name, too: that is no other model.
            if not (force or each.hidden or each.model.id == entry.model.repo)
        }
        # What is refused is refused before anything is unloaded.
        await asyncio.to_thread(lambda: check_shared(plan_removal(entry.model), others))
        with self.shelf.withdrawn(model):
            if model in self.supervisor.children:
                self.supervisor.unload(model, self.settings.drain_timeout)
                await self.supervisor.lives.until_gone(model)
            await asyncio.to_thread(lambda: remove(plan_removal(entry.model)))
            await self.shelf.look(force=True)
        self.feed.tell(model, "model_remove")

    async def stop_download(self, asked: str) -> bool:
        """Stop a download, keeping what is here for a resume; False if none runs."""
        entry = self.shelf.catalog.resolve(asked)
        return await self.downloads.cancel(entry.model.id if entry is not None else asked)

    async def forget_download(self, asked: str) -> bool:
        """What a stopped or failed download of something that is not listed has left is deleted; False: it is listed,
        or nothing was left.
        """
        if self.shelf.catalog.resolve(asked) is not None:
            return False
        left = self.downloads.failures.pop(asked, None) is not None
        cache = self.shelf.inventory.places.hub_cache
        left |= await asyncio.to_thread(drop_partials, cache, asked)
        if left:
            self.feed.tell(asked, "model_remove")
        return left

    def props(self) -> dict[str, Any]:
        """`GET /props` without a model: this is a router."""
        build = build_info_of(self.shelf.inventory.engines[None].build)
        return {
            "role": "router",
            "max_instances": self.settings.models_max,
            "models_autoload": self.settings.autoload,
            "model_alias": "llama-server",
            "model_path": "none",
            "default_generation_settings": {"params": None, "n_ctx": 0},
            "ui_settings": self.settings.ui_config,
            "build_info": f"{build} (llamarouter {llamarouter.__version__})",
            "cors_proxy_enabled": False,
        }

    def status(self) -> dict[str, Any]:
        """What `lr` shows of a running router."""
        inventory = self.shelf.inventory
        engine = inventory.engines[None]
        return {
            "version": llamarouter.__version__,
            "pid": os.getpid(),
            "uptime": asyncio.get_running_loop().time() - self._started,
            "listen": list(self.listening),
            "engine": {
                "command": list(engine.command),
                "kind": engine.kind.name.lower(),
                "build": engine.build,
                "origin": engine.origin,
            },
            "models_dir": inventory.places.models_dir,
            "hub_cache": inventory.places.hub_cache,
            "preset": self.settings.preset,
            "models_max": self.settings.models_max,
            "draining": self.supervisor.closing,
            "tasks": len(asyncio.all_tasks()),
            "secret_files": list(self.settings.secret_files),
            "key_file": None if (file := self.reception.gate.file) is None else str(file.path),
        }

    def explain(self, entry: Entry) -> Explanation:
        """How a model would be started, and where each flag came from."""
        key = entry.launch.engine_key if entry.launch is not None else None
        child = self.supervisor.children.get(entry.id)
        if child is not None and child.placement is not None and entry.launch is not None:
            launch = placed(entry.launch, child.placement, self.shelf.inventory.engine_of(key).table)
            entry = replace(entry, launch=launch)
        command = self.shelf.inventory.engine_of(key).command
        return explain(entry, command, set_for_children(self.environ))
