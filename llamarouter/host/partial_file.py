"""The file that a download fills: what is in it, the hash of that, and its way to its name or out of the way."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from llamarouter.core.fetch_events import FetchError, FetchEvent, Noted
from llamarouter.host.hub import RemoteFile, in_gb
from llamarouter.host.hub_store import PARTIAL_SUFFIX, VALIDATOR_SUFFIX, sync_folder

_CHUNK = 1 << 20
_LONG_CHECK = 1 << 30  # bytes; reading more than that is worth a word


class PartialFile:
    """The file that is being filled, with the hash of what it holds so far."""

    def __init__(self, file: RemoteFile, blobs: Path, descriptor: int) -> None:
        self._file = file
        self._blobs = blobs
        self._descriptor = descriptor
        self._path = blobs / (file.etag + PARTIAL_SUFFIX)
        self._validator_path = blobs / (file.etag + VALIDATOR_SUFFIX)
        self._hash = _hash_for(file)
        self.have = 0
        self.validator: str | None = None

    @classmethod
    @contextmanager
    def open(cls, file: RemoteFile, blobs: Path, tell: Callable[[FetchEvent], None]) -> Iterator[PartialFile]:
        path = blobs / (file.etag + PARTIAL_SUFFIX)
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o644)
        try:
            partial = cls(file, blobs, descriptor)
            partial._take_up(tell)
            yield partial
        finally:
            os.close(descriptor)

    def _take_up(self, tell: Callable[[FetchEvent], None]) -> None:
        """Read what an earlier try left, for its hash."""
        size = os.fstat(self._descriptor).st_size
        if size > self._file.size:
            self.restart()
            return
        if size >= _LONG_CHECK:
            tell(Noted(f"reading the {in_gb(size)} that are here already", self._file.path))
        while chunk := os.read(self._descriptor, _CHUNK):
            self._hash.update(chunk)
            self.have += len(chunk)
        if self.have and self._validator_path.exists():
            self.validator = self._validator_path.read_text() or None

    def append(self, chunk: bytes) -> None:
        """Raises `FetchError` when the server sends more than the file has, or the disk is full."""
        if self.have + len(chunk) > self._file.size:
            self.restart()
            raise FetchError("wrong_content", f"{self._file.path}: more bytes come than the file has")
        rest = memoryview(chunk)
        while rest:
            written = os.write(self._descriptor, rest)
            self._hash.update(rest[:written])
            self.have += written
            rest = rest[written:]

    def restart(self) -> None:
        os.ftruncate(self._descriptor, 0)
        os.lseek(self._descriptor, 0, os.SEEK_SET)
        self._validator_path.unlink(missing_ok=True)
        self.have, self.validator, self._hash = 0, None, _hash_for(self._file)

    def keep_validator(self, validator: str | None) -> None:
        """Remember under which ETag the bytes were served; it is written before the bytes that it vouches for."""
        if validator != self.validator and self.have == 0:
            self.validator = validator
            self._validator_path.write_text(validator or "")

    def is_right(self) -> bool:
        return self._hash.hexdigest() == self._file.etag

    def finish(self) -> None:
        """Bring it to the disk and to its name: only whole, verified bytes ever have that."""
        os.fsync(self._descriptor)
        self._path.replace(self._blobs / self._file.etag)
        self._validator_path.unlink(missing_ok=True)
        sync_folder(self._blobs)

    def set_aside(self, bad: Path) -> None:
        self._path.replace(bad)
        self._validator_path.unlink(missing_ok=True)


def _hash_for(file: RemoteFile) -> hashlib._Hash:
    """LFS names content by its SHA-256; git by the SHA-1 of the content behind its length."""
    if len(file.etag) == 64:
        return hashlib.sha256()
    return hashlib.sha1(b"blob %d\0" % file.size, usedforsecurity=False)
