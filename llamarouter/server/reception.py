"""The reception: what stands between a request and its place, the `Switchboard` that the relay asks.

credentials -> which model is meant -> (its files, if they must be fetched first) -> a place in its child
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager

from llamarouter.core.access import OPERATOR, Access
from llamarouter.core.catalog import Entry
from llamarouter.core.errors import (
    Downloading,
    InsufficientMemory,
    ModelInvalid,
    ModelNotFound,
    ModelTooLarge,
    NoPlace,
    NotLoaded,
    RouterError,
)
from llamarouter.core.file_names import without_paths
from llamarouter.core.key_rules import reads_metrics_only
from llamarouter.core.outlook import words_of_download
from llamarouter.core.quarantine import Quarantine
from llamarouter.core.queue_share import Half
from llamarouter.core.rate import Meter
from llamarouter.core.settings import Settings
from llamarouter.relay.switchboard import Ask, Lease, Wait
from llamarouter.server.child import Stage
from llamarouter.server.downloads import Downloads
from llamarouter.server.gate import Gate
from llamarouter.server.metering import MeteredLease
from llamarouter.server.shelf import Shelf, unknown_model
from llamarouter.server.supervisor import Supervisor

# What a sleeping llama-server answers without waking up.
_LETS_SLEEP = frozenset({"/metrics", "/props"})


class Reception:
    """Checks keys and what they may have, resolves names, asks the supervisor for places."""

    def __init__(
        self, settings: Settings, shelf: Shelf, supervisor: Supervisor, downloads: Downloads, gate: Gate
    ) -> None:
        self.gate = gate
        self.authorize = gate.authorize
        self._half = Half.of(settings.queue_per_model, settings.queue_in_all, settings.queue_bytes)
        self.default_model = settings.default_model
        self.remote_media = settings.remote_media_of()
        self._autoload = settings.autoload
        self._patience = settings.queue_timeout
        self._shelf = shelf
        self._known = shelf.known  # looked into here, since every request asks
        self._supervisor = supervisor
        self._downloads = downloads
        self.quarantine = Quarantine()
        # Who hears of a model that is refused for what lies in itself, before anything is started.
        self.witness: Callable[[str, RouterError], None] = lambda model, error: None
        self._loop = asyncio.get_running_loop()

    def screen(self, ask: Ask, mark: bytes) -> None:
        """Raise `RequestQuarantined` where a request with this mark crashed its model."""
        model = self.model_of(ask)
        if model in self.quarantine.models:
            self.quarantine.check(model, mark, self._loop.time())

    def lease_now(self, ask: Ask) -> Lease | None:
        """A place at once in a ready child, or None: then `lease` must be asked. Raises `RateLimited`."""
        access = ask.access
        model = self._known.get(ask.model) or self._shelf.id_of(ask.model)
        if access.key is not None and (model is None or not access.known.get(model)):
            model = self.model_of(ask)
        meter = access.meter
        if meter is None:
            return None if model is None else self._supervisor.lease_now(model, ask.route.slot)
        now, date = self._loop.time(), self.gate.date()
        meter.check(now, date)
        lease = None if model is None else self._supervisor.lease_now(model, ask.route.slot)
        if lease is None:
            return None
        meter.begin(now)
        return self._metered(lease, ask, meter)

    def model_of(self, ask: Ask) -> str | None:
        """The id of the model that a request is for, by what its key sees and what that calls its default."""
        access = ask.access
        model = self._shelf.id_of(ask.model)
        if (model is None or not access.sees(model)) and access.default_model is not None:
            model = self._shelf.id_of(access.default_model)
        return model if model is not None and access.sees(model) else None

    async def find(self, asked: str, access: Access) -> Entry:
        """The entry that a request of this key means, after another look. Raises `ModelNotFound`.

        What a key does not see it cannot tell from what is not there: not by the words, and not by the time.
        """
        return await self._seen(asked, access, self._shelf.find)

    async def _seen(self, asked: str, access: Access, find: Callable[[str], Awaitable[Entry]]) -> Entry:
        try:
            entry = await find(asked)
            if access.sees(entry.id):
                return entry
            await self._shelf.look()
        except ModelNotFound as error:
            if access.default_model is None:
                if access.restricted:  # it may say more of what is there than its key sees
                    raise unknown_model(asked) from error
                raise
        if access.default_model is not None:
            entry = await self._shelf.find(access.default_model)
            if access.sees(entry.id):
                return entry
        raise unknown_model(asked)

    async def lease(self, ask: Ask, wait: Wait) -> Lease:
        """A place, after fetching, loading and waiting as needed. Raises `RouterError`."""
        access, meter = ask.access, ask.access.meter
        if access.metrics_only:
            raise reads_metrics_only()
        if meter is None:
            with self._discreet(access):
                return await self._lease(ask, wait)
        meter.enter(self._loop.time(), self.gate.date())
        lease = None
        try:
            with self._discreet(access):
                lease = await self._lease(ask, wait)
        finally:
            if lease is None:
                meter.leave(0, self.gate.date())
        return self._metered(lease, ask, meter)

    def _metered(self, lease: Lease, ask: Ask, meter: Meter) -> Lease:
        return MeteredLease(lease, lease.connections, meter, ask.body_bytes if ask.route.slot else 0, self.gate)

    @contextmanager
    def _discreet(self, access: Access) -> Iterator[None]:
        """What holds the memory is no business of a key that does not see it."""
        try:
            yield
        except (NoPlace, InsufficientMemory) as error:
            if not access.restricted:
                raise
            message = "there is no room for the model now: others are in use"
            raise type(error)(message, retry_after=error.retry_after) from error

    async def _lease(self, ask: Ask, wait: Wait) -> Lease:
        entry = await self._find(ask.model, ask.access)
        if not self.gate.several or ask.access.key is None:
            return await self._place(entry, ask, wait)
        with ask.access.share.waiting(entry.model.id, ask.body_bytes, self._half.in_line(entry.policy.queue)):
            return await self._place(entry, ask, wait)

    async def _place(self, entry: Entry, ask: Ask, wait: Wait) -> Lease:
        if ask.route.method == "GET" and not ask.autoload:
            return await self._glance(entry.model.id, ask, wait)
        autoload = self._autoload if ask.autoload is None else ask.autoload
        if entry.hf_wanted is not None and autoload:
            entry = await self._awaited(entry, wait)
        self.check(entry)
        try:
            return await self._supervisor.lease(entry.model.id, ask.route.slot, ask.body_bytes, autoload, wait=wait)
        except ModelTooLarge as error:  # without a process that could fail
            self.witness(entry.model.id, error)
            raise

    async def _awaited(self, entry: Entry, wait: Wait) -> Entry:
        """The entry once its files are here, for a client that is told how far they are."""
        model, asked = entry.model.id, self._loop.time()
        wait.words = lambda: words_of_download(model, self._downloads.progress().get(model))
        try:
            return await self._fetched(entry)
        finally:
            wait.seconds = self._loop.time() - asked

    async def _find(self, asked: str, access: Access = OPERATOR) -> Entry:
        """The entry that a client means; one that is cooling down after a failure may have been replaced meanwhile."""
        entry = await self._seen(asked, access, self._shelf.find_for_request)
        if self._supervisor.cooldown_left(entry.model.id) > 0:
            await self._shelf.look()
            entry = self._shelf.entry(entry.model.id)
        return entry

    async def _glance(self, model: str, ask: Ask, wait: Wait) -> Lease:
        """A place for who only looks: nothing is loaded or woken for it, and the model's idle time goes on."""
        child = self._supervisor.children.get(model)
        if child is not None and child.stage is Stage.SLEEPING and ask.route.path not in _LETS_SLEEP:
            raise NotLoaded("model is sleeping, and this would wake it: autoload=true in the query asks for it")
        return await self._supervisor.lease(model, ask.route.slot, ask.body_bytes, False, wait=wait, glance=True)

    async def load(self, asked: str, begun: Callable[[], None] = lambda: None) -> None:
        """Load a model by request of an operator; returns when it is ready. Raises `RouterError`.

        `begun` is called as soon as its process is spawned, or its files are being fetched.
        """
        entry = await self._find(asked)
        if entry.hf_wanted is not None:
            entry = await self._fetched(entry, begun)
        self.check(entry)
        try:
            await self._supervisor.load(entry.model.id, begun)
        except ModelTooLarge as error:
            self.witness(entry.model.id, error)
            raise

    def check(self, entry: Entry) -> None:
        """Raise `ModelInvalid` where the model cannot be started, without trying."""
        problem = entry.problem or entry.model.problem
        if problem is not None:
            error = ModelInvalid(f"model '{entry.model.id}' cannot be loaded: {without_paths(problem)}")
            self.witness(entry.model.id, error)
            raise error

    async def _fetched(self, entry: Entry, begun: Callable[[], None] = lambda: None) -> Entry:
        """The entry once its files are here."""
        try:
            async with asyncio.timeout(entry.policy.queue_timeout or self._patience):
                await self._downloads.fetch(entry, begun)
        except TimeoutError:
            raise Downloading(f"model '{entry.model.id}' is still being downloaded", retry_after=30) from None
        return self._shelf.entry(entry.model.id)
