"""What the names on the Hub mean: `user/repo:TAG` and `user/repo/file.gguf`, and which files of a repository they take.

    parse_spec("user/repo:Q4_K_M") -> Wanted        the operator's word, checked
    choose(paths, wanted) -> Choice                 all shards of one model, and the projector that goes with it
    quants_of(paths)                                what the repository has, for the message when a tag is wrong

The choice follows llama-server's (`common/download.cpp`, build b11434), so that what is fetched here is what it finds
in the cache by the same name. Nothing that a repository says becomes a path before `is_safe_path` has seen it.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

from msgspec import Struct

from llamarouter.core.fetch_events import FetchError
from llamarouter.core.ids import best_model, best_projector, cached_id, is_model, is_repo, name_of

_TAG = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,63}", re.ASCII)
_WEB = re.compile(r"(?:https?://)?(?:www\.)?(?:huggingface\.co|hf\.co)/", re.IGNORECASE)
_IN_REVISION = re.compile(r"(?:blob|resolve|raw|tree)/main(?:/|$)")
_OID = re.compile(r"[0-9a-f]{40}|[0-9a-f]{64}", re.ASCII)
_COMMIT = re.compile(r"[0-9a-f]{40}", re.ASCII)
_MAX_NAME = 96  # characters, the Hub's own limit
_MAX_PATH = 1024  # bytes
_MAX_COMPONENT = 255  # bytes

SPEC_FORMS = "user/repo, user/repo:QUANT or user/repo/file.gguf"


class Wanted(Struct, frozen=True):
    """What somebody asked for; at most one of `tag` and `file` is set, and neither means the default quant."""

    repo: str
    tag: str | None = None
    file: str | None = None
    projector: bool = True  # if the model has one

    def __str__(self) -> str:
        if self.file is not None:
            return f"{self.repo}/{self.file}"
        return f"{self.repo}:{self.tag}" if self.tag else self.repo


class Choice(Struct, frozen=True):
    """The files of a repository that make one model."""

    id: str  # as it will be listed: `user/repo:QUANT`, or `user/repo/file.gguf` where the name has no quant
    model: tuple[str, ...]  # all shards, in order
    mmproj: str | None

    @property
    def paths(self) -> tuple[str, ...]:
        return self.model if self.mmproj is None else (*self.model, self.mmproj)


class NotInRepo(Exception):
    """The repository has no such file or quant; the message says what it has instead."""


def parse_spec(text: str) -> Wanted:
    """Read `user/repo[:TAG]`, `user/repo/file.gguf`, or the address of either on huggingface.co.

    Raises `FetchError` (`bad_request`) in one line when it is none of them.
    """
    spec = _WEB.sub("", text.strip(), count=1)
    owner, _, rest = spec.partition("/")
    name, slash, file = rest.partition("/")
    if slash:
        file = _IN_REVISION.sub("", file, count=1).partition("?")[0]
    if slash and file:
        repo, tag = f"{owner}/{name}", None
        if not is_safe_path(file):
            raise _no_name(f"{_shown(text)}: the file must be the path of a .gguf file in the repository")
    else:
        name, colon, tag_text = name.partition(":")
        repo, tag, file = f"{owner}/{name}", tag_text if colon else None, ""
    if not is_valid_repo(repo):
        raise _no_name(f"{_shown(text)}: not the name of a model on the Hub; write {SPEC_FORMS}")
    if tag is not None and not _TAG.fullmatch(tag):
        raise _no_name(f"{_shown(text)}: what follows the colon must be a quant, such as Q4_K_M")
    return Wanted(repo, tag, file or None)


def _no_name(message: str) -> FetchError:
    return FetchError("bad_request", message)


def _shown(text: str) -> str:
    """Text from outside in a message: one line, bounded."""
    return repr(text if len(text) <= 120 else text[:119] + "…")


def is_valid_repo(repo: str) -> bool:
    """Whether `user/repo` is a name that the Hub gives and that is read again from a cache."""
    return is_repo(repo) and all(len(part) <= _MAX_NAME for part in repo.split("/"))


def is_safe_path(path: str) -> bool:
    """Whether a name in a repository may become a path below a snapshot folder: a .gguf file, and never upwards."""
    parts = path.split("/")
    return (
        path.endswith(".gguf")
        and len(path.encode("utf-8", "surrogatepass")) <= _MAX_PATH
        and path.isprintable()
        and "\\" not in path
        and all(part not in ("", ".", "..") and len(part.encode()) <= _MAX_COMPONENT for part in parts)
    )


def is_oid(text: str) -> bool:
    """Whether this is a content hash as blobs are named by: git's SHA-1 or LFS's SHA-256, lower-case hex."""
    return bool(_OID.fullmatch(text))


def is_commit(text: str) -> bool:
    return bool(_COMMIT.fullmatch(text))


def folder_of(repo: str) -> str:
    """The repository's folder in a hub cache."""
    return "models--" + repo.replace("/", "--")


def quants_of(paths: Iterable[str]) -> dict[str, str]:
    """The quants that a repository has, each with the first file of it; files without one are left out."""
    quants: dict[str, str] = {}
    for path in _models_in(paths):
        name = name_of(path)
        if name is not None and name.tag is not None:
            quants.setdefault(name.tag, path)
    return quants


def choose(paths: Iterable[str], wanted: Wanted) -> Choice:
    """Which of a repository's files make the wanted model. Raises `NotInRepo`, saying what there is instead."""
    known = sorted(path for path in paths if is_safe_path(path))
    first = best_model(known, wanted.tag) if wanted.file is None else _first_shard(known, wanted.file)
    name = name_of(first) if first is not None else None
    if first is None or name is None:
        raise NotInRepo(_what_there_is(known, wanted))
    shards = (first,) if name.count == 1 else tuple(name.shard(index) for index in range(1, name.count + 1))
    for shard in shards:
        if shard not in known:
            raise NotInRepo(f"{wanted.repo} is incomplete: {shard} is missing")
    identity = cached_id(wanted.repo, name.tag) if name.tag else f"{wanted.repo}/{first}"
    return Choice(identity, shards, best_projector(first, known) if wanted.projector else None)


def _first_shard(known: Sequence[str], file: str) -> str | None:
    name = name_of(file)
    if file not in known or name is None:
        return None
    return file if name.count == 1 else name.shard(1)


def _models_in(paths: Iterable[str]) -> list[str]:
    """Where models begin: no projectors, drafts or later shards."""
    return [path for path in sorted(paths) if is_model(path) and (name := name_of(path)) and name.index == 1]


def _what_there_is(known: Sequence[str], wanted: Wanted) -> str:
    """One line: what was not found, and what the repository has."""
    models = _models_in(known)
    if not models:
        return f"{wanted.repo} has no GGUF model"
    if wanted.file is not None:
        return f"{wanted.repo} has no file {wanted.file}; it has {_listed(models)}"
    return f"{wanted.repo} has no {wanted.tag}; it has {_listed(list(quants_of(known)) or models)}"


def _listed(names: Sequence[str], most: int = 40) -> str:
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more
