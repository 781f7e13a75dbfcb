"""What each engine calls its devices, asked once for each environment that changes it, in the background.

    of(engine) -> Listing | None      what it has said; None: it is being asked
    await known(engine)               the same, once it is known
    all()                             what all engines so far have said

An engine that fails is asked again after a minute; what it said before holds. So is one that has no devices although
a driver is there: it may have come up after the router.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping, Sequence

from msgspec import Struct

from llamarouter.host.devices import listing
from llamarouter.host.devices.listing import Listing

# What decides which devices a process sees, and in which order.
VARIABLES = (
    "CUDA_VISIBLE_DEVICES",
    "CUDA_DEVICE_ORDER",
    "HIP_VISIBLE_DEVICES",
    "ROCR_VISIBLE_DEVICES",
    "GGML_VK_VISIBLE_DEVICES",
    "ONEAPI_DEVICE_SELECTOR",
    "ASCEND_RT_VISIBLE_DEVICES",
)
_SECONDS = 5.0
AGAIN = 60.0  # seconds after a failure


class Asked(Struct, frozen=True):
    """An engine in an environment, as far as that matters here."""

    command: tuple[str, ...]
    variables: tuple[tuple[str, str], ...]


class Listings:
    """The listings of all engines. `environ`: that of the children."""

    def __init__(
        self,
        environ: Mapping[str, str],
        *,
        seconds: float = _SECONDS,
        again: float = AGAIN,
        may_have: Callable[[], bool] = lambda: False,
    ) -> None:
        """`may_have`: whether an engine that says it has no devices may have some by now."""
        self._environ = environ
        self._seconds = seconds
        self._again = again
        self._may_have = may_have
        self._known: dict[Asked, Listing] = {}
        self._running: dict[Asked, asyncio.Future[Listing]] = {}

    def asked(self, command: Sequence[str], environ: Mapping[str, str]) -> Asked:
        """The engine of `command` in an environment that is `environ` over that of the children."""
        values = ((name, environ.get(name, self._environ.get(name))) for name in VARIABLES)
        return Asked(tuple(command), tuple((name, value) for name, value in values if value is not None))

    def begin(self, asked: Asked, then: Callable[[], None]) -> None:
        """Ask an engine, and call `then` once it has answered."""
        self._begin(asked).add_done_callback(lambda _: then())

    def of(self, asked: Asked, *, fresh: float | None = None) -> Listing | None:
        """What is known. `fresh`: the seconds after which it is asked again meanwhile; None: once is enough."""
        known = self._known.get(asked)
        if known is None:
            self._begin(asked)
            return None
        if self._is_old(known, fresh):
            self._begin(asked)
        return known

    def _is_old(self, known: Listing, fresh: float | None) -> bool:
        age = time.monotonic() - known.at
        if known.problem is not None:
            return age > self._again
        if not known.devices:
            return age > self._again and self._may_have()
        return fresh is not None and age > fresh

    def forget(self, command: Sequence[str]) -> None:
        """Another engine lies where this one lay: what the old one said, or has still to say, says nothing of it."""
        self._known = {asked: each for asked, each in self._known.items() if asked.command != tuple(command)}
        self._running = {asked: each for asked, each in self._running.items() if asked.command != tuple(command)}

    def all(self) -> Mapping[Asked, Listing]:
        """What is known of all engines, in the order in which they answered."""
        return self._known

    async def known(self, asked: Asked, *, fresh: float | None = None) -> Listing:
        """What the engine says, waited for where nothing is known yet or it is too old."""
        known = self.of(asked, fresh=fresh)
        running = self._running.get(asked)
        if running is None or (known is not None and (known.problem is not None or not known.devices)):
            return known or Listing()
        await asyncio.shield(running)
        self._end(asked, running)
        return self._known.get(asked) or Listing()

    def _begin(self, asked: Asked) -> asyncio.Future[Listing]:
        if asked in self._running:
            return self._running[asked]
        environ = {**self._environ, **dict(asked.variables)}
        # A thread: it reads a pipe until the engine has answered, or its time is up.
        loop = asyncio.get_running_loop()
        running = loop.run_in_executor(None, listing.ask, asked.command, environ, self._seconds)
        self._running[asked] = running
        running.add_done_callback(lambda future: self._end(asked, future))
        return running

    def _end(self, asked: Asked, future: asyncio.Future[Listing]) -> None:
        """Take an answer, once: whoever has waited for it may come before the loop has said that it is there."""
        if self._running.get(asked) is not future:
            return
        del self._running[asked]
        if future.cancelled():
            return
        before, after = self._known.get(asked), future.result()
        if after.problem is not None and before is not None:
            after = Listing(before.devices, after.problem, after.at)
        self._known[asked] = after
