"""Models in --models-dir: its GGUFs, and those of its sub-folders at any depth.

    X.gguf                     ->  X
    X-0000k-of-0000n.gguf      ->  X, all shards together
    D/one model                ->  D, as in llama-server, which looks no deeper
    D/several models           ->  D/FILE each
    D/E/any model              ->  D/E/FILE

In a sub-folder a model is given the projector (mmproj*) and the draft (mtp-*, ...) of its own folder, else of the
nearest above. That a folder is then still a name of one of its models is the catalogue's business.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence

from llamarouter.core.companions import belonging, best_draft
from llamarouter.core.errors import UsageError
from llamarouter.core.ids import (
    SUFFIX,
    best_projector,
    id_in_models_folder,
    is_draft,
    is_imatrix,
    is_projector,
    name_of,
)
from llamarouter.core.model import Model, Source
from llamarouter.host.folder_reader import Folder, FolderReader
from llamarouter.host.header_cache import HeaderCache
from llamarouter.host.model_files import model_of


def models_in_folder(folder: str, reader: FolderReader, headers: HeaderCache) -> list[Model]:
    """Every model in the folder. Raises `UsageError` where there is no such folder."""
    check_folder(folder)
    search = _Search(folder, headers)
    models: dict[str, Model] = {}
    for each in reader.tree(folder):
        names = [entry.name for entry in each.files if entry.name.endswith(SUFFIX)]
        files = _first_files(names)
        if not files and each.inside.endswith(SUFFIX):
            reader.skip(each.path, "a folder, not a file, and no model in it")
        search.note(each, names, files)
        for name in files:
            wanted, *others = _ids_of(each, name, alone=len(files) == 1)
            id = next((id for id in (wanted, *others) if id not in models), None)
            if id != wanted:
                listed = f"listed as '{id}'" if id else "left out"
                reason = f"has the id '{wanted}', which is taken already in this folder: {listed}"
                reader.skip(os.path.join(each.path, name), reason)
            if id:
                models[id] = search.model(each, name, id)
    return list(models.values())


def check_folder(folder: str) -> None:
    """Raise `UsageError` unless the folder is there and can be listed."""
    try:
        with os.scandir(folder):
            return
    except FileNotFoundError as error:
        raise UsageError(f"--models-dir {folder}: there is no such folder") from error
    except NotADirectoryError as error:
        raise UsageError(f"--models-dir {folder}: a file, where a folder is needed") from error
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        raise UsageError(f"--models-dir {folder}: cannot be read ({reason.lower()})") from error


class _Search:
    """What was seen of the folders so far: a folder comes before those in it."""

    def __init__(self, top: str, headers: HeaderCache) -> None:
        self._top = top
        self._headers = headers
        self._models: dict[str, list[str]] = {}  # paths by folder, all inside the top
        self._companions: dict[str, list[str]] = {}

    def note(self, folder: Folder, names: Sequence[str], files: Sequence[str]) -> None:
        """See a folder. At the top nothing goes together: too much lies there side by side."""
        if folder.inside:
            beside = [name for name in names if is_projector(name) or is_draft(name)]
            self._models[folder.inside] = [f"{folder.inside}/{name}" for name in files]
            self._companions[folder.inside] = [f"{folder.inside}/{name}" for name in beside]

    def model(self, folder: Folder, name: str, id: str) -> Model:
        """The model of a file, with what goes with it."""
        path = os.path.join(folder.path, name)
        return model_of(
            self._headers,
            path,
            id=id,
            source=Source.MODELS_DIR,
            mmproj=self._nearest(folder.inside, name, best_projector, is_projector),
            draft=self._nearest(folder.inside, name, best_draft, is_draft),
            folder=folder.inside if folder.inside and id != folder.inside else None,
        )

    def _nearest(
        self,
        inside: str,
        name: str,
        best: Callable[[str, Sequence[str]], str | None],
        is_kind: Callable[[str], bool],
    ) -> str | None:
        model = f"{inside}/{name}"
        for folder in _upwards(inside):
            candidates = [path for path in self._companions[folder] if is_kind(path)]
            others = [*self._models[inside], *self._models[folder]]
            found = best(model, belonging(model, candidates, others)) if candidates else None
            if found is not None:
                return os.path.join(self._top, found)
        return None


def _upwards(inside: str) -> Iterator[str]:
    """A folder, and those that hold it, without the top."""
    while inside:
        yield inside
        inside = inside.rpartition("/")[0]


def _ids_of(folder: Folder, name: str, *, alone: bool) -> tuple[str, ...]:
    """The ids that a file may have, the likeliest first."""
    stem = id_in_models_folder(name)
    if not folder.inside:
        return stem, name
    by_path = (f"{folder.inside}/{stem}", f"{folder.inside}/{name}")
    return (folder.inside, *by_path) if alone and folder.depth == 1 else by_path


def _first_files(names: Sequence[str]) -> list[str]:
    """One file name a model: of shards the lowest that is there, so that a missing first one is noticed."""
    first: dict[tuple[str, int], str] = {}  # by what shards have in common, and how many they are
    for file in names:
        name = None if is_projector(file) or is_draft(file) or is_imatrix(file) else name_of(file)
        if name is not None:
            first.setdefault((name.stem if name.count > 1 else file, name.count), file)
    return list(first.values())
