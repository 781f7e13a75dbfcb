"""Models in --models-dir: its GGUFs, and those of its sub-folders, one level deep.

    X.gguf                  ->  X
    X-0000k-of-0000n.gguf   ->  X, all shards together
    D/one model             ->  D, with the projector (mmproj*) and the draft (mtp-*, ...) that lie beside it
    D/several models        ->  D/FILE each

That D is then still a name of one of them is the catalogue's business.
"""

from __future__ import annotations

import os
from collections.abc import Sequence

from llamarouter.core.errors import UsageError
from llamarouter.core.ids import SUFFIX, id_in_models_folder, is_draft, is_model, is_projector, name_of
from llamarouter.core.model import Model, Source
from llamarouter.host.folder_reader import FolderReader, is_folder
from llamarouter.host.header_cache import HeaderCache
from llamarouter.host.model_files import model_of


def models_in_folder(folder: str, reader: FolderReader, headers: HeaderCache) -> list[Model]:
    """Every model in the folder. Raises `UsageError` where there is no such folder."""
    check_folder(folder)
    models: dict[str, Model] = {}
    entries = reader.entries(folder)
    files = [entry.name for entry in entries if not is_folder(entry)]
    found = [_model(headers, folder, name, id_in_models_folder(name)) for name in _first_files(files)]
    seen = {os.path.realpath(folder)}
    for entry in sorted(filter(is_folder, entries), key=lambda each: each.is_symlink()):  # the folder before its links
        real = os.path.realpath(entry.path)
        if real in seen or os.path.realpath(folder).startswith(os.path.join(real, "")):
            reader.skip(entry.path, "a link to a folder that is looked at already, or that holds this one")
            continue
        seen.add(real)
        found += _models_in_sub_folder(entry, reader, headers)
    for model in found:
        if model.id and models.setdefault(model.id, model) is not model:
            where = model.files.model if model.files else folder
            reader.skip(where, f"has the id '{model.id}', which is taken already in this folder")
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


def _models_in_sub_folder(entry: os.DirEntry[str], reader: FolderReader, headers: HeaderCache) -> list[Model]:
    names = [inner.name for inner in reader.entries(entry.path) if not is_folder(inner)]
    files = _first_files(names)
    id = id_in_models_folder(entry.name)
    if not files:
        if entry.name.endswith(SUFFIX):
            reader.skip(entry.path, "a folder, not a file, and no model in it")
        return []
    # Several of a kind: the last projector and the first draft, as in llama-server (which takes the order of the disk).
    projectors = [name for name in names if name.endswith(SUFFIX) and is_projector(name)]
    drafts = [name for name in names if name.endswith(SUFFIX) and is_draft(name)]
    mmproj = os.path.join(entry.path, projectors[-1]) if projectors else None
    draft = os.path.join(entry.path, drafts[0]) if drafts else None
    return [
        _model(
            headers,
            entry.path,
            name,
            id if len(files) == 1 else f"{id}/{id_in_models_folder(name)}",
            mmproj=mmproj,
            draft=draft,
        )
        for name in files
    ]


def _first_files(names: Sequence[str]) -> list[str]:
    """One file name a model: of shards the lowest that is there, so that a missing first one is noticed."""
    first: dict[tuple[str, int], str] = {}
    for file in sorted(names):
        name = name_of(file) if is_model(file) else None
        if name is not None:
            first.setdefault((name.stem, name.count), file)
    return list(first.values())


def _model(
    headers: HeaderCache,
    folder: str,
    file: str,
    id: str,
    *,
    mmproj: str | None = None,
    draft: str | None = None,
) -> Model:
    return model_of(
        headers,
        os.path.join(folder, file),
        id=id,
        source=Source.MODELS_DIR,
        mmproj=mmproj,
        draft=draft,
    )
