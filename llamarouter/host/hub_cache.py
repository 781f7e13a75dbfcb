"""Models in the Hugging Face hub cache.

    <root>/models--<user>--<repo>/refs/main                     the commit to take
                                 /snapshots/<commit>/**.gguf    links to the files
    M-Q4_K_M.gguf   ->  user/repo:Q4_K_M       (the tag is what stands after the last `-` or `.`)
    plain.gguf      ->  user/repo/plain.gguf   (no tag; so too where two files have the same)

Rules as in `common/hf-cache.cpp` (build b11434), which leaves out files without a tag, repositories without a user or
with `--` in their name, and those without `refs` (here taken at their newest snapshot).
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator

from msgspec import Struct
from msgspec.structs import replace

from llamarouter.core.hub_names import NotInRepo, Wanted, choose, folder_of
from llamarouter.core.ids import REPO_PREFIX, best_projector, cached_id, is_draft, is_model, name_of, repo_of_folder
from llamarouter.core.model import Model, Source
from llamarouter.host.folder_reader import FolderReader, is_folder
from llamarouter.host.header_cache import HeaderCache
from llamarouter.host.model_files import model_of

_COMMIT = re.compile(r"[0-9a-f]{40}", re.IGNORECASE)
_REF_MAX = 64  # bytes


class Repository(Struct, frozen=True):
    """The one snapshot of a repository that counts, and the paths of the GGUFs in it."""

    repo: str
    snapshot: str
    by_ref: bool  # whether llama-server takes this snapshot, too
    paths: tuple[str, ...]


def models_in_hub_cache(root: str, reader: FolderReader, headers: HeaderCache) -> list[Model]:
    """Every model of every repository."""
    return [model for repository in _repositories(root, reader) for model in _models_of(repository, headers)]


def model_in_hub_cache(root: str, wanted: Wanted, reader: FolderReader, headers: HeaderCache) -> Model | None:
    """What a preset's `hf-repo`, or `-hf`, means; None where it is not there, or not with all of its shards."""
    repository = _repository(wanted.repo, os.path.join(root, folder_of(wanted.repo)), reader)
    if repository is None:
        return None
    try:
        choice = choose(repository.paths, wanted)
    except NotInRepo:
        return None
    return _model(repository, choice.model[0], choice.id, headers)


def _repositories(root: str, reader: FolderReader) -> Iterator[Repository]:
    for entry in reader.entries(root):
        if not entry.name.startswith(REPO_PREFIX) or not is_folder(entry):
            continue
        repo = repo_of_folder(entry.name)
        repository = _repository(repo, entry.path, reader) if repo else None
        if repository is not None:
            yield repository


def _repository(repo: str, folder: str, reader: FolderReader) -> Repository | None:
    found = _snapshot_of(folder, reader)
    if found is None:
        return None
    snapshot, by_ref = found
    return Repository(repo, snapshot, by_ref, tuple(path for path in reader.files_below(snapshot) if name_of(path)))


def _snapshot_of(folder: str, reader: FolderReader) -> tuple[str, bool] | None:
    """The folder of the commit that `refs/main` names, else another ref, else the newest snapshot that is there; and
    whether it is the one that llama-server takes, which looks at nothing else where a ref leads nowhere.
    """
    snapshots = {entry.name: entry for entry in reader.entries(os.path.join(folder, "snapshots")) if is_folder(entry)}
    if not snapshots:
        return None
    refs = reader.entries(os.path.join(folder, "refs"))
    by_ref = True
    for ref in sorted(refs, key=lambda entry: entry.name != "main"):
        commit = _commit_in(ref.path)
        if commit in snapshots:
            return snapshots[commit].path, by_ref
        by_ref = by_ref and commit is None
    return max(snapshots.values(), key=_mtime_ns).path, False


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


def _models_of(repository: Repository, headers: HeaderCache) -> Iterator[Model]:
    taken: set[str] = set()
    for path in repository.paths:
        name = name_of(path)
        if name is None or name.index != 1 or not is_model(path):
            continue
        id = cached_id(repository.repo, name.tag) if name.tag else None
        if id is None or id in taken:
            id = f"{repository.repo}/{path}"
        taken.add(id)
        yield _model(repository, path, id, headers)


def _model(repository: Repository, path: str, id: str, headers: HeaderCache) -> Model:
    projector = best_projector(path, repository.paths)
    sidecars = [os.path.join(repository.snapshot, each) for each in repository.paths if is_draft(each)]
    model = model_of(
        headers,
        os.path.join(repository.snapshot, path),
        id=id,
        source=Source.CACHE,
        repo=id,
        mmproj=os.path.join(repository.snapshot, projector) if projector else None,
        sidecars=sidecars,
    )
    return replace(model, unreferenced=not repository.by_ref)
