"""The journal: every request that is over, told in batches to whoever reads along (the request log, the metrics).

    journal.readers.append(take)      take(calls): a few times a second at most, oldest first
    journal.over(call)                at the end of a request: a list grows by one
    journal.flush()                   tell them now: before somebody reads what they made of it, and at the end

Without a reader nothing is kept.
"""

from __future__ import annotations

import asyncio
import itertools
import secrets
from collections.abc import Callable, Iterator, Sequence

from llamarouter.core.errors import RouterError
from llamarouter.relay.call import Call, Ending

_WITHIN = 0.1  # seconds from the end of a request until it is told
_MANY = 256  # calls that are told at once: each keeps up to 3 KiB of its answer

Reader = Callable[[Sequence[Call]], None]


class Journal:
    """One for the whole router."""

    def __init__(self) -> None:
        self.readers: list[Reader] = []
        self._over: list[Call] = []
        self._timer: asyncio.TimerHandle | None = None
        # A name for a request that has none: that of this run of the router, and a number.
        self.new_id = _names(secrets.token_hex(6)).__next__

    def over(self, call: Call) -> None:
        """It has ended; more than one call is the same as one."""
        if call.over:
            return
        call.over = True
        if self.readers:
            self._over.append(call)
            if self._timer is None:
                self._timer = asyncio.get_running_loop().call_later(_WITHIN, self.flush)
            elif len(self._over) >= _MANY:
                self.flush()

    def refused(self, call: Call, error: RouterError) -> None:
        """It ends with an error of the router's own; where it is over already, nothing happens."""
        if not call.over:
            call.status = error.status
            self.broken(call, error)

    def broken(self, call: Call, error: RouterError | None, *, begun: bool = False) -> None:
        """It ends without the answer that it was to have, for this error. `begun`: the client has a part of it."""
        if call.over:
            return
        call.ended = asyncio.get_running_loop().time()
        call.reason = "" if error is None else error.reason
        call.ending = Ending.TRUNCATED if begun else _ending_of(error)
        self.over(call)

    def answered(self, call: Call) -> None:
        """The router has answered it by itself, or was left by its client on the way."""
        if call.over:
            return
        if not call.whole and call.status:
            self.left(call)
            return
        call.ended = asyncio.get_running_loop().time()
        if not call.status:  # the server answers for an application that has failed
            call.status, call.reason = 500, RouterError.reason
        if call.status >= 400:
            call.ending = Ending.FAILED if call.status in (500, 502) else Ending.REFUSED
        self.over(call)

    def left(self, call: Call) -> None:
        """Its client has gone."""
        if not call.over:
            call.ended = asyncio.get_running_loop().time()
            call.ending = Ending.CLIENT_GONE
            self.over(call)

    def flush(self) -> None:
        """Tell everybody what is not told yet."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        over, self._over = self._over, []
        if over:
            for reader in self.readers:
                reader(over)


def _names(of_this_run: str) -> Iterator[bytes]:
    """`<of_this_run>-<number>`, the number in hexadecimal; the last two digits are only appended."""
    last = [b"%02x" % number for number in range(256)]
    for number in itertools.count():
        yield from map((b"%b-%x" % (of_this_run.encode(), number)).__add__, last)


def _ending_of(error: RouterError | None) -> Ending:
    return Ending.FAILED if error is None or error.status in (500, 502) else Ending.REFUSED
