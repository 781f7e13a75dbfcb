"""A model: a GGUF on disk (or a place to fetch one from) under the id by which clients ask for it.

`Model` is what discovery finds and what a preset's section may add to; it says nothing about processes.
"""

from __future__ import annotations

import enum

from msgspec import Struct


class Source(enum.Enum):
    """Where a model was found; the values are llama-server's words in `GET /models`."""

    CACHE = "cache"  # the Hugging Face hub cache, or llama.cpp's old flat layout
    MODELS_DIR = "models_dir"
    PRESET = "preset"


class Header(Struct, frozen=True, kw_only=True):
    """What a GGUF header tells without loading anything."""

    architecture: str
    name: str | None
    quant: str | None  # file type as llama.cpp names it: `Q4_K_M`
    n_params: int  # elements over all tensors of all shards
    n_ctx_train: int | None  # tokens
    n_embd: int | None
    n_layer: int | None
    n_vocab: int | None
    input_modalities: tuple[str, ...] = ("text",)  # of text, image, audio; of a projector what it adds
    output_modalities: tuple[str, ...] = ("text",)  # or `decisions`
    pooling: bool = False  # an embedding or reranking model


class Files(Struct, frozen=True, kw_only=True):
    """The files of one model; paths are absolute."""

    model: str  # the first shard, where there are several
    shards: tuple[str, ...] = ()  # all of them, in order; empty for a single file
    mmproj: str | None = None
    draft: str | None = None
    sidecars: tuple[str, ...] = ()  # draft models of the same repository, for who asks for one by `--spec-type`


class Skipped(Struct, frozen=True):
    """A file, section or folder that was left out, or taken with a doubt: a warning in the list."""

    where: str  # a path, or `file:line`
    reason: str

    def __str__(self) -> str:
        return f"{self.where}: {self.reason}"


class Model(Struct, frozen=True, kw_only=True):
    """One model under its id."""

    id: str
    source: Source
    files: Files | None = None  # None: not on this machine yet (a preset's `hf-repo`)
    repo: str | None = None  # `user/repo:TAG`, where it came from the Hub
    unreferenced: bool = False  # in the hub's cache, but the refs lead elsewhere: llama-server does not see it
    size: int = 0  # bytes on disk, over all shards, without projector and draft
    header: Header | None = None
    problem: str | None = None  # why it cannot be started, in one line; None when it can
    removable: bool = False  # `lr rm` may delete its files (it lies in a cache)
    projects: tuple[str, ...] = ()  # what its projector takes besides text: of image, audio
    broken: tuple[Skipped, ...] = ()  # what lies beside it and cannot be used; a problem only where it is used
    folder: str | None = None  # the folder of --models-dir whose name it shares with others
    stamp: tuple[int, ...] = ()  # sizes and times of all its files; of another stamp, they are others
    unread: bool = False  # not all of their headers were read: what is wrong with them is not known yet
