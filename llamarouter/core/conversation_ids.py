"""The ids of conversations: as a client writes them, and as the children know them.

A child hands an answer to whoever names its id. So where there are keys, an id goes to the child behind a mark of the
key that it came with: no key finds what belongs to another, whatever ids it tries.
"""

from __future__ import annotations

from hashlib import blake2b

from llamarouter.core.errors import BadRequest

MAX_BYTES = 1024
_MARK_BYTES = 12


def id_of(value: bytes) -> str | None:
    """The conversation that `X-Conversation-Id` names; None where it is empty. Raises `BadRequest`."""
    value = value.strip()
    if len(value) > MAX_BYTES:
        raise BadRequest(f"X-Conversation-Id is longer than {MAX_BYTES} bytes")
    try:
        return value.decode() or None
    except UnicodeDecodeError:
        raise BadRequest("X-Conversation-Id is not UTF-8") from None


class Marks:
    """Puts the mark of a key before an id, and takes it away; it tells nothing to who does not know `secret`."""

    def __init__(self, secret: bytes) -> None:
        self._secret = secret

    def marked(self, conversation: str, key: bytes) -> str:
        """The id as the child gets it. `key` is empty where there are no keys: then it is the client's own."""
        return self._mark_of(key) + conversation

    def bare(self, marked: str, key: bytes) -> str | None:
        """The id as its client wrote it; None if it belongs to another key."""
        mark = self._mark_of(key)
        return marked[len(mark) :] if marked.startswith(mark) else None

    def _mark_of(self, key: bytes) -> str:
        return blake2b(key, key=self._secret, digest_size=_MARK_BYTES).hexdigest() if key else ""
