"""One request of a client, from its first byte to whoever notes that it is over: what the log and the metrics know.

    door, guard --Call--> relayed: the exchange fills it in --over--> Journal --in batches--> request log, metrics
                  `-----> answered by the router itself ------^

It is filled in as things become known, and nothing is made of it on the way: no text, no date, no count of tokens.
Times are those of the loop.
"""

from __future__ import annotations

import enum
import re
from collections.abc import Iterable

import msgspec

from llamarouter.core.access import Access
from llamarouter.core.tokens import NONE, Tokens, tokens_taken
from llamarouter.relay.switchboard import Ask, Outcome

REQUEST_ID = b"x-request-id"
_SANE = re.compile(rb"[A-Za-z0-9._-]{1,128}")


class Ending(enum.Enum):
    """How it ended for its client."""

    OK = "ok"  # it has its answer, whatever the status
    CLIENT_GONE = "client gone"  # it left before
    TRUNCATED = "truncated"  # its answer was broken off
    REFUSED = "refused"  # the answer is an error of the router's own, which the client can do something about
    FAILED = "failed"  # the same, and it cannot


# Not one of its values is a container of its own: without `gc` it costs a fifth of a dataclass, and there is no cycle.
class Call(msgspec.Struct, gc=False, eq=False):
    """What is known of one request."""

    id: bytes  # the client's own, where it is sane
    since: float  # its first byte came
    peer: tuple[str, int] | None = None  # who is at the other end of the connection
    method: bytes = b""
    path: str = ""  # as in the table of routes, without the query; where no route fits, as it came
    access: Access | None = None  # None: nobody has looked who it is
    ask: Ask | None = None  # None: it wants no place in a child, or it was refused before that was known
    model: str = ""  # the id of the model whose child had it
    bytes_in: int = 0  # of its body
    bytes_out: int = 0  # of the answer's body, without framing and comments
    queue: float = 0.0  # seconds that it waited for its place, without the next
    load: float = 0.0  # seconds of the wait in which its model was loading
    first: float = 0.0  # the first byte of its child's answer came; 0.0: none did
    ended: float = 0.0
    status: int = 0  # 0: there was no answer
    ending: Ending = Ending.OK
    reason: str = ""  # of the refusal or the failure: the word that programs compare
    outcome: Outcome | None = None  # what its child said, if it was in one
    tokens: Tokens | None = None  # of `tokens_of`, once somebody has asked, or it was clear from the start
    whole: bool = False  # the router's own answer is complete
    relayed: bool = False  # the relay says when it is over
    over: bool = False


def tokens_of(call: Call) -> Tokens:
    """What a request that is over took of its model; `NONE` where nothing was computed. It is reckoned once."""
    tokens = call.tokens
    if tokens is None:
        outcome, ask = call.outcome, call.ask
        if ask is None or not ask.route.slot or outcome is None or not (outcome.status == 200 or outcome.client_left):
            tokens = NONE
        else:
            tokens = tokens_taken(outcome.tail, outcome.head, outcome.events, ask.body_bytes)
        call.tokens = tokens
    return tokens


def sane_id(value: bytes | None) -> bytes | None:
    """A client's own name for its request, if it can be said again anywhere: letters, digits, `.`, `_`, `-`."""
    return value if value is not None and _SANE.fullmatch(value) else None


def id_in(headers: Iterable[tuple[bytes, bytes]]) -> bytes | None:
    """The first sane request id that a client has sent."""
    return next((value for name, value in headers if name == REQUEST_ID and sane_id(value)), None)
