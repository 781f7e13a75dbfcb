"""Downloads: at most one for each model, in a process of its own, watched by everybody who asks for it.

The bytes are fetched by `host.fetch`; here it is only known which run, how far each is, and who waits for it.
A download ends with None or with the error that its waiters are told; it never raises into its siblings. A failure is
kept for the list, and for a moment it answers whoever asks for the same again, so that a client that tries again and
again does not start a process each time; what an operator asks for is tried at once.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping
from contextlib import aclosing

from msgspec import Struct, field

from llamarouter.core.catalog import Catalog
from llamarouter.core.entry import Entry
from llamarouter.core.errors import (
    BadRequest,
    Draining,
    Forbidden,
    NoSpace,
    NotFound,
    Offline,
    RouterError,
    Unavailable,
)
from llamarouter.core.fetch_events import Failed, Fetched, FetchError, Planned, Progressed
from llamarouter.core.hub_names import parse_spec
from llamarouter.host.fetching import fetch_events
from llamarouter.server.feed import Feed

log = logging.getLogger("llamarouter")

# How long a failure answers whoever asks again (seconds).
_COOLDOWN = 10.0
_RETRY_AFTER = 30.0
# Failures that are remembered, and for how long the list tells one of what it does not list (seconds).
_MAX_FAILURES = 64
_TOLD_FOR = 600.0

_REFUSALS: dict[str, type[RouterError]] = {
    "bad_request": BadRequest,
    "not_found": NotFound,
    "unauthorized": Forbidden,
    "gated": Forbidden,
    "insufficient_storage": NoSpace,
    "offline": Offline,
}


class _Download(Struct, eq=False):
    """One that runs; `done` and `total` are bytes by URL."""

    task: asyncio.Task[RouterError | None] | None = None
    done: dict[str, int] = field(default_factory=dict)
    total: dict[str, int] = field(default_factory=dict)
    failed: dict[str, str] | None = None  # why, for the feed

    def progress(self) -> dict[str, dict[str, int]]:
        return {url: {"done": self.done.get(url, 0), "total": total} for url, total in self.total.items()}


class Downloads:
    """Every download that runs, by the id under which its model is, or will be, listed."""

    def __init__(
        self,
        tasks: asyncio.TaskGroup,
        feed: Feed,
        cache: str,
        environ: Mapping[str, str],
        on_done: Callable[[], Awaitable[None]],
        *,
        offline: bool = False,
        umask: int | None = None,
    ) -> None:
        self._tasks = tasks
        self._feed = feed
        self._cache = cache
        self._environ = environ
        self._on_done = on_done
        self._offline = offline
        self._umask = umask  # of what is fetched; None: our own
        self._running: dict[str, _Download] = {}
        self._ended = False
        self._loop = asyncio.get_running_loop()
        self.failures: dict[str, tuple[RouterError, float]] = {}  # by model: why, and when (the loop's time)

    def progress(self) -> dict[str, float]:
        """How much of each is here, 0 to 1."""
        return {
            model: min(1.0, sum(each.done.values()) / max(1, sum(each.total.values())))
            for model, each in self._running.items()
        }

    def progress_of(self, model: str) -> dict[str, dict[str, int]] | None:
        """How far each file of a download is, in bytes by its URL; None where none runs."""
        running = self._running.get(model)
        return None if running is None else running.progress()

    def failed_lately(self) -> list[tuple[str, RouterError]]:
        """What did not come, and why, the oldest first."""
        since = self._loop.time() - _TOLD_FOR
        return [(model, error) for model, (error, at) in self.failures.items() if at > since]

    def begin(self, spec: str, catalog: Catalog) -> None:
        """Start what an operator asked for. Raises `BadRequest` for a name that is none, or is here already."""
        try:
            parse_spec(spec)
        except FetchError as error:
            # llama-server's words, then ours.
            words = "error: invalid HF repo format, expected <user>/<model>[:quant]"
            raise BadRequest(f"{words}; {error.message}") from error
        entry = catalog.resolve(spec)
        if spec in self._running or (entry is not None and entry.hf_wanted is None):
            raise BadRequest(f"model '{spec}' already exists")
        if self._offline:
            raise Offline(f"--offline: model '{spec}' is not downloaded")
        if entry is None:
            self._start(spec, spec)
        else:
            self._start(entry.model.id, spec, projector=entry.with_projector)

    async def fetch(self, entry: Entry, begun: Callable[[], None] = lambda: None) -> None:
        """Join the download of a model, or start it; returns when its files are here. Raises `RouterError`.

        `begun` is called when it runs.
        """
        model, spec = entry.model.id, entry.hf_wanted or entry.model.id
        error, at = self.failures.get(model, (None, 0.0))
        if error is not None and model not in self._running and self._loop.time() - at < _COOLDOWN:
            raise error
        task = self._start(model, spec, projector=entry.with_projector)
        begun()
        # Not awaited itself: who leaves does not stop it, and its being stopped is not his being cancelled.
        await asyncio.wait([task])
        error = _stopped(spec) if task.cancelled() else task.result()
        if self._ended:
            raise _leaving()
        if error is not None:
            raise error

    async def cancel(self, model: str) -> bool:
        """Stop a download, keeping what is here for a resume, and return when it has stopped; False if none runs."""
        task = self._cancelled(model)
        if task is not None:
            await asyncio.wait([task])
        return task is not None

    def end(self) -> None:
        """Stop all of them, and start none any more: the router goes away."""
        self._ended = True
        for model in tuple(self._running):
            self._cancelled(model)

    def _cancelled(self, model: str) -> asyncio.Task[RouterError | None] | None:
        running = self._running.get(model)
        if running is None or running.task is None:
            return None
        running.task.cancel()
        return running.task

    def _start(self, model: str, spec: str, *, projector: bool = True) -> asyncio.Task[RouterError | None]:
        running = self._running.get(model)
        if running is not None and running.task is not None:
            return running.task
        if self._ended:
            raise _leaving()
        self.failures.pop(model, None)
        running = self._running[model] = _Download()
        running.task = self._tasks.create_task(self._run(model, spec, running, projector), name=f"download {model}")
        # The done-callback, because a task that is cancelled before its first step reaches no `finally`.
        running.task.add_done_callback(lambda task: self._over(model, task))
        log.info("downloading %s", spec)
        self._feed.tell(model, "model_status", {"status": "downloading"})
        return running.task

    async def _run(self, model: str, spec: str, running: _Download, projector: bool) -> RouterError | None:
        try:
            error = await self._fetched(model, spec, running, projector)
        except OSError as failure:  # no process, no memory for one, no descriptor
            return Unavailable(f"model '{spec}' cannot be downloaded: {failure.strerror or failure}", retry_after=30)
        if error is None:
            await self._on_done()
        return error

    async def _fetched(self, model: str, spec: str, running: _Download, projector: bool) -> RouterError | None:
        error: RouterError | None = Unavailable(f"the download of '{spec}' ended without a word", retry_after=30)
        coming = fetch_events(
            spec, self._cache, self._environ, offline=self._offline, projector=projector, umask=self._umask
        )
        async with aclosing(coming) as events:
            async for event in events:
                match event:
                    case Planned():
                        running.total = {file.url: file.size for file in event.files}
                        running.done = {file.url: file.size if file.cached else file.have for file in event.files}
                    case Progressed():
                        running.done[event.url] = event.done
                        self._tell_progress(model, running)
                    case Failed():
                        error = _refusal(spec, event)
                        running.failed = {"reason": event.reason, "message": event.message}
                    case Fetched():
                        error = None
        return error

    def _tell_progress(self, model: str, running: _Download) -> None:
        self._feed.tell(model, "download_progress", {"progress": running.progress()})

    def _over(self, model: str, task: asyncio.Task[RouterError | None]) -> None:
        running = self._running.pop(model)
        if task.cancelled():
            log.info("the download of %s was stopped; what is here is kept", model)
            self._feed.tell(model, "download_failed")
            return
        error = task.result()
        if error is None:
            log.info("the download of %s is complete", model)
            self._feed.tell(model, "download_finished")
            return
        self.failures[model] = (error, self._loop.time())
        while len(self.failures) > _MAX_FAILURES:
            del self.failures[next(iter(self.failures))]
        log.error("the download of %s failed: %s", model, error)
        self._feed.tell(model, "download_failed", running.failed)


def _stopped(spec: str) -> RouterError:
    return Unavailable(f"the download of '{spec}' was stopped; what is here is kept", retry_after=1)


def _leaving() -> RouterError:
    return Draining("the router is shutting down", retry_after=5)


def _refusal(spec: str, failed: Failed) -> RouterError:
    kind = _REFUSALS.get(failed.reason, Unavailable)
    # A network may come back; a repository that does not exist, or is closed to us, will not.
    retry_after = _RETRY_AFTER if kind is Unavailable else None
    return kind(f"model '{spec}' cannot be downloaded: {failed.message}", retry_after=retry_after)
