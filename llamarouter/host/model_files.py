"""Makes a `Model` of files: their headers, sizes, shards; and what is wrong with any of them, in one line."""

from __future__ import annotations

import os
from collections.abc import Sequence

from msgspec import Struct
from msgspec.structs import replace

from llamarouter.core.ids import GgufName, id_in_models_folder, name_of
from llamarouter.core.model import Files, Header, Model, Skipped, Source
from llamarouter.host.header_cache import HeaderCache


class _Facts(Struct, frozen=True):
    """What is known of the files of a model, without its companions; `shards` is empty for a single file."""

    shards: tuple[str, ...]
    size: int
    header: Header | None
    problem: str | None
    stamp: tuple[int, ...]
    unread: bool


def model_of(
    headers: HeaderCache,
    path: str,
    *,
    id: str,
    source: Source,
    mmproj: str | None = None,
    draft: str | None = None,
    sidecars: Sequence[str] = (),
    repo: str | None = None,
    folder: str | None = None,
) -> Model:
    """The model whose first (or only) file is at `path`; `problem` is set where an engine could not load it."""
    path = os.path.abspath(path)
    name = name_of(path)
    facts = _read_shards(headers, name) if name is not None and name.count > 1 else _read_file(headers, path)
    stamp, unread = facts.stamp, facts.unread
    projects: tuple[str, ...] = ()
    broken = []
    for companion in (mmproj, draft):
        if companion is not None:
            beside = headers.facts_of(companion)
            stamp += beside.stamp
            unread |= beside.unread
            if beside.problem is not None:
                broken.append(Skipped(companion, beside.problem))
            if companion == mmproj and beside.header is not None:
                projects = beside.header.input_modalities
    return Model(
        id=id,
        source=source,
        files=Files(
            model=facts.shards[0] if facts.shards else path,
            shards=facts.shards,
            mmproj=mmproj,
            draft=draft,
            sidecars=tuple(sidecars),
        ),
        repo=repo,
        size=facts.size,
        header=facts.header,
        problem=facts.problem,
        removable=source is Source.CACHE,
        projects=projects,
        broken=tuple(broken),
        folder=folder,
        stamp=stamp,
        unread=unread,
    )


def read_now(model: Model, headers: HeaderCache) -> Model:
    """The same model, with those of its headers that there was no time for before."""
    files = model.files
    if files is None:
        return model
    for path in filter(None, (files.model, *files.shards, files.mmproj, files.draft)):
        headers.facts_of(path, at_once=True)
    now = model_of(headers, files.model, id=model.id, source=model.source, mmproj=files.mmproj, draft=files.draft)
    return replace(
        model,
        size=now.size,
        header=now.header,
        problem=now.problem,
        projects=now.projects,
        broken=now.broken,
        stamp=now.stamp,
        unread=now.unread,
    )


def describe_file(path: str, headers: HeaderCache | None = None) -> Model:
    """The model at a path that somebody wrote (`model = PATH` in a preset); nothing is raised."""
    return model_of(
        headers or HeaderCache(None), path, id=id_in_models_folder(os.path.basename(path)), source=Source.PRESET
    )


def _read_file(headers: HeaderCache, path: str) -> _Facts:
    facts = headers.facts_of(path)
    problem = facts.problem or _not_a_model(facts.header)
    return _Facts((), facts.size, facts.header, problem, facts.stamp, facts.unread)


def _read_shards(headers: HeaderCache, name: GgufName) -> _Facts:
    """All shards together; the header is the first one's, with the parameters of all."""
    paths: list[str] = []
    size, n_params = 0, 0
    first: Header | None = None
    problem: str | None = None
    stamp: tuple[int, ...] = ()
    unread = False
    for index in range(1, name.count + 1):
        path = name.shard(index)
        facts = headers.facts_of(path)
        if facts.problem is not None and not os.path.lexists(path):
            problem = problem or f"shard {index} of {name.count} is missing: {os.path.basename(path)}"
            break  # a count that is a lie would have us look for 99,999 files
        paths.append(path)
        size += facts.size
        stamp += facts.stamp
        unread |= facts.unread
        problem = problem or _about(path, facts.problem)
        if facts.header is not None:
            n_params += facts.header.n_params
        if index == 1:
            first = facts.header
            problem = problem or _about(path, _not_a_model(first))
    header = replace(first, n_params=n_params) if first else None
    return _Facts(tuple(paths or [name.shard(1)]), size, header, problem, stamp, unread)


def _not_a_model(header: Header | None) -> str | None:
    if header is None:
        return None
    if header.architecture == "clip":
        return "a projector (mmproj), not a model"
    if not header.architecture:
        return "a later shard of a model, without its first"
    return None


def _about(path: str, problem: str | None) -> str | None:
    return f"{os.path.basename(path)}: {problem}" if problem is not None else None
