"""The Hugging Face hub cache as a place to put files: blobs by content, snapshots by revision, locks, one ref.

    models--user--repo/blobs/<etag>                   a file's bytes, named by their hash
    models--user--repo/blobs/<etag>.lr-partial        the bytes so far of one that is being fetched
    models--user--repo/snapshots/<commit>/<path>      a relative link to its blob
    models--user--repo/refs/main                      the commit that is listed; written last
    .locks/models--user--repo/<etag>.lock             huggingface_hub's own lock of that blob

Every step is atomic, so that whoever reads the cache meanwhile (llama-server, transformers) sees whole files only.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import select
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

from msgspec import Struct

from llamarouter.core.hub_names import is_commit
from llamarouter.core.ids import is_model

PARTIAL_SUFFIX = ".lr-partial"
# The ETag that the serving host gave the partial's bytes: a resume is only asked for under the same one.
VALIDATOR_SUFFIX = ".lr-partial.etag"
BAD_SUFFIX = ".bad"
_LOCK_POLL_SECONDS = 0.25
_NO_LOCKS = {errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP}
_NO_LINKS = {errno.EPERM, errno.ENOSYS, errno.EOPNOTSUPP}


class Here(Struct, frozen=True):
    """What is in the cache of one file: bytes, and whether that is all of it."""

    have: int = 0
    cached: bool = False


def look(folder: Path, commit: str, path: str, etag: str | None, size: int | None) -> Here:
    """How much of a file is here already. A blob of the right size is taken as whole: it was verified when it came."""
    if etag is None or size is None:
        return Here()
    blobs = folder / "blobs"
    if any(
        place.is_file() and _size_of(place) == size for place in (blobs / etag, folder / "snapshots" / commit / path)
    ):
        return Here(size, cached=True)
    return Here(min(_size_of(blobs / (etag + PARTIAL_SUFFIX)), size))


def _size_of(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return 0


@contextlib.contextmanager
def locked(folder: Path, name: str, waiting: Callable[[], None]) -> Iterator[None]:
    """Hold a repository's lock of that name (a blob's etag) in the block; `waiting` is called while another has it.

    Where the file system has no locks, the block runs without one.
    """
    path = folder.parent / ".locks" / folder.name / f"{name}.lock"
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor = _until_locked(path, waiting)
    try:
        yield
    finally:
        os.close(descriptor)


def _until_locked(path: Path, waiting: Callable[[], None]) -> int:
    while True:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o664)
        try:
            while not _try_lock(descriptor):
                waiting()
                select.select([], [], [], _LOCK_POLL_SECONDS)
            # Whoever held it may have unlinked the file: then this lock is on nothing.
            if path.exists() and os.path.samestat(os.fstat(descriptor), path.stat()):
                return descriptor
        except BaseException:
            os.close(descriptor)
            raise
        os.close(descriptor)


def _try_lock(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError as error:
        if error.errno not in _NO_LOCKS:
            raise
    return True


def is_locked(folder: Path, name: str) -> bool:
    """Whether some process holds the lock of that blob right now."""
    try:
        descriptor = os.open(folder.parent / ".locks" / folder.name / f"{name}.lock", os.O_RDWR | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        return not _try_lock(descriptor)
    finally:
        os.close(descriptor)


def link_into_snapshot(folder: Path, commit: str, path: str, etag: str) -> Path:
    """Make `snapshots/<commit>/<path>` mean that blob; where the file system has no links, the blob moves there."""
    place = folder / "snapshots" / commit / path
    blob = folder / "blobs" / etag
    if not blob.exists() and place.exists():
        return place
    place.parent.mkdir(parents=True, exist_ok=True)
    target = os.path.relpath(blob, place.parent)
    if place.is_symlink() and os.readlink(place) == target:
        return place
    temporary = place.with_name(f".{etag[:16]}.{os.getpid()}.lr-link")
    try:
        temporary.unlink(missing_ok=True)
        temporary.symlink_to(target)
        temporary.replace(place)
    except OSError as error:
        if error.errno not in _NO_LINKS:
            raise
        blob.replace(place)
    return place


def publish(folder: Path, commit: str, contents: Mapping[str, str]) -> tuple[str, ...]:
    """Make `commit` the listed revision, once its files are linked.

    What an older revision had here and this one has too, by content, is linked under this one, or pulling one quant
    would hide another. Returns the model files that are hidden from now on: this revision has other bytes for them.
    """
    ref = folder / "refs" / "main"
    old = _read_ref(ref)
    hidden = _carry_over(folder, old, commit, contents) if old is not None and old != commit else ()
    ref.parent.mkdir(parents=True, exist_ok=True)
    if old != commit:
        temporary = ref.with_name(f".main.{os.getpid()}.lr-ref")
        temporary.write_text(commit)
        temporary.replace(ref)
        sync_folder(ref.parent)
    return hidden


def _read_ref(ref: Path) -> str | None:
    try:
        commit = ref.read_text().strip()
    except (OSError, UnicodeDecodeError):
        return None
    return commit if is_commit(commit) else None


def _carry_over(folder: Path, old: str, new: str, contents: Mapping[str, str]) -> tuple[str, ...]:
    hidden: list[str] = []
    root = folder / "snapshots" / old
    for parent, _, names in os.walk(root):
        for name in names:
            entry = Path(parent) / name
            path = entry.relative_to(root).as_posix()
            blob = os.path.basename(os.readlink(entry)) if entry.is_symlink() else None
            if blob is not None and contents.get(path) == blob:
                link_into_snapshot(folder, new, path, blob)
            elif is_model(path) and not (folder / "snapshots" / new / path).exists():
                hidden.append(path)
    return tuple(sorted(hidden))


def sync_folder(folder: Path) -> None:
    """Bring a folder's entries to the disk, where the file system can."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_CLOEXEC)
    try:
        with contextlib.suppress(OSError):
            os.fsync(descriptor)
    finally:
        os.close(descriptor)
