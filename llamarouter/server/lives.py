"""The lives of the children: started, stopped, ended as the supervisor is told, and what is left of those before.

    Start -> a task that lives the child -> Ready, Exited, told to the supervisor
    Stop  -> its cancellation

A child's life is one task; its end is announced by the task's done-callback, because a task that is cancelled before
its first step never reaches a `finally`.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Protocol

from llamarouter.core.causes import Cause
from llamarouter.core.child_protocol import modalities_of
from llamarouter.core.errors import ModelUnloaded, RouterError
from llamarouter.core.events import Event, Exited, Stop, StopReason
from llamarouter.core.exits import Exit
from llamarouter.core.failures import ending_of, error_of
from llamarouter.core.memory import HOST, Placement
from llamarouter.core.refusals import draining
from llamarouter.host.child_log import LogRing
from llamarouter.host.process import ChildObserver
from llamarouter.server.child import Child
from llamarouter.server.feed import Feed
from llamarouter.server.mishap import Mishap
from llamarouter.server.observer import Observer

_UNASKED = (StopReason.EVICTED, StopReason.EXPIRED)

log = logging.getLogger("llamarouter")


class Spawner(Protocol):
    """Prepares and lives children: what the supervisor needs of the machine."""

    def prepare(self, model: str, started: float, placement: Placement | None) -> Child:
        """The child of a model as its launch stands now, in its place. Raises `RouterError` where it cannot be."""
        ...

    async def live(self, child: Child, ring: LogRing, observer: ChildObserver) -> Exit:
        """Run the child until it is reaped."""
        ...


class Lives:
    """The children that live, by model, and of the others their logs, failures and what they said of themselves."""

    def __init__(
        self,
        spawner: Spawner,
        feed: Feed,
        tasks: asyncio.TaskGroup,
        dispatch: Callable[[Event], None],
        on_ready: Callable[[Child], None],
    ) -> None:
        self._spawner = spawner
        self._feed = feed
        self._tasks = tasks
        self._dispatch = dispatch
        self._on_ready = on_ready
        self._loop = asyncio.get_running_loop()
        self._begun: dict[str, list[Callable[[], None]]] = {}  # by model: whom to tell that its process is spawned
        self.closing = False
        self.on_failure: Callable[[Child, Exit], None] = lambda child, end: None  # a process ended unasked
        # The same, before anything follows from it: its log and the requests inside are there to be looked at.
        self.witness = self.on_failure
        self.on_stop: Callable[[Child, Stop], None] = lambda child, command: None  # one is asked to end
        self.stops: dict[str, tuple[Stop, float]] = {}  # why the last child was stopped, and when
        self.children: dict[str, Child] = {}
        self.rings: dict[str, LogRing] = {}
        self.failures: dict[str, tuple[Exit, float]] = {}
        # By model: the modalities that its last child has said.
        self.architectures: dict[str, dict[str, list[str]]] = {}
        self._idle = asyncio.Event()
        self._idle.set()

    def ring_of(self, model: str) -> LogRing:
        """The log of a model's children, also before there is one."""
        return self.rings.setdefault(model, LogRing())

    def forget(self, model: str) -> None:
        """What is left of children of a model that is another now."""
        self.failures.pop(model, None)
        self.stops.pop(model, None)
        self.architectures.pop(model, None)

    @contextmanager
    def telling(self, model: str, begun: Callable[[], None]) -> Iterator[None]:
        """In the block `begun` is called as soon as a process of the model is spawned; at once where there is one."""
        child = self.children.get(model)
        if child is not None and child.pid is not None and not child.stopping:
            begun()
        self._begun.setdefault(model, []).append(begun)
        try:
            yield
        finally:
            self._begun[model].remove(begun)
            if not self._begun[model]:
                del self._begun[model]

    def ending_of(self, model: str, failure: Exit | None) -> dict[str, object]:
        """How its last process ended, in the words of the feed; `failure`: None where it was asked to."""
        ending, stopped = ending_of(failure), self.stops.get(model)
        if failure is None and stopped is not None and stopped[0].reason in _UNASKED:
            ending["stopped"] = stopped[0].reason.value  # not for whom: not everybody sees that one
        return ending

    async def until_gone(self, model: str) -> None:
        """Return when the process that a model has now is gone; the next requests may have started another."""
        if (child := self.children.get(model)) is not None:
            await child.gone.wait()

    async def until_empty(self) -> None:
        """Return when no child is left."""
        await self._idle.wait()

    def cancel(self) -> None:
        """The supervisor goes: so does every child."""
        for child in self.children.values():
            if child.task is not None:
                child.task.cancel()

    # --- what the supervisor is told to do --------------------------------------------------------------------------

    def start(self, model: str, placement: Placement | None) -> None:
        """Spawn the one child of a model, in this place."""
        try:
            child = self._spawner.prepare(model, self._loop.time(), placement)
        except RouterError as error:
            self._dispatch(Exited(model, error, deterministic=True))
            return
        self.children[model] = child
        self._idle.clear()
        ring = self.ring_of(model)
        observer = Observer(child, self._feed, self._dispatch, self._spawned, self._loaded)
        child.task = self._tasks.create_task(self._life(child, ring, observer), name=f"child {model}")
        child.task.add_done_callback(lambda task: self._ended(child, task))
        where = _where(placement)
        log.info("loading %s%s", model, where, extra=about(model, "loading", where=where.strip(" ()") or None))
        self._feed.tell(model, "model_status", {"status": "loading"})

    def _spawned(self, child: Child) -> None:
        for begun in self._begun.get(child.model, ()):
            begun()

    def _loaded(self, child: Child) -> None:
        seconds = round(self._loop.time() - child.started, 3)
        log.info("%s is ready after %.1f s", child.model, seconds, extra=about(child.model, "ready", seconds=seconds))
        self.failures.pop(child.model, None)
        self.stops.pop(child.model, None)
        if child.ready is not None:
            self.architectures[child.model] = modalities_of(child.ready.info)
        self._on_ready(child)

    async def _life(self, child: Child, ring: LogRing, observer: ChildObserver) -> Exit:
        with Mishap(f"the supervision of {child.model} failed") as found:
            return await self._spawner.live(child, ring, observer)
        return Exit(cause=Cause.ENGINE, message=f"internal error while supervising: {found.error}")

    def stop(self, command: Stop) -> None:
        """End a child; asked again with `cut`, at once."""
        child = self.children.get(command.model)
        if child is None or child.task is None:
            return
        if not child.stopping:
            child.stopping = True
            self.stops[child.model] = command, self._loop.time()
            child.error = self._why_stopped(child.model)  # its connections are cut a while before it is gone
            why = reasons_of(command)
            log.info(
                "stopping %s (%s)", command.model, _words_of(command), extra=about(command.model, "stopping", **why)
            )
            child.task.cancel()
            self.on_stop(child, command)
        elif command.cut:
            child.task.cancel()

    def _why_stopped(self, model: str) -> RouterError:
        """What those are told who were still inside."""
        if self.closing:
            return draining()
        return ModelUnloaded(f"model '{model}' was unloaded", retry_after=1)

    def _ended(self, child: Child, task: asyncio.Task[Exit]) -> None:
        end = Exit(cause=Cause.ASKED, message="stopped") if task.cancelled() else task.result()
        model = child.model
        if child.connections is not None:
            child.connections.close()
        error = None if child.stopping else error_of(model, end)
        child.error = error or self._why_stopped(model)
        if error is not None:
            self.failures[model] = (end, self._loop.time())
            news = about(model, "failed", reason=end.cause.value, hint=end.hint(model))
            log.warning("%s ended: %s", model, end.message, extra=news)
        else:
            log.info("%s is gone", model, extra=about(model, "gone"))
        del self.children[model]
        child.gone.set()
        if not self.children:
            self._idle.set()
        ending = self.ending_of(model, None if error is None else end)
        self._feed.tell(model, "status_change", {"status": "unloaded", **ending})
        try:
            if error is not None:
                self.witness(child, end)
        finally:  # whatever a witness does, the scheduler must know that the place is free
            self._dispatch(Exited(model, error, memory=end.memory, deterministic=end.deterministic))
        if error is not None:
            self.on_failure(child, end)


def about(model: str, event: str, **facts: object) -> dict[str, object]:
    """For logging's `extra`: what a program can read of a line about a model."""
    return {"facts": {"type": "model", "model": model, "event": event, **facts}}


def reasons_of(command: Stop) -> dict[str, str]:
    """Why a child is stopped; where it is evicted, `for` which model, and what that one `lacks`."""
    sake = command.sake
    return {"reason": command.reason.value} | ({} if sake is None else {"for": sake.model, "lacks": sake.lacks.value})


def _words_of(command: Stop) -> str:
    sake = command.sake
    return (
        command.reason.value if sake is None else f"{command.reason.value}: {sake.model} needs its {sake.lacks.value}"
    )


def _where(placement: Placement | None) -> str:
    """On which devices, where there is a choice."""
    label = "" if placement is None else placement.label
    return f" ({label})" if label not in ("", HOST) else ""
