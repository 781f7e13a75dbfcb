"""The supervisor: the one owner of all state that changes.

    relay --ask--> Supervisor --event--> core.Scheduler --commands--> Supervisor --spawn, cancel--> host.process.live
                        ^-------------------- Ready, Exited -----------------------------------------'

`_dispatch` is a plain function that never awaits: what happens while it runs (a grant whose relay ends at once) waits
in the inbox, which the outermost call empties. How children live is in `lives`.
"""

from __future__ import annotations

import asyncio
import math
from collections import deque
from collections.abc import Callable, Collection, Mapping
from types import TracebackType
from typing import Protocol, Self, assert_never

from llamarouter.core.errors import Internal, RouterError
from llamarouter.core.events import (
    Appraise,
    Appraised,
    Arrived,
    Closing,
    Command,
    Event,
    Forgotten,
    Grant,
    Left,
    Pinned,
    PolicySet,
    Refuse,
    Released,
    Start,
    Stop,
    TimePassed,
    UnloadAsked,
    Weighed,
)
from llamarouter.core.footprint import Footprint
from llamarouter.core.memory import Placement
from llamarouter.core.outlook import READING, words_of, words_of_waking
from llamarouter.core.refusals import unloaded_while_loading
from llamarouter.core.scheduler import Scheduler
from llamarouter.core.waiting import Lane
from llamarouter.relay.switchboard import Wait
from llamarouter.server.child import Child, Lease
from llamarouter.server.errands import Errands
from llamarouter.server.feed import Feed
from llamarouter.server.lives import Lives, Spawner

# Taken from the class, they would cost 0.2 us for each request.
_SLOT, _OPEN = Lane.SLOT, Lane.OPEN
_WORTH_TELLING = 0.001  # seconds: what took no longer was no wait
_TICKS = 1000  # of the loop's clock in a second


class Appraiser(Protocol):
    """Says what models need, and what there is: what the supervisor needs of the memory of the machine."""

    def at_once(self, model: str) -> Appraised | None:
        """The answer, where nothing has to be waited for."""
        ...

    async def appraise(self, model: str) -> Appraised:
        """The answer."""
        ...

    def footprint_of(self, model: str) -> Footprint | None:
        """What a model needs, as far as it is known now."""
        ...

    def appraised(self) -> Collection[str]:
        """The models of which something is known."""
        ...


class Supervisor:
    """Owns the scheduler, the children and everybody who waits."""

    def __init__(
        self,
        scheduler: Scheduler,
        spawner: Spawner,
        feed: Feed,
        on_ready: Callable[[Child], None],
        appraiser: Appraiser | None = None,
    ) -> None:
        self._scheduler = scheduler
        self._appraiser = appraiser
        self._tasks = asyncio.TaskGroup()
        self._loop = asyncio.get_running_loop()
        self._clock = self._loop.time
        self._let_go = self._release  # one bound method for all leases
        self._inbox: deque[Event] = deque()
        self._dispatching = False
        # What rings next, and when: uvloop's handle for a time that has passed already knows no `when()`.
        self._timer: asyncio.Handle | None = None
        self._due: float | None = None
        self._tickets = 0
        self._waiting: dict[int, asyncio.Future[Lease | None]] = {}
        # Tickets without a client, which are over as soon as their model is ready, and the models.
        self._loads: dict[int, str] = {}
        self.errands = Errands(self._tasks)
        self.lives = Lives(spawner, feed, self._tasks, self._dispatch, on_ready)
        self.children = self.lives.children

    async def __aenter__(self) -> Self:
        await self._tasks.__aenter__()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self.errands.cancel()
        self.lives.cancel()
        await self._tasks.__aexit__(kind, error, trace)

    # --- the relay's side -------------------------------------------------------------------------------------------

    def lease_now(self, model: str, slot: bool, *, asleep: bool = False) -> Lease | None:
        """A place in a ready child at once, else None: `lease` waits for one, or says why not; `model` is an id.

        `asleep`: also in one that sleeps.
        """
        self._tickets = ticket = self._tickets + 1
        if self._dispatching or not self._scheduler.grant_now(ticket, model, _SLOT if slot else _OPEN, self._clock()):
            return None
        child = self.children[model]
        connections = child.awake or child.connections if asleep else child.awake
        if connections is None:  # it takes its time: `lease` lets a client be told
            self._release(ticket)
            return None
        return Lease(ticket, child, connections, self._let_go)

    async def lease(
        self, model: str, slot: bool, body_bytes: int, autoload: bool, *, wait: Wait, glance: bool = False
    ) -> Lease:
        """A place, after waiting for one; cancelled, the request leaves the queue. `glance`: it loads nothing."""

        def arrival(ticket: int) -> Arrived:
            wait.words = lambda: self._words_of(ticket)
            return Arrived(ticket, model, slot, body_bytes, autoload, glance=glance)

        asked = self._loop.time()
        try:
            lease = await self._wait(arrival)
        finally:  # who is refused is told, too
            if (waited := (now := self._loop.time()) - asked) >= _WORTH_TELLING:
                wait.seconds += waited
                wait.load_seconds = self._scheduler.loaded_since(model, asked, now)
        if lease is None:
            raise Internal("a request was granted without a place")
        if (child := lease.child).awake is None:
            wait.waking = lambda: words_of_waking(model, child.progress) if child.awake is None else READING
        return lease

    def _words_of(self, ticket: int) -> str:
        """What a request waits for now."""
        outlook = self._scheduler.outlook(ticket, self._loop.time())
        if outlook is None:
            return "it is its turn"
        child = self.children.get(outlook.model)
        return words_of(outlook, None if child is None else child.progress)

    async def load(self, model: str, begun: Callable[[], None] = lambda: None) -> None:
        """Load a model and return when it is ready; joins the queue like a request without a client.

        `begun` is called as soon as its process is spawned.
        """

        def arrival(ticket: int) -> Arrived:
            self._loads[ticket] = model
            return Arrived(ticket, model, slot=False, ends_with_load=True)

        with self.lives.telling(model, begun):
            await self._wait(arrival)

    async def _wait(self, arrival: Callable[[int], Arrived]) -> Lease | None:
        self._tickets = ticket = self._tickets + 1
        future: asyncio.Future[Lease | None] = self._loop.create_future()
        self._waiting[ticket] = future
        self._dispatch(arrival(ticket))
        try:
            return await future
        except asyncio.CancelledError:
            self._abandon(ticket, future)
            raise

    def _abandon(self, ticket: int, future: asyncio.Future[Lease | None]) -> None:
        # The grant may have crossed the cancellation: then there is a place to give back.
        self._loads.pop(ticket, None)
        if self._waiting.pop(ticket, None) is not None:
            self._dispatch(Left(ticket))
        elif future.done() and not future.cancelled() and future.exception() is None and future.result() is not None:
            self._release(ticket)

    def _release(self, ticket: int) -> None:
        if self._dispatching or not self._scheduler.release_now(ticket, self._clock()):
            self._dispatch(Released(ticket))

    # --- administration ---------------------------------------------------------------------------------------------

    def unload(self, model: str, drain: float) -> None:
        """Unload a model: its requests may end within `drain` seconds. A load that waits for its turn is called off."""
        for ticket in [ticket for ticket, wanted in self._loads.items() if wanted == model]:
            self._dispatch(Left(ticket))
            self._refuse(ticket, unloaded_while_loading(model))
        self._dispatch(UnloadAsked(model, drain))

    def forget(self, model: str, drain: float) -> None:
        """The model was changed or removed: drain its child, forget its failures."""
        self.lives.forget(model)
        self._dispatch(Forgotten(model, drain))

    def decide(self, policy: PolicySet | Pinned) -> None:
        """How long models stay is another matter now; no child is touched that need not go for it."""
        self._dispatch(policy)

    def close(self, drain: float) -> None:
        """Refuse newcomers and waiters; running requests may end within `drain` seconds. May be called again."""
        self.lives.closing = True
        self._dispatch(Closing(drain))

    @property
    def closing(self) -> bool:
        """Whether the router goes away."""
        return self.lives.closing

    def is_wanted(self, model: str) -> bool:
        """Whether a load without a client waits for its turn, or for its end."""
        return model in self._loads.values()

    def cooldown_left(self, model: str) -> float:
        """Seconds until a model that failed may be tried again; 0.0 when it may be now."""
        return self._scheduler.cooldown_left(model, self._loop.time())

    @property
    def scheduler(self) -> Scheduler:
        """For its read-only views."""
        return self._scheduler

    # --- events in, commands out ------------------------------------------------------------------------------------

    def _dispatch(self, event: Event) -> None:
        self._inbox.append(event)
        if self._dispatching:
            return
        self._dispatching = True
        try:
            while self._inbox:
                for command in self._scheduler.handle(self._inbox.popleft(), self._loop.time()):
                    self._obey(command)
        finally:
            self._dispatching = False
        self._arm()

    def _arm(self) -> None:
        due = self._scheduler.deadline()
        if due == self._due:
            return
        if self._timer is not None:
            self._timer.cancel()
        self._due = due
        if due is None:
            self._timer = None
            return
        # uvloop's clock counts milliseconds, and it rounds: rung a fraction too early, nothing is due, and it would be
        # called again and again until the next one.
        ticks = math.ceil((due - self._loop.time()) * _TICKS)
        self._timer = self._loop.call_later(max(0, ticks) / _TICKS, self._ring)

    def _ring(self) -> None:
        self._timer = self._due = None
        self._dispatch(TimePassed())

    def _obey(self, command: Command) -> None:
        match command:
            case Grant(ticket, model):
                self._grant(ticket, model)
            case Refuse(ticket, error):
                self._refuse(ticket, error)
            case Start(model, placement):
                self.lives.start(model, placement)
            case Stop():
                self.lives.stop(command)
            case Appraise(model):
                self._appraise(model)
            case _:
                assert_never(command)

    def _appraise(self, model: str) -> None:
        appraiser = self._appraiser
        at_once = _unknown(model) if appraiser is None else self.errands.attempt(lambda: appraiser.at_once(model))
        if at_once is not None:
            self._dispatch(at_once)
        elif appraiser is not None:
            self.errands.begin(self._appraise_later(appraiser, model), lambda: self._dispatch(_unknown(model)))

    async def _appraise_later(self, appraiser: Appraiser, model: str) -> None:
        self._dispatch(await appraiser.appraise(model))

    def appraised(self) -> Collection[str]:
        """The models of which it is known what they need."""
        return () if self._appraiser is None else self._appraiser.appraised()

    def needs_of(self, model: str) -> dict[str, object] | None:
        """What a model needs, as far as it is known now: bytes by device, and who says so."""
        footprint = None if self._appraiser is None else self._appraiser.footprint_of(model)
        return None if footprint is None else {"source": footprint.source.value, "needs": footprint.totals()}

    def weighed(self, model: str, needs: Mapping[str, int]) -> None:
        """What the living child of a model really holds, in bytes by device."""
        self._dispatch(Weighed(model, needs))

    def _grant(self, ticket: int, model: str) -> None:
        if ticket in self._loads:
            del self._loads[ticket]
            self._answer(ticket, None)
            return
        lease = self._lease_in(self.children[model], ticket)
        if not self._answer(ticket, lease):
            self._release(ticket)

    def _lease_in(self, child: Child, ticket: int) -> Lease:
        if child.connections is None:
            raise Internal(f"model '{child.model}' was granted before it was ready")
        return Lease(ticket, child, child.connections, self._release)

    def _answer(self, ticket: int, lease: Lease | None) -> bool:
        """Give a waiter its place; False if nobody waits any more."""
        future = self._waiting.pop(ticket, None)
        if future is None or future.done():
            return False
        future.set_result(lease)
        return True

    def _refuse(self, ticket: int, error: RouterError) -> None:
        self._loads.pop(ticket, None)
        future = self._waiting.pop(ticket, None)
        if future is not None and not future.done():
            future.set_exception(error)


def _unknown(model: str) -> Appraised:
    """Where nobody can tell what a model needs, it is started as it was before anybody could."""
    return Appraised(model, (Placement({}),), {})
