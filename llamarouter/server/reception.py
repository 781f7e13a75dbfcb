"""The reception: what stands between a request and its place, the `Switchboard` that the relay asks.

credentials -> which model is meant -> (its files, if they must be fetched first) -> a place in its child
"""

from __future__ import annotations

import asyncio
import hmac
from collections.abc import Callable
from hashlib import sha256

from llamarouter.core.catalog import Entry
from llamarouter.core.errors import Downloading, InvalidApiKey, ModelInvalid, NotLoaded
from llamarouter.core.exits import without_paths
from llamarouter.core.outlook import words_of_download
from llamarouter.core.quarantine import Quarantine
from llamarouter.core.settings import Settings
from llamarouter.relay.switchboard import Ask, Lease, Wait
from llamarouter.server.child import Stage
from llamarouter.server.downloads import Downloads
from llamarouter.server.shelf import Shelf
from llamarouter.server.supervisor import Supervisor

# What a sleeping llama-server answers without waking up.
_LETS_SLEEP = frozenset({"/metrics", "/props"})


class Reception:
    """Checks keys, resolves names, asks the supervisor for places."""

    def __init__(self, settings: Settings, shelf: Shelf, supervisor: Supervisor, downloads: Downloads) -> None:
        # Digests of one length: the comparison tells nothing of a key, not even how long it is.
        self._keys = tuple(sha256(key.encode()).digest() for key in settings.api_keys)
        self.default_model = settings.default_model
        self._autoload = settings.autoload
        self._patience = settings.queue_timeout
        self._shelf = shelf
        self._supervisor = supervisor
        self._downloads = downloads
        self.quarantine = Quarantine()
        self._loop = asyncio.get_running_loop()

    def authorize(self, authorization: bytes | None, x_api_key: bytes | None) -> None:
        """Raise `InvalidApiKey` unless the credentials open the routes, or none are needed."""
        if not self._keys:
            return
        given = sha256(_bare(authorization if authorization is not None else x_api_key)).digest()
        good = False
        for key in self._keys:  # all of them, whichever fits: the time taken tells nothing
            good |= hmac.compare_digest(key, given)
        if not good:
            raise InvalidApiKey("Invalid API Key")

    def key_of(self, authorization: bytes | None, x_api_key: bytes | None) -> bytes:
        """The key that a request came with; nothing where there are no keys."""
        return _bare(authorization if authorization is not None else x_api_key) if self._keys else b""

    def screen(self, ask: Ask, mark: bytes) -> None:
        """Raise `RequestQuarantined` where a request with this mark crashed its model."""
        model = self._shelf.id_of(ask.model)
        if model in self.quarantine.models:
            self.quarantine.check(model, mark, self._loop.time())

    def lease_now(self, ask: Ask) -> Lease | None:
        """A place at once in a ready child, or None: then `lease` must be asked."""
        model = self._shelf.id_of(ask.model)
        return None if model is None else self._supervisor.lease_now(model, ask.route.slot)

    async def lease(self, ask: Ask, wait: Wait) -> Lease:
        """A place, after fetching, loading and waiting as needed. Raises `RouterError`."""
        entry = await self._find(ask.model)
        if ask.route.method == "GET" and not ask.autoload:
            return await self._glance(entry.model.id, ask, wait)
        autoload = self._autoload if ask.autoload is None else ask.autoload
        if entry.hf_wanted is not None and autoload:
            entry = await self._awaited(entry, wait)
        self.check(entry)
        return await self._supervisor.lease(entry.model.id, ask.route.slot, ask.body_bytes, autoload, wait=wait)

    async def _awaited(self, entry: Entry, wait: Wait) -> Entry:
        """The entry once its files are here, for a client that is told how far they are."""
        model, asked = entry.model.id, self._loop.time()
        wait.words = lambda: words_of_download(model, self._downloads.progress().get(model))
        entry = await self._fetched(entry)
        wait.seconds = self._loop.time() - asked
        return entry

    async def _find(self, asked: str) -> Entry:
        """The entry that a client means; one that is cooling down after a failure may have been replaced meanwhile."""
        entry = await self._shelf.find_for_request(asked)
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
        await self._supervisor.load(entry.model.id, begun)

    def check(self, entry: Entry) -> None:
        """Raise `ModelInvalid` where the model cannot be started, without trying."""
        problem = entry.problem or entry.model.problem
        if problem is not None:
            raise ModelInvalid(f"model '{entry.model.id}' cannot be loaded: {without_paths(problem)}")

    async def _fetched(self, entry: Entry, begun: Callable[[], None] = lambda: None) -> Entry:
        """The entry once its files are here."""
        try:
            async with asyncio.timeout(entry.policy.queue_timeout or self._patience):
                await self._downloads.fetch(entry, begun)
        except TimeoutError:
            raise Downloading(f"model '{entry.model.id}' is still being downloaded", retry_after=30) from None
        return self._shelf.entry(entry.model.id)


def _bare(credential: bytes | None) -> bytes:
    """The key of an `Authorization` or `X-Api-Key` value: the scheme is optional, as in llama-server."""
    if credential is None:
        return b""
    return credential[7:].strip() if credential[:7].lower() == b"bearer " else credential.strip()
