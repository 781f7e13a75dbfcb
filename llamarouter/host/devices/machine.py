"""The devices of this machine: asked before each decision, by whoever knows them best.

    at_once(pids)        -> Survey | None     where nothing has to be waited for: no GPU, or figures of just now
    await survey(pids)   -> Survey            within a time-out; a driver that hangs leaves its last figures, `stale`
    view(command, env)   -> View | None       what another engine, or another environment, calls the cards

Names are those of the router's engine (`--list-devices`), figures those of the drivers; of what no driver knows
(Vulkan, Metal) the engine's own, a few seconds old. `pids` are those of the children; what they have started counts
as theirs. Only `Host` is read here; everything that may hang is asked in threads and processes that may be left.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Iterable, Mapping, Sequence

from msgspec.structs import replace

from llamarouter.core.devices import Device, Survey, View
from llamarouter.core.footprint import HOST
from llamarouter.core.physical import Listed, Physical, matched, named_without_engine
from llamarouter.host.devices.drivers import LATE, OPENING, PAUSE, Answer, Drivers
from llamarouter.host.devices.listing import Listing
from llamarouter.host.devices.listings import AGAIN, Asked, Listings
from llamarouter.host.devices.processes import families
from llamarouter.host.devices.ram import host_device
from llamarouter.host.devices.roots import Roots

log = logging.getLogger("llamarouter")

_FRESH = 0.1  # seconds that figures are good for a decision: many come at once, and after an exit all has changed
_LISTED_FRESH = 1.0  # likewise, of what only the engine knows, for that is slow to say it
_SECONDS = 2.0  # that a driver may take
_MORE = 0.25  # that is left to the one who asks them to say that they do not answer
_OLDEST = 2.5  # seconds that figures are said to be old at most: of what answers no more, the last ones hold
_NEVER = 1e9  # seconds ago
_HOST_MEMORY = ("MTL", "Metal")  # backends whose devices have no memory of their own


class Machine:
    """Asks, and remembers what was said last."""

    def __init__(
        self,
        command: Sequence[str],
        environ: Mapping[str, str],
        roots: Roots | None = None,
        *,
        seconds: float = _SECONDS,
        pause: float = PAUSE,
        opening: float = OPENING,
        again: float = AGAIN,
    ) -> None:
        self._roots = roots or Roots()
        self._environ = environ
        self._seconds = seconds
        self._drivers = Drivers(self._roots, pause=pause, opening=opening)
        self._listings = Listings(environ, again=again, may_have=lambda: self._drivers.are_there)
        self._engine = self._listings.asked(command, {})
        self._asking: asyncio.Future[Answer] | None = None
        self._closing = False
        self._late = False  # what is being asked was waited for in vain
        self._kin: Mapping[int, tuple[int, ...]] = {}  # whom it is asked for
        self._cards: tuple[Physical, ...] = ()
        self._gpus: dict[str, Device] = {}
        self._only_listed = False  # there is a GPU of which no driver knows
        self._at = -_NEVER  # when the drivers answered last
        self._begun = -_NEVER  # when they were asked: what has come up or gone since may not be in their answer
        self._seen_at: float | None = None  # the time for which the figures hold; None: no GPU has any
        self._problems: tuple[str, ...] = ()

    async def __aenter__(self) -> Machine:
        self._listings.begin(self._engine, self._wake)
        return self

    async def __aexit__(self, *_: object) -> None:
        self._closing = True
        if self._asking is not None:
            self._asking.remove_done_callback(self._note_answer)
            self._drivers.stop()
            await asyncio.wait((self._asking,), timeout=1.0)
        self._drivers.close()

    def at_once(self, pids: Iterable[int] = ()) -> Survey | None:
        """A survey, if there is one without waiting; else None."""
        listing = self._listings.of(self._engine, fresh=_LISTED_FRESH if self._only_listed else None)
        if listing is None:
            return None
        listings = self._listings.all().values()
        may_be_gpus = any(each.devices or each.problem is not None for each in listings)
        if may_be_gpus and time.monotonic() - self._at > (_LISTED_FRESH if self._only_listed else _FRESH):
            return None
        return self._survey(tuple(pids))

    async def survey(self, pids: Iterable[int] = ()) -> Survey:
        """A survey of now. Never fails: what does not answer has its last figures, or is not there."""
        ours = tuple(pids)
        if (known := self.at_once(ours)) is not None:
            return known
        # What is started before the engine has said what it can use would be placed nowhere; it has its own time-out.
        await self._listings.known(self._engine, fresh=_LISTED_FRESH if self._only_listed else None)
        try:
            # Whose question goes unanswered is waited for once.
            async with asyncio.timeout(0 if self._late else self._seconds + _MORE):
                await self._ask(ours)
        except TimeoutError:
            self._late = self._asking is not None
            self._note(Answer(problems=(LATE,)), {}, time.monotonic())
        return self._survey(ours)

    def view(self, command: Sequence[str], environ: Mapping[str, str] | None = None) -> View | None:
        """The cards as an engine names them, in `environ` over that of all children; None: not known yet."""
        asked = self._listings.asked(command, environ or {})
        mine, theirs = self._listings.of(self._engine), self._listings.of(asked)
        if mine is None or theirs is None:
            return None
        if not theirs.devices and theirs.problem is None:  # it was built for none, or there is none for it
            return View()
        if self._at < 0 and self._drivers.are_there:
            return None
        known = {card.address: name for name, card in self._matched(self._engine, mine).items() if card is not None}
        names = self._matched(asked, theirs)
        return View({name: known.get(card.address, name) if card else name for name, card in names.items()})

    async def listed(self, command: Sequence[str], environ: Mapping[str, str] | None = None) -> None:
        """Wait until an engine has listed its devices, or its time is up: there is a `view` then."""
        await self._listings.known(self._listings.asked(command, environ or {}))

    def forget(self) -> None:
        """Take no figure for fresh any more: a child has ended, or something else has happened."""
        self._at = min(self._at, time.monotonic() - 2 * _LISTED_FRESH)

    def forget_engine(self, command: Sequence[str]) -> None:
        """Another one lies at its path, which may use other devices."""
        self._listings.forget(command)
        self.forget()

    # --- asking -----------------------------------------------------------------------------------------------------

    async def _ask(self, pids: tuple[int, ...]) -> None:
        """Have the drivers say what is; who comes while they are asked waits for the same answer.

        An answer that comes too late for whoever has asked is taken all the same.
        """
        if not self._drivers.are_there:
            self._note(Answer(), {}, time.monotonic())
            return
        while (asking := self._asking) is not None and not self._kin.keys() >= set(pids):
            await asyncio.shield(asking)  # it is asked of others
            self._note_answer(asking)
        asking = self._begin(pids)
        await asyncio.shield(asking)
        self._note_answer(asking)

    def _begin(self, pids: tuple[int, ...]) -> asyncio.Future[Answer]:
        if self._asking is None:
            self._kin, self._begun = families(self._roots, pids), time.monotonic()
            wanted = [pid for family in self._kin.values() for pid in family]
            loop = asyncio.get_running_loop()
            self._asking = loop.run_in_executor(None, self._drivers.ask, wanted, self._seconds)
            self._asking.add_done_callback(self._note_answer)
        return self._asking

    def _wake(self) -> None:
        """Have the drivers opened before anybody waits for them, if the engine can use any."""
        listing = self._listings.of(self._engine)
        may_be_gpus = listing is not None and bool(listing.devices or listing.problem)
        if may_be_gpus and self._drivers.are_there and not self._closing:
            self._begin(())

    def _note_answer(self, asking: asyncio.Future[Answer]) -> None:
        """Take an answer, once: whoever has waited for it may come before the loop has said that it is there."""
        if asking is not self._asking:
            return
        self._asking, self._late = None, False
        if not asking.cancelled():
            self._note(asking.result(), self._kin, self._begun)

    # --- what was said ----------------------------------------------------------------------------------------------

    def _matched(self, asked: Asked, listing: Listing) -> dict[str, Physical | None]:
        """The cards by the names of an engine. One that cannot say is taken for a build for all that there is."""
        environ = {**self._environ, **dict(asked.variables)}
        if listing.problem is not None and not listing.devices:
            return dict(named_without_engine(self._cards, environ))
        return matched(listing.devices, self._cards, environ)

    def _note(self, answer: Answer, kin: Mapping[int, tuple[int, ...]], at: float) -> None:
        self._at = time.monotonic()
        listings = self._listings.all()
        engine = listings.get(self._engine)
        self._complain((*((engine.problem,) if engine is not None and engine.problem else ()), *answer.problems))
        if answer.cards:
            self._cards = answer.cards
        silent = not answer.cards and bool(answer.problems)
        before, self._gpus, self._only_listed = self._gpus, {}, False
        seen: set[str] = set()
        # The router's own engine gives the names; another one those of what it alone can use.
        for asked in sorted(listings, key=lambda each: each != self._engine):
            listed = {each.name: each for each in listings[asked].devices}
            for name, card in self._matched(asked, listings[asked]).items():
                if name in self._gpus or (card is not None and card.address in seen):
                    continue
                seen |= {card.address} if card is not None else set()
                if silent and name in before:
                    self._gpus[name] = _stale(before[name])
                elif card is not None and not card.unified:
                    self._gpus[name] = _of_card(name, card, kin)
                elif name in listed:
                    self._gpus[name] = _of_engine(listed[name], stale=silent, unified=card is not None)
                    self._only_listed = True
                    at = min(at, listings[asked].at)
        self._seen_at = at if self._gpus else None

    def _complain(self, problems: tuple[str, ...]) -> None:
        """Say once what does not answer, and once that it does again."""
        for problem in problems:
            if problem not in self._problems:
                log.warning("%s; the last figures are used", problem)
        if self._problems and not problems:
            log.info("all devices answer again")
        self._problems = problems

    def _survey(self, pids: tuple[int, ...]) -> Survey:
        host = host_device(self._roots, families(self._roots, pids))
        now = time.monotonic()
        at = now if self._seen_at is None else max(self._seen_at, now - _OLDEST)
        return Survey(devices={**self._gpus, HOST: host}, at=at, problems=self._problems)


def _of_card(name: str, card: Physical, kin: Mapping[int, tuple[int, ...]]) -> Device:
    """A card by its driver's figures; what a child has started holds for it."""
    held = None
    if card.held is not None:
        sums = {pid: [card.held[each] for each in family if each in card.held] for pid, family in kin.items()}
        held = {pid: sum(sizes) for pid, sizes in sums.items() if sizes}
    return Device(name=name, description=card.name, total=card.total, free=card.free, held=held)


def _of_engine(listed: Listed, *, stale: bool, unified: bool) -> Device:
    return Device(
        name=listed.name,
        description=listed.description,
        total=listed.total,
        free=listed.free,
        shares_host=unified or listed.backend in _HOST_MEMORY,
        stale=stale,
    )


def _stale(device: Device) -> Device:
    """A device that answers no more. What ours held counts as free: who has started or ended since is known."""
    if device.held is None:
        return replace(device, stale=True)
    return replace(device, free=device.free + sum(device.held.values()), held={}, stale=True)
