"""Deleting a cached model: planned, so that it can be shown, then done.

    plan_removal(model) -> Removal        the links and blobs that go, and how many bytes that frees
    remove(removal)                       does it; what is gone already is no error

Only what lies in a cache: a hub cache (`models--user--repo/snapshots/<commit>/...`) or llama.cpp's old flat folder. A
model goes from all revisions that are here; a blob goes with the last link to it; a projector goes with the last
model of its repository; an empty repository goes whole, with the partial files in it.
"""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Iterable, Mapping
from pathlib import Path

from msgspec import Struct

from llamarouter.core.errors import Conflict, Internal
from llamarouter.core.fetch_events import FetchError
from llamarouter.core.hub_names import folder_of, is_commit, is_oid, parse_spec
from llamarouter.core.ids import SUFFIX, is_model, repo_of_folder
from llamarouter.core.model import Model
from llamarouter.host.flat_cache import manifests_of
from llamarouter.host.hub_store import PARTIAL_SUFFIX, VALIDATOR_SUFFIX, is_locked


class Removal(Struct, frozen=True):
    """What will be deleted. `folder`: the repository's, where nothing of it remains."""

    model: str
    paths: tuple[str, ...]  # absolute; links first, so that no link ever points nowhere
    bytes: int  # freed on the disk
    folder: str | None = None


def plan_removal(model: Model) -> Removal:
    """What deleting a model would delete.

    Raises `Conflict` for a model that is in no cache, or is being fetched right now.
    """
    if not model.removable or model.files is None:
        raise not_removable(model.id)
    first = Path(os.path.abspath(model.files.model))
    files = [Path(os.path.abspath(path)) for path in model.files.shards] or [first]
    snapshot = _snapshot_of(first)
    if snapshot is None:
        return _plan_flat(model, files)
    return _plan_in_hub(model, snapshot, [file.relative_to(snapshot).as_posix() for file in files])


def not_removable(id: str) -> Conflict:
    """The refusal for a model whose files somebody has put where they are."""
    return Conflict(f"model '{id}' is not removable: it does not lie in a cache, its files are yours to delete")


def check_shared(removal: Removal, others: Mapping[str, Iterable[str]]) -> None:
    """Raise `Conflict` where a file that goes is one of another model's; `others`: files by id."""
    going = {name for path in removal.paths for name in _names_of(path)}
    users = [
        id
        for id, files in others.items()
        if id != removal.model and any(going & {*_names_of(file), os.path.realpath(file)} for file in files)
    ]
    if users:
        names = ", ".join(f"'{id}'" for id in users[:5]) + (" and others" if len(users) > 5 else "")
        raise Conflict(
            f"the files of model '{removal.model}' are those of {names}, too;"
            " `lr rm --force` (force=1) deletes them all the same"
        )


def files_of(model: Model) -> tuple[str, ...]:
    """All files that a model is loaded from."""
    files = model.files
    if files is None:
        return ()
    return tuple(file for file in (files.model, *files.shards, files.mmproj, files.draft) if file is not None)


def _names_of(path: str) -> set[str]:
    """A path as it is written, and without links among its folders; a link itself is not followed."""
    folder, name = os.path.split(os.path.abspath(path))
    return {os.path.join(folder, name), os.path.join(os.path.realpath(folder), name)}


def _snapshot_of(file: Path) -> Path | None:
    """`.../models--user--repo/snapshots/<commit>` above a file; None where it lies in no hub cache."""
    for parent in file.parents:
        if parent.parent.name == "snapshots" and is_commit(parent.name) and repo_of_folder(parent.parents[1].name):
            return parent
    return None


def _plan_in_hub(model: Model, snapshot: Path, names: list[str]) -> Removal:
    folder = snapshot.parents[1]
    entries = [entry for revision in _folders_in(snapshot.parent) for entry in _files_below(revision)]
    going = {entry for entry in entries if _name_in_revision(entry, snapshot.parent) in names}
    if not any(is_model(entry.name) for entry in entries if entry not in going):
        going |= {entry for entry in entries if entry.name.endswith(SUFFIX)}
    staying = [entry for entry in entries if entry not in going]
    needed = {blob for entry in staying if (blob := _blob_of(entry, folder)) is not None}
    blobs = {blob for entry in going if (blob := _blob_of(entry, folder)) is not None} - needed
    for blob in blobs:
        if is_locked(folder, blob.name):
            raise Conflict(f"model '{model.id}' is being fetched right now")
    links = sorted(entry for entry in going if entry.is_symlink())
    plain = sorted(entry for entry in going if not entry.is_symlink())
    contents = [*plain, *sorted(blob for blob in blobs if blob.is_file())]
    if not staying:
        extra = [each for each in _files_below(folder / "blobs") if each not in blobs]
        if any(is_locked(folder, each.name.partition(".")[0]) for each in extra):
            raise Conflict(f"another file of the repository of '{model.id}' is being fetched right now")
        contents += extra
    return Removal(
        model.id,
        tuple(str(path) for path in (*links, *contents)),
        sum(path.stat().st_size for path in contents),
        None if staying else str(folder),
    )


def _folders_in(folder: Path) -> list[Path]:
    return sorted(each for each in folder.iterdir() if each.is_dir() and not each.is_symlink())


def _files_below(folder: Path) -> list[Path]:
    """Files and links below a folder; links to folders are not followed."""
    return [Path(parent) / name for parent, _, names in os.walk(folder) for name in names]


def _name_in_revision(entry: Path, snapshots: Path) -> str:
    return entry.relative_to(snapshots).as_posix().partition("/")[2]


def _blob_of(entry: Path, folder: Path) -> Path | None:
    """The blob that a link means; None where it is none, or leads anywhere but into this repository's blobs."""
    if not entry.is_symlink():
        return None
    target = Path(os.path.normpath(entry.parent / os.readlink(entry)))
    return target if target.parent == folder / "blobs" and is_oid(target.name) else None


def _plan_flat(model: Model, files: list[Path]) -> Removal:
    """The old flat folder: the files, what llama.cpp noted about each, and the manifest that named them."""
    assert model.files is not None
    going = [*files, *(file.with_name(file.name + end) for file in files for end in (".json", ".etag"))]
    mentioned = [Path(manifest) for manifest in manifests_of(str(files[0]))]
    paths = [path for path in (*going, *mentioned) if path.is_file() or path.is_symlink()]
    return Removal(model.id, tuple(map(str, paths)), sum(path.stat().st_size for path in paths if path.exists()))


def remove(removal: Removal) -> None:
    """Delete what was planned. Raises `Internal` when the system does not let us."""
    try:
        for path in removal.paths:
            Path(path).unlink(missing_ok=True)
        if removal.folder is not None:
            shutil.rmtree(removal.folder, ignore_errors=True)
            locks = Path(removal.folder).parent / ".locks" / Path(removal.folder).name
            shutil.rmtree(locks, ignore_errors=True)
        else:
            for path in removal.paths:
                _drop_empty_parents(Path(path).parent)
    except OSError as error:
        raise Internal(f"cannot delete {error.filename}: {error.strerror}") from error


def drop_partials(cache: str, spec: str) -> bool:
    """Delete what stopped fetches of a model's repository have left in a hub cache; False where that is nothing.

    Whose part is whose cannot be told without the Hub: those of the repository's other quants go, too, but for one that
    is being fetched. Raises `Internal` when the system does not let us.
    """
    try:
        repo = parse_spec(spec).repo
    except FetchError:
        return False
    folder = Path(cache, folder_of(repo))
    partials = [
        path
        for path in sorted(folder.glob(f"blobs/*{PARTIAL_SUFFIX}"))
        if not is_locked(folder, path.name.removesuffix(PARTIAL_SUFFIX))
    ]
    try:
        for path in partials:
            path.unlink(missing_ok=True)
            path.with_name(path.name.removesuffix(PARTIAL_SUFFIX) + VALIDATOR_SUFFIX).unlink(missing_ok=True)
    except OSError as error:
        raise Internal(f"cannot delete {error.filename}: {error.strerror}") from error
    return bool(partials)


def _drop_empty_parents(folder: Path) -> None:
    """Sub-folders of a revision that hold nothing any more, and revisions that do."""
    while _snapshot_of(folder / "x") is not None:
        with contextlib.suppress(OSError):
            folder.rmdir()
        if folder.exists():
            return
        folder = folder.parent
