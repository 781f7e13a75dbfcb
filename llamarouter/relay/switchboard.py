"""What the relay asks of whoever owns the models, and nothing more.

The relay never decides: it asks for a `Lease` (a place inside a child), carries bytes while it has one, and ends it
with an `Outcome`. `server.supervisor` implements the `Switchboard`; tests of the relay bring a small one of their own.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Protocol

import msgspec
from msgspec import Struct

from llamarouter.core.access import OPEN, Access
from llamarouter.core.errors import RouterError, UnnamedModel
from llamarouter.core.media import RemoteMedia
from llamarouter.core.quarantine import Quarantine
from llamarouter.core.routes import Route

if TYPE_CHECKING:
    from llamarouter.relay.connections import ChildConnections


# Values that every request makes are `msgspec.Struct`s: made in C, at a fifth of what a dataclass costs. Without `gc`,
# which is for cycles, and there can be none.
class Ask(msgspec.Struct, gc=False):
    """A request that wants a place: the model as the client wrote it, its route, and what the queue must know."""

    model: str
    route: Route
    body_bytes: int
    autoload: bool | None = None  # the client's `?autoload=`; None: the router's default
    access: Access = OPEN  # whose it is


class Outcome(msgspec.Struct, gc=False):
    """How a relayed request ended."""

    status: int  # 0: no answer was begun
    complete: bool  # the child's answer arrived whole (the client may have left before)
    client_left: bool
    tail: bytes  # the last 2 KiB of the answer's body at most: usage and timings stand there
    head: bytes = b""  # the first KiB, where the tail is not all of it
    events: int = 0  # pieces in which a stream came: a token each, as a rule; 0: it was none


class Wait(Struct):
    """One wait for a place, as it is told to the client: what for, while it lasts, and what it came to."""

    words: Callable[[], str] = lambda: "waiting"  # what for, just now: one line
    seconds: float = 0.0  # that it took; 0: there was a place at once
    load_seconds: float = 0.0  # of them, while its model was loading
    waking: Callable[[], str] | None = None  # what for, inside of a model that has to wake up first


class Lease(Protocol):
    """A place inside a child, held from the grant to `end`."""

    @property
    def connections(self) -> ChildConnections:
        """The connections to the child that the place is in."""
        ...

    def end(self, outcome: Outcome) -> None:
        """Give the place back; more than one call is the same as one."""
        ...

    async def failure(self) -> RouterError:
        """Why the child broke the connection: waits up to 250 ms for its exit to be known."""
        ...


class Switchboard(Protocol):
    """The owner of the models, as the relay sees it."""

    @property
    def default_model(self) -> str | None:
        """The model of requests that name none; None: they are refused."""
        ...

    @property
    def remote_media(self) -> RemoteMedia:
        """Whose requests may have a model fetch media."""
        ...

    @property
    def quarantine(self) -> Quarantine:
        """The requests that are not let in: where it has any, each request is to be shown to `screen`."""
        ...

    def screen(self, ask: Ask, mark: bytes) -> None:
        """Raise `RequestQuarantined` where a request with this mark is kept out."""
        ...

    def authorize(self, authorization: bytes | None, x_api_key: bytes | None) -> Access:
        """Whose request it is. Raises `InvalidApiKey` where the credentials open nothing."""
        ...

    def lease_now(self, ask: Ask) -> Lease | None:
        """A place at once, without waiting: None if the request would have to wait for one, or is to be refused."""
        ...

    async def lease(self, ask: Ask, wait: Wait) -> Lease:
        """A place, after waiting for one; cancelled, the request leaves the queue. `wait` is kept up to date.

        Raises `RouterError` when it is refused.
        """
        ...


def default_for(switchboard: Switchboard, access: Access, error: UnnamedModel) -> str:
    """The model of a request that names none. Raises `error` where no default is set."""
    model = access.default_model or switchboard.default_model
    if model is None:
        raise error
    return model
