"""The gate: whose request is it? The keys of the command line and those of the file, as they are now.

The file is looked at when somebody comes, at most once a second: a key that was added, changed or taken away is so at
the next request, without a timer and without a restart. A file that cannot be read leaves everything as it was. A
router that has had keys lets nobody in without one any more, also where the last of them is taken away.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable

from llamarouter.core.access import OPEN, Access, Keyring
from llamarouter.core.errors import InvalidApiKey, UsageError
from llamarouter.core.keys import bare, operators_keys, said_of
from llamarouter.core.model import Skipped
from llamarouter.core.rate import DAY
from llamarouter.host.key_file import KeyFile
from llamarouter.host.usage_file import UsageFile

log = logging.getLogger("llamarouter")

_LOOK_EVERY = 1.0  # seconds
_SAVE_WITHIN = 60.0  # seconds
_MOST_SEEN = 1024  # header values that are known to be good


# Unix seconds: a key expires at a date, and the tokens of a day are those of a day of the calendar.
wall_clock = time.time  # noqa: TID251 (dates)


class Gate:
    """Knows every key. Raises `UsageError` when it is made, where the file is wrong: no router starts open by that."""

    def __init__(
        self,
        operators: tuple[str, ...],
        file: KeyFile | None,
        date: Callable[[], float] = wall_clock,
        usage: UsageFile | None = None,
    ) -> None:
        self.date = date
        self.file = file
        self._usage = usage
        self._saving: asyncio.TimerHandle | None = None
        self._loop = asyncio.get_running_loop()
        self._operators = operators_keys(operators)
        self._clock = self._loop.time
        self._stamp = None if file is None else file.stamp()
        self._kept = () if file is None else tuple(file.read())
        self.ring = Keyring([*self._operators, *self._kept])
        self._open = not len(self.ring)
        # By the value of the header as it came. Nobody learns a key by how long this takes: a dict compares bytes only
        # where a hash is the same, whose secret seed is another in each process.
        self._seen: dict[bytes | None, Access] = {}
        self._recall()
        self._look_at = 0.0 if file is not None else float("inf")

    @property
    def is_open(self) -> bool:
        """Whether nobody needs a key."""
        self._look_in_time()
        return self._open

    @property
    def several(self) -> bool:
        """Whether there is more than one key, so that each can be in the way of another."""
        return len(self.ring) > 1

    def authorize(self, authorization: bytes | None, x_api_key: bytes | None) -> Access:
        """Who comes with these headers; the first of them that is there decides. Raises `InvalidApiKey`."""
        if self.file is not None and self._clock() >= self._look_at:
            self._look()
        if self._open:
            return OPEN
        given = authorization if authorization is not None else x_api_key
        access = self._seen.get(given)
        if access is None:
            access = self._find(given)
        if access.expires and access.key is not None and access.key.is_over(self.date()):
            raise _refused()
        return access

    def owner_of(self, authorization: bytes | None, x_api_key: bytes | None) -> bytes:
        """Whose conversations a request is about: nothing where there are no keys, or none came."""
        self._look_in_time()
        access = self.ring.find(bare(authorization if authorization is not None else x_api_key))
        return b"" if access is None else access.owner

    def stands(self, access: Access) -> bool:
        """Whether who was let in once would be let in now."""
        self._look_in_time()
        if access.key is None:
            return self._open or access is not OPEN
        now = self.ring.now(access)
        return now is not None and now.key is not None and not now.key.is_over(self.date())

    def now(self, access: Access) -> Access:
        """What somebody who was let in some time ago may do now."""
        return access if access.key is None else self.ring.now(access) or access

    def spent(self) -> None:
        """Tokens were counted: they are written down within a minute."""
        if self._saving is None and self._usage is not None:
            self._saving = self._loop.call_later(_SAVE_WITHIN, self._save_aside)

    def close(self) -> None:
        """The router ends: write down what was not."""
        if self._saving is not None:
            self._saving.cancel()
            self._saving = None
            self._save(*self._used())

    def _save_aside(self) -> None:
        self._saving = None
        self._loop.run_in_executor(None, self._save, *self._used())

    def _save(self, day: int, tokens: dict[str, int]) -> None:
        if self._usage is not None:
            self._usage.write(day, tokens)

    def _used(self) -> tuple[int, dict[str, int]]:
        date = self.date()
        meters = [(each.owner.decode(), each.meter) for each in self.ring.all()]
        return int(date // DAY), {owner: meter.tokens(date) for owner, meter in meters if meter is not None}

    def _recall(self) -> None:
        day, tokens = (0, {}) if self._usage is None else self._usage.read()
        for each in self.ring.all():
            if each.meter is not None:
                each.meter.recall(day, tokens.get(each.owner.decode(), 0))

    def said(self) -> list[dict[str, object]]:
        """Every key, what it may do, and what it does: for administrators."""
        self._look_in_time()
        return [_said_of(each, self.date()) for each in self.ring.all()]

    def _find(self, given: bytes | None) -> Access:
        access = self.ring.find(bare(given))
        if access is None:
            raise _refused()
        if len(self._seen) >= _MOST_SEEN:
            self._seen.clear()
        self._seen[given] = access
        return access

    def _look_in_time(self) -> None:
        if self._clock() >= self._look_at:
            self._look()

    def look_again(self) -> None:
        """Look at the file at the next request, whenever it was looked at last."""
        if self.file is not None:
            self._look_at = 0.0

    def renew(self, operators: Callable[[], tuple[str, ...]]) -> Skipped | None:
        """Take the keys of the command line and of its file as they are now; why they stay as they were."""
        try:
            keys = operators_keys(operators())
        except UsageError as error:
            return Skipped("the keys stay as they were", str(error))
        before, self._operators = self._operators, keys
        if [key.digest for key in before] != [key.digest for key in self._operators]:
            self._take()
            log.info("the keys of --api-key-file have changed: there are %d", len(self._operators))
        return None

    def _take(self) -> None:
        self.ring = Keyring([*self._operators, *self._kept], self.ring)
        self._seen.clear()
        self._open &= not len(self.ring)

    def _look(self) -> None:
        """Take the file again, if it is another now."""
        assert self.file is not None
        self._look_at = self._clock() + _LOOK_EVERY
        stamp = self.file.stamp()
        if stamp == self._stamp:
            return
        self._stamp = stamp
        try:
            keys = self.file.read()
        except UsageError as error:
            log.error("the keys stay as they were: %s", error)
            return
        self._kept = tuple(keys)
        self._take()
        log.info("the keys have changed: there are %d", len(self.ring))


def _said_of(access: Access, date: float) -> dict[str, object]:
    key, meter = access.key, access.meter
    assert key is not None
    doing = {} if meter is None else {"inside": meter.inside, "tokens_today": meter.tokens(date)}
    return {**said_of(key), "expired": key.is_over(date), **doing}


def _refused() -> InvalidApiKey:
    # The same words for every cause: they tell nobody which keys there are, or were.
    return InvalidApiKey("Invalid API Key")
