"""Models in the Hugging Face hub cache.

    <root>/models--<user>--<repo>/refs/main                     the commit to take
                                 /snapshots/<commit>/**.gguf    links to the files
    ids: user/repo:TAG, a tag being what stands after the last `-` or `.` of the name: M-Q4_K_M.gguf

Rules as in `common/hf-cache.cpp` (build b11434); besides, a repository without `refs` is taken at its newest snapshot.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from dataclasses import dataclass

from llamarouter.core.ids import (
    REPO_PREFIX,
    best_model,
    best_projector,
    cached_id,
    is_model,
    is_repo,
    name_of,
    repo_of_folder,
)
from llamarouter.core.model import Model, Source
from llamarouter.host.folder_reader import FolderReader, is_folder
from llamarouter.host.header_cache import HeaderCache
from llamarouter.host.model_files import model_of

_COMMIT = re.compile(r"[0-9a-f]{40}", re.IGNORECASE)
_REF_MAX = 64  # bytes


@dataclass(frozen=True, slots=True)
class Repository:
    """The one snapshot of a repository that counts, and the paths of the GGUFs in it."""

    repo: str
    snapshot: str
    paths: tuple[str, ...]


def models_in_hub_cache(root: str, reader: FolderReader, headers: HeaderCache) -> list[Model]:
    """Every model with a tag, of every repository."""
    return [model for repository in _repositories(root, reader) for model in _models_of(repository, reader, headers)]


def model_in_hub_cache(
    root: str, repo: str, tag: str | None, reader: FolderReader, headers: HeaderCache
) -> Model | None:
    """What `repo[:tag]` means, as a preset's `hf-repo` or `-hf` would have it; None where it is not there."""
    folder = os.path.join(root, REPO_PREFIX + repo.replace("/", "--"))
    repository = _repository(repo, folder, reader) if is_repo(repo) else None
    path = best_model(repository.paths, tag) if repository else None
    if repository is None or path is None:
        return None
    return _model(repository, path, headers)


def _repositories(root: str, reader: FolderReader) -> Iterator[Repository]:
    for entry in reader.entries(root):
        if not entry.name.startswith(REPO_PREFIX) or not is_folder(entry):
            continue
        repo = repo_of_folder(entry.name)
        repository = _repository(repo, entry.path, reader) if repo else None
        if repository is not None:
            yield repository


def _repository(repo: str, folder: str, reader: FolderReader) -> Repository | None:
    snapshot = _snapshot_of(folder, reader)
    if snapshot is None:
        return None
    return Repository(repo, snapshot, tuple(path for path in reader.files_below(snapshot) if name_of(path)))


def _snapshot_of(folder: str, reader: FolderReader) -> str | None:
    """The folder of the commit that `refs/main` names, else another ref, else the newest snapshot that is there."""
    snapshots = {entry.name: entry for entry in reader.entries(os.path.join(folder, "snapshots")) if is_folder(entry)}
    if not snapshots:
        return None
    refs = reader.entries(os.path.join(folder, "refs"))
    for ref in sorted(refs, key=lambda entry: entry.name != "main"):
        commit = _commit_in(ref.path)
        if commit in snapshots:
            return snapshots[commit].path
    return max(snapshots.values(), key=_mtime_ns).path


def _commit_in(path: str) -> str | None:
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        try:
            text = os.read(descriptor, _REF_MAX).decode("ascii", "replace").strip()
        finally:
            os.close(descriptor)
    except OSError:
        return None
    return text if _COMMIT.fullmatch(text) else None


def _mtime_ns(entry: os.DirEntry[str]) -> int:
    try:
        return entry.stat().st_mtime_ns
    except OSError:
        return 0


def _models_of(repository: Repository, reader: FolderReader, headers: HeaderCache) -> Iterator[Model]:
    taken: dict[str, str] = {}
    for path in repository.paths:
        name = name_of(path)
        if name is None or name.index != 1 or not is_model(path):
            continue
        where = os.path.join(repository.snapshot, path)
        if name.tag is None:
            reader.skip(where, "its name tells no quantisation; a preset section with `model = PATH` serves it")
        elif name.tag in taken:
            reader.skip(where, f"has the id of {taken[name.tag]}; a preset section with `model = PATH` serves it")
        else:
            taken[name.tag] = path
            yield _model(repository, path, headers)


def _model(repository: Repository, path: str, headers: HeaderCache) -> Model:
    name = name_of(path)
    tag = name.tag if name else None
    projector = best_projector(path, repository.paths)
    id = cached_id(repository.repo, tag) if tag else repository.repo
    return model_of(
        headers,
        os.path.join(repository.snapshot, path),
        id=id,
        source=Source.CACHE,
        repo=id,
        mmproj=os.path.join(repository.snapshot, projector) if projector else None,
    )
