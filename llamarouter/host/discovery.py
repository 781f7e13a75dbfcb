"""Finds the models on this machine, and notices cheaply that something may have changed.

    environment, --models-dir  ->  Places  ->  discover  ->  Found: models, what was left out and why, a look

An id in several places: --models-dir before the hub's cache, that before llama.cpp's old flat folder. A file that is
broken is a model with a `problem` and a note; nothing that lies in a folder makes this raise.
"""

from __future__ import annotations

from msgspec import Struct

from llamarouter.core.fetch_events import FetchError
from llamarouter.core.hub_names import parse_spec
from llamarouter.core.model import Model, Skipped
from llamarouter.host.flat_cache import model_in_flat_cache, models_in_flat_cache
from llamarouter.host.folder_reader import FolderReader
from llamarouter.host.header_cache import HeaderCache
from llamarouter.host.hub_cache import model_in_hub_cache, models_in_hub_cache
from llamarouter.host.look import Look, look_at
from llamarouter.host.model_files import describe_file
from llamarouter.host.models_folder import models_in_folder
from llamarouter.host.places import Places, places_of

__all__ = ["Found", "Places", "describe_file", "discover", "places_of", "resolve_repo"]


class Found(Struct, frozen=True):
    """What a search found; `models` sorted by id."""

    models: tuple[Model, ...]
    skipped: tuple[Skipped, ...]
    look: Look


def discover(places: Places, headers: HeaderCache, *, caches: bool = True) -> Found:
    """Look everywhere; without `caches`, in --models-dir alone.

    Raises `UsageError` only where `places.models_dir` is not a folder that can be listed.
    """
    look = look_at(places)  # before the search, so that what changes meanwhile is seen the next time
    readers = [FolderReader()]
    models: dict[str, Model] = {}
    for folder in reversed(places.flat_caches) if caches else ():
        models.update(_by_id(models_in_flat_cache(folder, readers[0], headers)))
    readers.append(FolderReader())  # each place has its own bound: a full cache must not hide --models-dir
    if caches:
        models.update(_by_id(models_in_hub_cache(places.hub_cache, readers[1], headers)))
    if places.models_dir is not None:
        readers.append(FolderReader())
        models.update(_by_id(models_in_folder(places.models_dir, readers[2], headers)))
    for model in models.values():
        if model.problem is not None and model.files is not None:
            readers[-1].skip(model.files.model, model.problem)
        for each in model.broken:
            readers[-1].skip(each.where, each.reason)
    headers.save()
    skipped = tuple(dict.fromkeys(note for reader in readers for note in reader.skipped))
    return Found(tuple(models[id] for id in sorted(models)), skipped, look)


def resolve_repo(places: Places, spec: str, headers: HeaderCache | None = None) -> Model | None:
    """The model on this machine that `user/repo[:TAG]` or `user/repo/file.gguf` means, or None; no network.

    Without a tag: Q4_K_M, else Q8_0, else any.
    """
    try:
        wanted = parse_spec(spec)
    except FetchError:
        return None
    headers = headers or HeaderCache(None)
    reader = FolderReader()
    found = model_in_hub_cache(places.hub_cache, wanted, reader, headers)
    for folder in places.flat_caches:
        found = found or model_in_flat_cache(folder, wanted, reader, headers)
    return found


def _by_id(models: list[Model]) -> dict[str, Model]:
    return {model.id: model for model in models}
