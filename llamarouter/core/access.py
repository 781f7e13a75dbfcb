"""What a request is let in as: its key, as far as whoever handles the request has to know it, and what that key does.

    Keyring(keys).find(secret) -> Access, or None

Requests carry the `Access` of their key. When keys change there is a new ring; what a key that stays has done, it has
done. Somebody who comes without a key, where none is needed, is `OPEN`; the operator at his own socket is `OPERATOR`.
"""

from __future__ import annotations

import hmac
from collections.abc import Iterable

from llamarouter.core.key_rules import sees_nothing, sees_of
from llamarouter.core.keys import Key, digest_of
from llamarouter.core.queue_share import Share
from llamarouter.core.rate import Meter

_MOST_KNOWN = 4096  # ids that a key is known to see or not


class Access:
    """One key at work. `id`: its name, empty where there are no keys."""

    __slots__ = (
        "_sees",
        "admin",
        "default_model",
        "digest",
        "expires",
        "id",
        "key",
        "known",
        "meter",
        "metrics_only",
        "owner",
        "share",
    )

    def __init__(
        self, id: str, *, admin: bool, key: Key | None = None, meter: Meter | None = None, share: Share | None = None
    ) -> None:
        self.id = id
        self.admin = admin
        self.key = key
        self.digest = b"" if key is None else key.digest
        self.expires = key is not None and key.expires is not None
        # Whose conversations are whose: a new secret takes none away, and a new key of an old name gets none.
        self.owner = b"" if key is None else f"{key.created.timestamp()} {key.name}".encode()
        self.default_model = None if key is None else key.default_model
        self.meter = meter  # None: it has no limits, and nothing is counted
        self.share = share or Share()
        self.metrics_only = key is not None and key.metrics
        self._sees = None if key is None or key.models is None else sees_of(key.models)
        if self.metrics_only:
            self._sees = sees_nothing
        self.known: dict[str, bool] = {}  # what `sees` has said: to be looked into by whoever has no time for a call

    @property
    def restricted(self) -> bool:
        """Whether there may be models that it does not see."""
        return self._sees is not None

    def sees(self, model: str) -> bool:
        """Whether a model exists for it; by its id, whatever else it is called."""
        known = self.known.get(model)
        if known is None:
            if len(self.known) >= _MOST_KNOWN:
                self.known.clear()
            known = self.known[model] = self._sees is None or self._sees(model)
        return known


OPEN = Access("", admin=True)  # there are no keys: everybody may do everything, as with llama-server
OPERATOR = Access("", admin=True)


class Keyring:
    """All keys. Immutable but for what their meters count."""

    def __init__(self, keys: Iterable[Key] = (), before: Keyring | None = None) -> None:
        known = {} if before is None else {each.owner: each for each in before.all()}
        self._by_digest = {key.digest: _access(key, known) for key in keys}

    def __len__(self) -> int:
        return len(self._by_digest)

    def all(self) -> tuple[Access, ...]:
        return tuple(self._by_digest.values())

    def now(self, access: Access) -> Access | None:
        """What an access that was given out is now, maybe by another secret; None: it is none any more."""
        return next((each for each in self._by_digest.values() if each.owner == access.owner), None)

    def find(self, secret: bytes) -> Access | None:
        """Who has this secret; it takes as long for every wrong one."""
        given = digest_of(secret)
        access = self._by_digest.get(given)
        # A dict compares what hashes alike as quickly as it can; this does not depend on it.
        good = hmac.compare_digest(given, b"\0" * 32 if access is None else access.digest)
        return access if good else None


def _access(key: Key, known: dict[bytes, Access]) -> Access:
    fresh = Access(key.name, admin=key.admin, key=key)
    before = known.get(fresh.owner)
    meter = None
    if key.limits:
        meter = Meter(key.limits) if before is None or before.meter is None else before.meter
        meter.limits = key.limits
    share = None if before is None else before.share
    return Access(key.name, admin=key.admin, key=key, meter=meter, share=share)
