"""What is known of GGUF files: size, header or what is wrong; read once, and kept by path, size and times.

    facts_of(path) -> FileFacts       never raises for what lies at the path
    read_within(seconds)              what would be read later than that stays unread
    save()                            keeps what was read for the next start

The kept file is derived: one that cannot be read, or is of another version, is an empty cache. Opening is guarded
against what is no file: a FIFO would block for ever, a device may do anything.
"""

from __future__ import annotations

import errno
import math
import os
import stat
import time
from pathlib import Path

import msgspec
from msgspec import Struct

from llamarouter.core.gguf import GgufError, read_header
from llamarouter.core.model import Header
from llamarouter.host.state import write_atomically

VERSION = 2
ENTRIES_MAX = 20_000  # the longest unused are forgotten first
FILE_MAX = 64 << 20  # bytes; a longer cache file is not ours


class FileFacts(Struct, frozen=True):
    """One file; exactly one of `header` and `problem` is None, and both of a file that is `unread`."""

    size: int  # bytes; 0 where there is no file
    header: Header | None
    problem: str | None
    stamp: tuple[int, ...] = ()  # size and times: of another stamp, it is another file
    unread: bool = False  # there was no time to read it


class _Entry(msgspec.Struct, array_like=True, frozen=True):
    size: int
    mtime_ns: int
    # With it, a changed permission or an overwriting that sets the old mtime back is noticed too.
    ctime_ns: int
    header: Header | None
    problem: str | None


class _Kept(msgspec.Struct):
    version: int
    files: dict[str, _Entry]


class HeaderCache:
    """Headers by path; `path` is the file to keep them in, or None to keep them in memory alone."""

    def __init__(self, path: str | os.PathLike[str] | None, *, entries_max: int = ENTRIES_MAX) -> None:
        self._entries_max = entries_max
        self._path = None if path is None else Path(path)
        self._entries = {} if self._path is None else _load(self._path)
        self._dirty = False
        self._read_until = math.inf
        self.unread = 0  # how often facts were given without a look into the file

    def read_within(self, seconds: float) -> None:
        """From now on read for so many seconds at most; what is not known then stays unread. Any thread may say so."""
        self._read_until = time.monotonic() + seconds

    def facts_of(self, path: str, *, at_once: bool = False) -> FileFacts:
        """Look at the file, and read its header unless it is known; `at_once`: whatever time there is."""
        try:
            status = os.stat(path)
            if not stat.S_ISREG(status.st_mode):
                return FileFacts(0, None, _kind_of(status.st_mode))
            entry = self._entries.pop(path, None)
            if entry is None or not _fits(entry, status):
                if time.monotonic() > self._read_until and not at_once:
                    self.unread += 1
                    return FileFacts(status.st_size, None, None, _stamp_of(status), unread=True)
                entry = _read(path)
                self._dirty = True
        except OSError as error:
            return FileFacts(0, None, _reason_of(error, path))
        except ValueError:  # a NUL in the path
            return FileFacts(0, None, "no valid path")
        self._entries[path] = entry  # at the end: the longest unused are at the front
        return FileFacts(entry.size, entry.header, entry.problem, (entry.size, entry.mtime_ns, entry.ctime_ns))

    def save(self) -> None:
        """Write the file, if something was read since; a folder that cannot be written costs only time."""
        excess = len(self._entries) - self._entries_max
        for path in list(self._entries)[: max(0, excess)]:
            self._entries.pop(path, None)  # another thread may look at that file just now
        if not self._dirty or self._path is None:
            return
        self._dirty = False
        # Paths that are not UTF-8 cannot stand in JSON; discovery leaves such files out anyway.
        files = {path: entry for path, entry in list(self._entries.items()) if path.isprintable()}
        try:
            write_atomically(self._path, msgspec.json.encode(_Kept(VERSION, files)))
        except OSError:
            return


def _load(path: Path) -> dict[str, _Entry]:
    try:
        with open(path, "rb", opener=open_plain) as file:
            if os.fstat(file.fileno()).st_size > FILE_MAX:
                return {}
            kept = msgspec.json.decode(file.read(), type=_Kept)
    except (OSError, msgspec.DecodeError, RecursionError):
        return {}
    return kept.files if kept.version == VERSION else {}


def _read(path: str) -> _Entry:
    descriptor = open_plain(path, os.O_RDONLY)
    try:
        status = os.fstat(descriptor)
        header, problem = None, None
        try:
            header = read_header(lambda offset, count: os.pread(descriptor, count, offset), status.st_size)
        except GgufError as error:
            problem = str(error)
    finally:
        os.close(descriptor)
    return _Entry(status.st_size, status.st_mtime_ns, status.st_ctime_ns, header, problem)


def open_plain(path: str, flags: int) -> int:
    """Open a regular file, and nothing else: what lies there may have changed since it was looked at."""
    descriptor = os.open(path, flags | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOCTTY)
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise OSError(errno.EINVAL, "not a regular file")
    return descriptor


def _fits(entry: _Entry, status: os.stat_result) -> bool:
    return (entry.size, entry.mtime_ns, entry.ctime_ns) == _stamp_of(status)


def _stamp_of(status: os.stat_result) -> tuple[int, int, int]:
    return status.st_size, status.st_mtime_ns, status.st_ctime_ns


def _kind_of(mode: int) -> str:
    if stat.S_ISDIR(mode):
        return "a folder, not a file"
    if stat.S_ISFIFO(mode):
        return "a named pipe, not a file"
    if stat.S_ISSOCK(mode):
        return "a socket, not a file"
    return "a device, not a file"


def _reason_of(error: OSError, path: str) -> str:
    if error.errno == errno.ENOENT:
        return "a symbolic link that leads nowhere" if os.path.islink(path) else "there is no such file"
    if error.errno == errno.ELOOP:
        return "a loop of symbolic links"
    return f"cannot be read ({(error.strerror or str(error)).lower()})"
