"""Where models may lie, after the environment."""

from __future__ import annotations

import os
from collections.abc import Mapping

from msgspec import Struct

from llamarouter.host.state import home_of


class Places(Struct, frozen=True):
    """Where to look; absolute paths. Only `models_dir` has to exist."""

    models_dir: str | None
    hub_cache: str
    flat_caches: tuple[str, ...]


def places_of(environ: Mapping[str, str], models_dir: str | None) -> Places:
    """The hub's cache is where the first of `LLAMA_CACHE HF_HUB_CACHE HUGGINGFACE_HUB_CACHE HF_HOME XDG_CACHE_HOME
    HOME` says (`common/hf-cache.cpp`, build b11434); the flat one may be in `LLAMA_CACHE` and in the user's cache.
    """
    home = home_of(environ)
    candidates = (
        environ.get("LLAMA_CACHE"),
        environ.get("HF_HUB_CACHE"),
        environ.get("HUGGINGFACE_HUB_CACHE"),
        _below(environ.get("HF_HOME"), "hub"),
        _below(environ.get("XDG_CACHE_HOME"), "huggingface/hub"),
    )
    hub = next((place for place in candidates if place), os.path.join(home, ".cache/huggingface/hub"))
    flat = (
        environ.get("LLAMA_CACHE"),
        _below(environ.get("XDG_CACHE_HOME"), "llama.cpp"),
        os.path.join(home, ".cache/llama.cpp"),
    )
    return Places(
        models_dir=_absolute(models_dir) if models_dir else None,
        hub_cache=_absolute(hub),
        flat_caches=tuple(dict.fromkeys(_absolute(place) for place in flat if place)),
    )


def _below(base: str | None, name: str) -> str | None:
    return os.path.join(base, name) if base else None


def _absolute(path: str) -> str:
    return os.path.abspath(os.path.expanduser(path))
