"""The file of keys, `keys.toml` of the state folder: read, watched, changed. It holds hashes, never a secret.

KeyFile(path).read() -> keys        nobody but its owner may read or write it, or it is refused
KeyFile(path).change(added...)      one writer at a time; a reader sees the old file or the new one
"""

from __future__ import annotations

import fcntl
import os
import stat
import tomllib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec
import tomli_w

from llamarouter.core.errors import UsageError
from llamarouter.core.keys import Key, Limits, added
from llamarouter.host.state import write_atomically

KEYS = "keys.toml"
_VERSION = 1
_FILE_MAX = 4 << 20  # bytes

Stamp = tuple[int, ...] | None


class _Entry(msgspec.Struct, forbid_unknown_fields=True, omit_defaults=True):
    name: str
    sha256: str
    created: datetime
    models: list[str] | None = None
    admin: bool = False
    metrics: bool = False
    rpm: int | None = None
    concurrent: int | None = None
    tokens_per_day: int | None = None
    expires: datetime | None = None
    default_model: str | None = None


class _File(msgspec.Struct, forbid_unknown_fields=True):
    version: int
    keys: list[_Entry] = []


class KeyFile:
    """One file of keys; it may not exist, and then there are none."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def stamp(self) -> Stamp:
        """What is another after every change; None: there is no file."""
        try:
            found = os.stat(self.path)
        except OSError:
            return None
        return found.st_mtime_ns, found.st_ctime_ns, found.st_ino, found.st_size

    def read(self) -> tuple[Key, ...]:
        """All keys. Raises `UsageError` where the file cannot be trusted, or read, or understood."""
        try:
            with open(self.path, "rb", opener=_at_once) as file:
                self._check(os.fstat(file.fileno()))
                text = file.read(_FILE_MAX + 1)
        except FileNotFoundError:
            return ()
        except OSError as error:
            raise UsageError(f"{self.path}: {error.strerror or 'cannot be read'}") from error
        return self._parsed(text)

    def _check(self, found: os.stat_result) -> None:
        if not stat.S_ISREG(found.st_mode):
            raise UsageError(f"{self.path}: not a file")
        if found.st_mode & 0o077:
            raise UsageError(f"{self.path}: others may read or change it (mode {found.st_mode & 0o777:o}): chmod 600")
        if found.st_uid not in (os.geteuid(), 0):
            raise UsageError(f"{self.path}: belongs to another user")

    def _parsed(self, text: bytes) -> tuple[Key, ...]:
        if len(text) > _FILE_MAX:
            raise UsageError(f"{self.path}: larger than {_FILE_MAX >> 20} MiB")
        try:
            kept = msgspec.convert(tomllib.loads(text.decode()), _File)
            if kept.version != _VERSION:
                raise UsageError(f"{self.path}: version {kept.version}, which this lr does not know")
            keys: tuple[Key, ...] = ()
            for entry in kept.keys:
                keys = added(keys, _key_of(entry))
        except (ValueError, msgspec.ValidationError, RecursionError) as error:
            raise UsageError(f"{self.path}: {error}") from error
        except UsageError as error:
            raise UsageError(str(error) if str(self.path) in str(error) else f"{self.path}: {error}") from error
        return keys

    def change(self, change: Callable[[tuple[Key, ...]], tuple[Key, ...]]) -> tuple[Key, ...]:
        """Read, change, write. Raises `UsageError` where that cannot be; then nothing is changed."""
        try:
            self.path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            with self._alone():
                keys = change(self.read())
                text = tomli_w.dumps({"version": _VERSION, "keys": [_written(key) for key in keys]})
                write_atomically(
                    self.path, b"# The keys of `lr serve`, written by `lr key`; secrets are not here.\n" + text.encode()
                )
                self._keep_owner()
        except OSError as error:
            raise UsageError(
                f"{self.path}: {error.strerror or 'cannot be written'}; lr key runs as the user whose router it is"
            ) from error
        return keys

    @contextmanager
    def _alone(self) -> Iterator[None]:
        descriptor = os.open(
            self.path.with_name(f".{self.path.name}.lock"), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600
        )
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            yield
        finally:
            os.close(descriptor)

    def _keep_owner(self) -> None:
        """What root writes into a folder of somebody else's is for him to read."""
        folder = os.stat(self.path.parent)
        if os.geteuid() == 0 and folder.st_uid != 0:
            for path in (self.path, self.path.with_name(f".{self.path.name}.lock")):
                os.chown(path, folder.st_uid, folder.st_gid)


def _at_once(path: str, flags: int) -> int:
    """A pipe in its place is seen to be none: without a writer its opening would hold the router up."""
    return os.open(path, flags | os.O_NONBLOCK)


def _key_of(entry: _Entry) -> Key:
    digest = bytes.fromhex(entry.sha256)
    if len(digest) != 32:
        raise ValueError(f"key {entry.name}: sha256 is not 64 hexadecimal digits")
    return Key(
        name=entry.name,
        digest=digest,
        created=_utc(entry.created),
        models=None if entry.models is None else tuple(entry.models),
        admin=entry.admin,
        metrics=entry.metrics,
        limits=Limits(rpm=entry.rpm, concurrent=entry.concurrent, tokens_per_day=entry.tokens_per_day),
        expires=None if entry.expires is None else _utc(entry.expires),
        default_model=entry.default_model,
    )


def _utc(time: datetime) -> datetime:
    return time.replace(tzinfo=UTC) if time.tzinfo is None else time.astimezone(UTC)


def _written(key: Key) -> dict[str, Any]:
    entry = {
        "name": key.name,
        "sha256": key.digest.hex(),
        "created": key.created,
        "models": None if key.models is None else list(key.models),
        "admin": key.admin or None,
        "metrics": key.metrics or None,
        "rpm": key.limits.rpm,
        "concurrent": key.limits.concurrent,
        "tokens_per_day": key.limits.tokens_per_day,
        "expires": key.expires,
        "default_model": key.default_model,
    }
    return {name: value for name, value in entry.items() if value is not None}
