"""Models in llama.cpp's own cache as it was before it took to the hub's layout: one flat folder.

    manifest=<user>=<repo>=<tag>.json        which file of the repository the tag means, and its projector
    <user>_<repo>_<file>.gguf                the files; a `/` in a name became `_`

`tag` is `latest` where none was asked for; the id takes the tag of the file's name, if that has one.
"""

from __future__ import annotations

import contextlib
import os

import msgspec

from llamarouter.core.hub_names import Wanted
from llamarouter.core.ids import DEFAULT_TAGS, FlatName, cached_id, flat_manifest, is_model, name_of, repo_in_id
from llamarouter.core.model import Model, Source
from llamarouter.host.folder_reader import FolderReader, is_folder
from llamarouter.host.header_cache import HeaderCache, open_plain
from llamarouter.host.model_files import model_of

_MANIFEST_MAX = 1 << 20  # bytes


class _File(msgspec.Struct):
    rfilename: str = ""


class _Manifest(msgspec.Struct, rename="camel"):
    gguf_file: _File | None = None
    mmproj_file: _File | None = None


def models_in_flat_cache(folder: str, reader: FolderReader, headers: HeaderCache) -> list[Model]:
    """Every model that a manifest names. GGUFs without one are noted: nothing tells what they are called."""
    models: dict[str, Model] = {}
    claimed: set[str] = set()
    entries = [entry for entry in reader.entries(folder) if not is_folder(entry)]
    for entry in entries:
        flat = flat_manifest(entry.name)
        model = _model(folder, flat, entry, reader, headers) if flat else None
        if model is None or model.files is None:
            continue
        models.setdefault(model.id, model)
        claimed.update((model.files.model, *model.files.shards))
    for entry in entries:
        if is_model(entry.name) and os.path.abspath(entry.path) not in claimed and _is_first(entry.name):
            reader.skip(entry.path, "no manifest names its repository; a preset section with `model = PATH` serves it")
    return list(models.values())


def model_in_flat_cache(folder: str, wanted: Wanted, reader: FolderReader, headers: HeaderCache) -> Model | None:
    """What a preset's `hf-repo`, or `-hf`, means; None where it is not there."""
    models = [model for model in models_in_flat_cache(folder, reader, headers) if repo_in_id(model.id) == wanted.repo]
    if wanted.file is not None:
        path = os.path.join(folder, FlatName(wanted.repo, "").file(wanted.file))
        return next((model for model in models if model.files is not None and model.files.model == path), None)
    for tag in (wanted.tag,) if wanted.tag else DEFAULT_TAGS:
        for model in models:
            if model.id == cached_id(wanted.repo, tag):
                return model
    return models[0] if models and not wanted.tag else None


def manifests_of(file: str) -> list[str]:
    """The manifests that name a GGUF of a flat folder, whatever tag each is for."""
    folder, name = os.path.split(file)
    found = []
    for entry in sorted(os.listdir(folder)):
        flat = flat_manifest(entry)
        if flat is None:
            continue
        with contextlib.suppress(OSError, msgspec.DecodeError, RecursionError):
            manifest = _read_manifest(os.path.join(folder, entry))
            if manifest.gguf_file is not None and flat.file(manifest.gguf_file.rfilename) == name:
                found.append(os.path.join(folder, entry))
    return found


def _is_first(file_name: str) -> bool:
    name = name_of(file_name)
    return name is not None and name.index == 1


def _model(
    folder: str, flat: FlatName, entry: os.DirEntry[str], reader: FolderReader, headers: HeaderCache
) -> Model | None:
    try:
        manifest = _read_manifest(entry.path)
    except (OSError, msgspec.DecodeError, RecursionError):
        reader.skip(entry.path, "cannot be read as a manifest")
        return None
    file = manifest.gguf_file.rfilename if manifest.gguf_file else ""
    name = name_of(file)
    if name is None or not file.isprintable():
        reader.skip(entry.path, "the manifest names no GGUF")
        return None
    tag = name.tag or (flat.tag if flat.tag != "latest" else None)
    id = cached_id(flat.repo, tag) if tag else f"{flat.repo}/{file}"
    projector = manifest.mmproj_file.rfilename if manifest.mmproj_file else ""
    beside = os.path.join(folder, flat.file(projector)) if projector else None
    return model_of(
        headers,
        os.path.join(folder, flat.file(file)),
        id=id,
        source=Source.CACHE,
        repo=id,
        # It may have been left out with --no-mmproj.
        mmproj=beside if beside is not None and os.path.lexists(beside) else None,
    )


def _read_manifest(path: str) -> _Manifest:
    with open(path, "rb", opener=open_plain) as file:
        return msgspec.json.decode(file.read(_MANIFEST_MAX), type=_Manifest)
