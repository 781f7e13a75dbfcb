"""The shelf: what can be asked for now, looked at again when the folders have changed.

Looking reads files, so it runs in a thread, one at a time; looks are shared by whoever asks meanwhile, and there is
at most one every two seconds. What a look or a reload changed is told to `on_change`, which drains what it concerns.
A preset that cannot be read refuses a reload; a mere look then leaves everything as it was, and says so in the log.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager

from msgspec.structs import replace

from llamarouter.core.catalog import Catalog, Entry
from llamarouter.core.errors import ModelNotFound, UsageError
from llamarouter.core.settings import Settings
from llamarouter.host.engine import Engine
from llamarouter.host.header_cache import HeaderCache
from llamarouter.host.inventory import Inventory, looked_again, take_inventory
from llamarouter.host.model_files import read_now

log = logging.getLogger("llamarouter")

# A folder is looked at again at most this often (seconds).
_LOOK_INTERVAL = 2.0
# Whoever asks waits so long for a look (seconds); what it finds later, he sees the next time.
_LOOK_PATIENCE = 1.0
# What clients have called models is remembered up to so many names.
_MOST_NAMES = 1024


class Shelf:
    """The current inventory and the ways to renew it."""

    def __init__(
        self,
        inventory: Inventory,
        *,
        settings: Settings,
        environ: Mapping[str, str],
        engine: Engine,
        headers: HeaderCache,
        on_change: Callable[[Inventory, Inventory], None],
    ) -> None:
        self.inventory = inventory
        self._settings = settings
        self._environ = environ
        self._engine = engine
        self._headers = headers
        self._on_change = on_change
        self.known: dict[str, str] = {}
        self._withdrawn: set[str] = set()
        self._looking: asyncio.Task[None] | None = None
        self._thorough = False  # the look that runs was forced
        self._refused = ""  # why the last look changed nothing
        self._seen = inventory.look  # the last look that found all as in the inventory
        self._looked = asyncio.get_running_loop().time()
        self._seen = inventory.look  # the last look that found all as it is in the inventory

    @property
    def catalog(self) -> Catalog:
        """Everything that can be asked for."""
        return self.inventory.catalog

    def id_of(self, asked: str) -> str | None:
        """The id of the model that answers a request for `asked`, or None; remembered, because every request asks."""
        known = self.known.get(asked)
        if (
            known is None
            and (entry := self.catalog.resolve(self._answering(asked)))
            and entry.id not in self._withdrawn
        ):
            if len(self.known) >= _MOST_NAMES:
                self.known.clear()
            known = self.known[asked] = entry.model.id
        return known

    def _answering(self, asked: str) -> str:
        """The name that is meant: a router of one model answers to any, as llama-server with `-m` does."""
        known = not self._settings.answers_to_any_name or self.catalog.resolve(asked) is not None
        return asked if known else self._settings.default_model or asked

    def entry(self, asked: str) -> Entry:
        """The entry that a client's word means. Raises `ModelNotFound`."""
        entry = self.catalog.resolve(asked)
        if entry is None:
            raise unknown_model(asked)
        if entry.id in self._withdrawn:
            raise ModelNotFound(f"model '{_printable(asked)}' is being deleted")
        return entry

    @contextmanager
    def withdrawn(self, model: str) -> Iterator[None]:
        """In the block nobody gets the model any more, and nobody who waits for it has it started."""
        self._withdrawn.add(model)
        self.known.clear()
        try:
            yield
        finally:
            self._withdrawn.discard(model)

    async def find(self, asked: str) -> Entry:
        """Like `entry`, but looks at the folders again before it says no.

        Also where a model cannot be used: its file may have been half copied, or missing, when it was last looked at.
        One whose header there was no time for is read before all others.
        """
        known = self.catalog.resolve(asked)
        if known is None or known.problem is not None:
            await self.look()
        elif known.model.unread:
            await self._read(known)
        return self.entry(asked)

    async def _read(self, entry: Entry) -> None:
        """Read the headers of this model now, however many others are still to be read."""
        model = await asyncio.to_thread(read_now, entry.model, self._headers)
        known = self.catalog.entries.get(entry.id)
        if known is None or known.model != entry.model:  # a look has ended meanwhile
            return
        if model.broken:  # what that means depends on how it is started
            await self.look()
            return
        fresh = replace(known, model=model, problem=model.problem, launch=None if model.problem else known.launch)
        self.inventory = replace(self.inventory, catalog=self.catalog.having(fresh))
        self.known.clear()

    async def find_for_request(self, asked: str) -> Entry:
        """The entry that answers a request for `asked`. Raises `ModelNotFound`."""
        return await self.find(self._answering(asked))

    async def look(self, *, force: bool = False) -> None:
        """Renew the inventory if the folders have changed; `force`: whether they have or not.

        Returns after `_LOOK_PATIENCE` at the latest, unless `force`: thousands of new headers take longer to be read.
        Raises `UsageError` only with `force`, where the preset or the folder cannot be read: nothing has changed then.
        """
        loop = asyncio.get_running_loop()
        recent = loop.time() - self._looked < _LOOK_INTERVAL and not self.inventory.unread
        if not force and recent and self._looking is None:
            return
        running = self._looking
        # A look that runs may have read already what has changed since; one that was forced after it serves as well.
        while force and self._looking is not None and (self._looking is running or not self._thorough):
            await asyncio.wait([self._looking])
        if self._looking is None:
            self._looking = loop.create_task(self._renew(force))
            self._looking.add_done_callback(self._over)
            self._thorough = force
        looking = self._looking
        if not force:
            await asyncio.wait([looking], timeout=_LOOK_PATIENCE)
        if force or looking.done():
            await asyncio.shield(looking)

    def hurry(self) -> None:
        """A look that runs reads no more headers: the router ends."""
        self._headers.read_within(0)

    def _over(self, task: asyncio.Task[None]) -> None:
        self._looking = None
        self._looked = asyncio.get_running_loop().time()
        if not task.cancelled():
            task.exception()  # whoever asked has it, unless he has left

    async def _renew(self, force: bool) -> None:
        before = self.inventory
        try:
            after = await asyncio.to_thread(self._take, before, force)
            self._refused = ""
        except (UsageError, OSError) as error:
            if force:
                raise
            if str(error) != self._refused:
                log.warning("the folders have changed, and everything stays as it was: %s", error)
            self._refused = str(error)
            return
        if after is not None:
            if before.unread:
                _tell_news(before.catalog, after.catalog)
            self.inventory, self._seen = after, after.look
            self.known.clear()
            self._on_change(before, after)

    def _take(self, before: Inventory, force: bool) -> Inventory | None:
        if not force and not before.unread and (seen := looked_again(before, self._seen)) is not None:
            self._seen = seen
            return None
        return take_inventory(self._settings, self._environ, self._engine, self._headers, before)


def unknown_model(asked: str) -> ModelNotFound:
    """What is said of a name that means nothing, or nothing for who asks."""
    return ModelNotFound(f"model '{_printable(asked)}' not found")


def _tell_news(before: Catalog, after: Catalog) -> None:
    """What is wrong with files that could not be read before the router said what it serves."""
    said = set(before.skipped)
    for warning in after.skipped:
        if warning not in said:
            log.warning("%s", warning)


def _printable(asked: str) -> str:
    # Control characters, too: the message is shown on terminals and in logs.
    return asked[:64].encode("unicode_escape").decode()
