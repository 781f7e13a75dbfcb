"""Where a running router keeps its sockets: one private folder per port, held by one router at a time.

    $LR_RUNTIME_DIR | $XDG_RUNTIME_DIR/llamarouter | /run/llamarouter (root) | TMP/llamarouter-USER
        <port>/     0700, ours
            lock    flock'd for as long as the router lives; holds its pid
            admin.sock, info.json, c-<random>.sock (one per spawn)

Whoever reaches a child's socket needs no key: so every folder from the second level on must be ours alone, and no link.
A lock that nobody holds marks what a killed router left: the next one sweeps it.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import select
import stat
from collections.abc import Iterator, Mapping

from msgspec import Struct

from llamarouter.core.errors import UsageError

# `sun_path` has 108 bytes on Linux and 104 on macOS, with a terminator; llama-server words a longer one vaguely.
SOCKET_PATH_LIMIT = 100
_LONGEST_NAME = "c-00000000.sock"
_LOCK_TRIES = 10


class RunningRouter(Struct, frozen=True):
    """A live router of this user."""

    port: int  # 0: it listens on UNIX sockets only
    pid: int
    folder: str
    admin_socket: str


class RuntimeFolder:
    """The folder of this router, while it runs."""

    def __init__(self, path: str) -> None:
        self.path = path
        self.admin_socket = os.path.join(path, "admin.sock")

    @classmethod
    @contextlib.contextmanager
    def open(cls, environ: Mapping[str, str], port: int | None) -> Iterator[RuntimeFolder]:
        """Take the folder of `port` (None: no TCP port) until the end of the block.

        Raises `UsageError` where it cannot be had: another router holds it, it is not ours alone, not writable, or
        its path is too long for a socket.
        """
        base = base_of(environ)
        path = os.path.join(base, str(port or 0))
        _check_length(path)
        with _translated(path):
            # What lies above belongs to the system or to the operator; these two are ours, and must be ours alone.
            os.makedirs(os.path.dirname(base), mode=0o700, exist_ok=True)
            for each in (base, path):
                _own(each)
            lock = _locked(path)
        folder = cls(path)
        try:
            folder._sweep()
            yield folder
        finally:
            folder._sweep()
            # The file stays: unlinking a lock lets two routers hold two files of one name.
            os.close(lock)

    def socket_path(self) -> str:
        """A new path for the socket of one child; it does not exist yet, and its folder does.

        Raises `OSError` where the folder was removed and cannot be made again.
        """
        os.makedirs(self.path, mode=0o700, exist_ok=True)
        return os.path.join(self.path, f"c-{os.urandom(4).hex()}.sock")

    def write_info(self, info: Mapping[str, object]) -> None:
        """Leave a note on this router (`info.json`) for whoever looks into the folder."""
        path = os.path.join(self.path, "info.json")
        with open(path, "w", encoding="utf-8", opener=lambda name, flags: os.open(name, flags, 0o600)) as file:
            json.dump(dict(info), file)

    def _sweep(self) -> None:
        """Remove the sockets and notes of a router that is gone, which is us at the end."""
        with contextlib.suppress(OSError), os.scandir(self.path) as entries:
            for entry in entries:
                if entry.name.endswith(".sock") or entry.name == "info.json":
                    with contextlib.suppress(OSError):
                        os.unlink(entry.path)


def base_of(environ: Mapping[str, str]) -> str:
    """The folder in which each router of this user has its own, named after its port."""
    if chosen := environ.get("LR_RUNTIME_DIR"):
        return os.path.abspath(chosen)
    if runtime := environ.get("XDG_RUNTIME_DIR"):
        return os.path.join(runtime, "llamarouter")
    if os.geteuid() == 0 and os.path.isdir("/run"):
        return "/run/llamarouter"
    import tempfile  # with what it needs, it costs `lr ps` more than all of this module, and is hardly ever asked

    return os.path.join(environ.get("TMPDIR") or tempfile.gettempdir(), f"llamarouter-{_user()}")


def running(environ: Mapping[str, str]) -> list[RunningRouter]:
    """The routers of this user that live now, by port."""
    base = base_of(environ)
    found: list[RunningRouter] = []
    try:
        _check_private(base)
        names = [name for name in os.listdir(base) if name.isdigit()]
    except (OSError, UsageError):
        return []
    for name in sorted(names, key=int):
        path = os.path.join(base, name)
        with contextlib.suppress(OSError, UsageError):
            _check_private(path)
            pid = _holder_of(os.path.join(path, "lock"))
            if pid is not None:
                found.append(RunningRouter(int(name), pid, path, os.path.join(path, "admin.sock")))
    return found


def _user() -> str:
    """The user's name as far as a folder's name can have it, else the number."""
    import pwd

    try:
        name = pwd.getpwuid(os.geteuid()).pw_name
    except KeyError:
        name = ""
    return name if name.replace("-", "").replace("_", "").isalnum() else str(os.geteuid())


def _check_length(path: str) -> None:
    size = len(os.fsencode(os.path.join(path, _LONGEST_NAME)))
    if size > SOCKET_PATH_LIMIT:
        raise UsageError(
            f"runtime folder {path}: too long for a socket's path by {size - SOCKET_PATH_LIMIT} bytes;"
            " set LR_RUNTIME_DIR to a shorter one"
        )


@contextlib.contextmanager
def _translated(path: str) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise UsageError(
            f"runtime folder {path}: {error.strerror or error}; set LR_RUNTIME_DIR to a folder that can be written to"
        ) from error


def _own(path: str) -> None:
    """Make the folder, or check the one that is there."""
    with contextlib.suppress(FileExistsError):
        os.mkdir(path, 0o700)
    _check_private(path)


def _check_private(path: str) -> None:
    found = os.lstat(path)
    if not stat.S_ISDIR(found.st_mode):
        raise UsageError(f"runtime folder {path}: not a folder (links are refused); remove it or set LR_RUNTIME_DIR")
    if found.st_uid != os.geteuid():
        raise UsageError(f"runtime folder {path}: belongs to another user (uid {found.st_uid}); set LR_RUNTIME_DIR")
    if stat.S_IMODE(found.st_mode) & 0o077:
        raise UsageError(f"runtime folder {path}: open to other users; chmod 700 it or set LR_RUNTIME_DIR")


def _locked(path: str) -> int:
    """The descriptor of the lock, held. Raises `UsageError` naming who holds it."""
    name = os.path.join(path, "lock")
    lock = os.open(name, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    for _ in range(_LOCK_TRIES):
        with contextlib.suppress(BlockingIOError):
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            break
        # A command may be looking just now whether somebody holds it (`_holder_of`).
        select.select([], [], [], 0.01)
    else:
        holder = os.read(lock, 32).decode("ascii", "replace").strip()
        os.close(lock)
        raise UsageError(
            f"runtime folder {path}: held by another router (pid {holder or 'unknown'});"
            " stop it with `lr stop`, or serve on another --port"
        )
    os.ftruncate(lock, 0)
    os.write(lock, f"{os.getpid()}\n".encode())
    return lock


def _holder_of(name: str) -> int | None:
    """The pid of the router that holds this lock; None when nobody does."""
    lock = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        # A shared try does not get in the way of another look, and only for an instant in that of a router's start.
        fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        text = os.read(lock, 32)
        return int(text) if text.strip().isdigit() else None
    finally:
        os.close(lock)
    return None
