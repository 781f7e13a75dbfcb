"""A key: who may ask for what, and how much. What is kept of its secret is a hash.

    sk-lr-<43 signs> --digest_of--> 32 bytes --> Key(name, digest, models, limits, ...)

A secret is 256 random bits. Nobody can try them all, so a slow hash (which makes each try of a guessable password dear)
would protect nothing: it would only make every request dear. A plain SHA-256 can be looked up in a dict: what a lookup
tells by the time it takes is about the digest, of which nobody who guesses can choose even the first bit's company.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from datetime import UTC, date, datetime, timedelta
from hashlib import sha256

from msgspec import Struct
from msgspec.structs import replace

from llamarouter.core.errors import UsageError

PREFIX = "sk-lr-"
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
OPERATORS = "api-key"  # what the keys of `--api-key` are called: no other name begins like it
_MOST_GLOBS = 256
_LONGEST_GLOB = 512
_MOST = 10**12  # of anything that is counted
MOST_A_MINUTE = 100_000  # each of them is remembered for a minute


class Limits(Struct, frozen=True, kw_only=True):
    """How much a key may do; None: as much as it likes."""

    rpm: int | None = None  # requests in any 60 seconds
    concurrent: int | None = None  # at once, those that wait included
    tokens_per_day: int | None = None  # of prompts and answers, until midnight UTC

    def __bool__(self) -> bool:
        return self != _NONE


_NONE = Limits()


class Key(Struct, frozen=True, kw_only=True):
    """One key. `name` is its id everywhere: in logs, in metrics, in the file."""

    name: str
    digest: bytes
    created: datetime  # with `name`, what it is: a new secret makes no other key of it
    models: tuple[str, ...] | None = None  # globs over ids; None: all
    admin: bool = False
    metrics: bool = False  # it reads the router's metrics, and that is all it may
    limits: Limits = _NONE
    expires: datetime | None = None  # from then on it is no key
    default_model: str | None = None  # of requests that name no model that it has

    def is_over(self, now: float) -> bool:
        """Whether it has expired; `now`: unix seconds."""
        return self.expires is not None and now >= self.expires.timestamp()


def digest_of(secret: bytes) -> bytes:
    """What is kept of a secret, and looked for."""
    return sha256(secret).digest()


def secret_of(random: str) -> str:
    """The secret as it is shown, from 256 random bits in signs that a URL could hold."""
    return PREFIX + random


def bare(credential: bytes | None) -> bytes:
    """The secret in an `Authorization` or `X-Api-Key` value: the scheme is optional, as in llama-server."""
    if credential is None:
        return b""
    return credential[7:].strip() if credential[:7].lower() == b"bearer " else credential.strip()


def operators_keys(secrets: Iterable[str]) -> list[Key]:
    """The keys of the command line: administrators, without limits."""
    unique = list(dict.fromkeys(secrets))
    return [
        Key(
            name=OPERATORS if len(unique) == 1 else f"{OPERATORS}-{number}",
            digest=digest_of(secret.encode()),
            created=datetime.fromtimestamp(0, UTC),
            admin=True,
        )
        for number, secret in enumerate(unique, 1)
    ]


def checked(key: Key) -> Key:
    """The key, if it makes sense. Raises `UsageError`."""
    if not _NAME.fullmatch(key.name):
        raise UsageError(f"{key.name!r} cannot name a key: letters, digits, '.', '_' and '-' can, 64 at most")
    if key.name.lower().startswith(OPERATORS):
        raise UsageError(f"{key.name!r} cannot name a key: {OPERATORS}... are those of --api-key")
    if key.models is not None:
        if key.admin:
            raise UsageError("--admin and --models exclude each other: who administers sees every model")
        _check_globs(key.models)
    if key.metrics and (key.admin or key.models is not None or key.limits or key.default_model is not None):
        raise UsageError("--metrics is for who only reads /metrics: it goes with --expires alone")
    for option, number, most in (
        ("--rpm", key.limits.rpm, MOST_A_MINUTE),
        ("--concurrent", key.limits.concurrent, _MOST),
        ("--tokens-per-day", key.limits.tokens_per_day, _MOST),
    ):
        if number is not None and not 1 <= number <= most:
            raise UsageError(f"{option} {number}: a number from 1 to {most} is needed")
    if key.default_model is not None and not key.default_model.strip():
        raise UsageError("--default-model: the id of a model is needed")
    return key


def _check_globs(globs: tuple[str, ...]) -> None:
    if not globs or not all(glob.strip() for glob in globs):
        raise UsageError("--models: ids are needed, such as user/model:Q4_K_M or user/*, with commas between them")
    if len(globs) > _MOST_GLOBS or any(len(glob) > _LONGEST_GLOB for glob in globs):
        raise UsageError(f"--models: at most {_MOST_GLOBS} of at most {_LONGEST_GLOB} characters each")


def globs_of(text: str) -> tuple[str, ...]:
    """`a,b/*` as it is written on the command line."""
    return tuple(dict.fromkeys(part.strip() for part in text.split(",") if part.strip()))


def expiry_of(text: str, now: datetime) -> datetime:
    """When a key ends: `2027-06-30` (the end of that day, UTC), a time in ISO 8601, or `90d`, `12h` from now.

    Raises `UsageError`.
    """
    try:
        if found := re.fullmatch(r"([0-9]{1,5})([dh])", text):
            number = int(found[1])
            ends = now + (timedelta(days=number) if found[2] == "d" else timedelta(hours=number))
        elif re.fullmatch(r"[0-9]{4}-[0-9]{2}-[0-9]{2}", text):
            ends = datetime.combine(date.fromisoformat(text) + timedelta(days=1), datetime.min.time(), UTC)
        else:
            ends = datetime.fromisoformat(text)
            ends = ends.replace(tzinfo=UTC) if ends.tzinfo is None else ends.astimezone(UTC)
    except (ValueError, OverflowError):
        raise UsageError(
            f"--expires {text}: a date such as 2027-06-30, a time such as 2027-06-30T12:00Z, or 90d"
        ) from None
    if ends <= now:
        raise UsageError(f"--expires {text}: that is over already")
    return ends.replace(microsecond=0)


def said_of(key: Key) -> dict[str, object]:
    """What is shown of a key; not even its hash."""
    return {
        "name": key.name,
        "admin": key.admin,
        "metrics": key.metrics,
        "models": None if key.models is None else list(key.models),
        "rpm": key.limits.rpm,
        "concurrent": key.limits.concurrent,
        "tokens_per_day": key.limits.tokens_per_day,
        "default_model": key.default_model,
        "expires": None if key.expires is None else key.expires.strftime("%Y-%m-%dT%H:%MZ"),
    }


def added(keys: tuple[Key, ...], key: Key) -> tuple[Key, ...]:
    """The keys and one more. Raises `UsageError` where there is one of that name, in whatever case."""
    for each in keys:
        if each.name.lower() == key.name.lower():
            raise UsageError(f"there is a key {each.name} already: `lr key rotate {each.name}` gives it a new secret")
    return (*keys, checked(key))


def removed(keys: tuple[Key, ...], name: str) -> tuple[Key, ...]:
    """The keys without one. Raises `UsageError` where there is none of that name."""
    _named(keys, name)
    return tuple(each for each in keys if each.name != name)


def rotated(keys: tuple[Key, ...], name: str, digest: bytes) -> tuple[Key, ...]:
    """The keys, one of them with another secret. Raises `UsageError` where there is none of that name."""
    _named(keys, name)
    return tuple(replace(each, digest=digest) if each.name == name else each for each in keys)


def _named(keys: tuple[Key, ...], name: str) -> None:
    if all(each.name != name for each in keys):
        known = ", ".join(each.name for each in keys[:20])
        raise UsageError(f"there is no key {name!r}" + (f"; there are {known}" if known else "; there are none"))
