"""The connections to one child: a few kept alive, more when they are needed, all cut at once when it must stop.

Every open connection holds one of the child's HTTP threads. So at most `limit` are kept alive (beyond that a request
says `connection: close`), and an idle one is dropped before the child itself would, which it does after 5 s.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TYPE_CHECKING

from llamarouter.core.child_protocol import Address
from llamarouter.core.wire import own_lines_for_child
from llamarouter.relay.upstream import Upstream

if TYPE_CHECKING:
    from llamarouter.relay.exchange import Exchange

_FIRST_WAIT, _LONGEST_WAIT = 0.001, 0.020  # seconds between two tries while the child's backlog is full


class ChildConnections:
    """What the router has open towards one child. `clock`: monotonic (the loop's time). All times are in seconds."""

    def __init__(
        self,
        address: Address,
        api_key: str | None = None,
        limit: int = 56,
        *,
        clock: Callable[[], float],
        keep_idle: float = 4.0,
        model: str = "",
    ) -> None:
        self.model = model  # its id
        self.own_lines = own_lines_for_child(api_key)
        self.closing_lines = own_lines_for_child(api_key, close=True)
        self.in_flight = 0  # requests inside the child: each that has entered takes itself out
        self.opened = 0  # connections ever made
        self._address = address
        self._limit = limit
        self.clock = clock
        self._keep_idle = keep_idle
        self._idle: list[Upstream] = []  # the one used last is used next
        self._open: set[Upstream] = set()
        self._connecting: set[asyncio.Task[None]] = set()
        self._expiry: asyncio.TimerHandle | None = None
        self.last_heard = 0.0  # when bytes of an answer came
        self._closed = False

    @property
    def idle(self) -> int:
        return len(self._idle)

    @property
    def open(self) -> int:
        """Connections that there are."""
        return len(self._open)

    @property
    def connecting(self) -> int:
        """Connections that are being made."""
        return len(self._connecting)

    def pace(self) -> float:
        """Pieces a second of all streams that run; 0.0: none does."""
        now = self.clock()
        return sum(upstream.pace(now) for upstream in self._open)

    def silence(self) -> float:
        """Seconds since the last byte of any answer of a request inside, pings left out.

        0.0 if none is inside whose client listens: a child that is not read from cannot be heard.
        """
        if self.in_flight <= sum(upstream.paused for upstream in self._open):
            return 0.0
        return self.clock() - self.last_heard

    def close(self) -> None:
        """Cut everything, for good: requests inside are told that the child is gone."""
        self._closed = True
        if self._expiry is not None:
            self._expiry.cancel()
        self._idle.clear()
        for upstream in tuple(self._open):
            upstream.cut()

    # --- for exchanges ------------------------------------------------------------------------------------------------

    def enter(self, exchange: Exchange) -> None:
        """Carry a request: on a kept connection at once, else on a new one."""
        if not self.in_flight:
            self.last_heard = self.clock()
        self.in_flight += 1
        idle = self._idle
        while idle:
            upstream = idle.pop()
            if not upstream.transport.is_closing():
                upstream.send(exchange)
                return
        self.connect(exchange)

    def connect(self, exchange: Exchange) -> None:
        """Carry a request that is inside on a new connection."""
        task = asyncio.get_running_loop().create_task(self._connect(exchange))
        self._connecting.add(task)
        task.add_done_callback(self._connecting.discard)

    # --- for connections ----------------------------------------------------------------------------------------------

    def heard(self) -> float:
        """Bytes of an answer came; it is the time."""
        self.last_heard = now = self.clock()
        return now

    def give_back(self, upstream: Upstream, now: float) -> None:
        """Keep a connection whose answer came whole."""
        if self._closed:
            upstream.transport.abort()
            return
        upstream.pooled = True
        upstream.idle_since = now
        self._idle.append(upstream)
        if self._expiry is None:
            self._expiry = asyncio.get_running_loop().call_later(self._keep_idle, self._expire)

    def forget(self, upstream: Upstream) -> None:
        """A connection is gone."""
        self._open.discard(upstream)
        if upstream in self._idle:
            self._idle.remove(upstream)

    def _expire(self) -> None:
        """Drop what has been idle for too long; they stand in the order of their last use."""
        now = self.clock()
        self._expiry = None
        old = [upstream for upstream in self._idle if upstream.idle_since + self._keep_idle <= now + 0.001]
        self._idle = [upstream for upstream in self._idle if upstream not in old]
        for upstream in old:
            upstream.transport.close()
        if self._idle:
            wait = self._idle[0].idle_since + self._keep_idle - now
            self._expiry = asyncio.get_running_loop().call_later(wait, self._expire)

    async def _connect(self, exchange: Exchange) -> None:
        wait = _FIRST_WAIT
        while not self._closed and not exchange.over:
            try:
                upstream = await self._open_one()
            except BlockingIOError:  # its backlog is full
                await asyncio.sleep(wait)  # noqa: TID251 (the kernel does not say when a backlog has room again)
                wait = min(2 * wait, _LONGEST_WAIT)
            except OSError:
                break
            else:
                self._use(upstream, exchange)
                return
        if not exchange.over:
            exchange.lost(unheard=False)

    async def _open_one(self) -> Upstream:
        loop = asyncio.get_running_loop()
        if isinstance(self._address, str):
            _, upstream = await loop.create_unix_connection(lambda: Upstream(self), self._address)
        else:
            _, upstream = await loop.create_connection(lambda: Upstream(self), *self._address)
        return upstream

    def _use(self, upstream: Upstream, exchange: Exchange) -> None:
        if self._closed or upstream.transport.is_closing():
            upstream.transport.abort()
            exchange.lost(unheard=False)
            return
        self.opened += 1
        beyond = len(self._open) >= self._limit
        self._open.add(upstream)
        if not exchange.over:
            upstream.send(exchange, one_request=beyond)
        elif beyond:
            upstream.transport.close()
        else:
            self.give_back(upstream, self.clock())
