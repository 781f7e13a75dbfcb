"""Where the files of a section come from: the model itself, its projector, its draft model.

model = PATH | hf-repo, found or to be fetched | the discovered files      -> Origin
mmproj = PATH, model-draft = PATH, hf-repo-draft = REPO                    -> Companions
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from msgspec import Struct, field

from llamarouter.core.companions import best_draft, draft_marks
from llamarouter.core.fetch_events import FetchError
from llamarouter.core.flags import Given
from llamarouter.core.hub_names import parse_spec
from llamarouter.core.ids import DRAFT_MARKS
from llamarouter.core.model import Model, Source
from llamarouter.core.wishes import Wishes

PROJECTOR, DRAFT = "--mmproj", "--model-draft"

_ORIGINS = {Source.CACHE: "found in the cache", Source.MODELS_DIR: "found in --models-dir", Source.PRESET: "preset"}


class Origin(Struct, frozen=True):
    """Where a model's files come from: a model that is here, something to fetch, or a reason why neither."""

    model: Model | None = None
    written: str = ""
    wanted: str | None = None
    problem: str | None = None


class Companions(Struct):
    """The projector and the draft that somebody names: paths and where they are written, by option."""

    paths: dict[str, tuple[str, str]] = field(default_factory=dict)
    none: set[str] = field(default_factory=set)  # those of which there shall be none: an empty value
    projects: tuple[str, ...] = ()  # what the projector takes
    wanted: str | None = None  # what must be fetched first
    problem: str | None = None  # with its `file:line`


class Sources:
    """Resolves what sections name. `describe` reads a file, `resolve_repo` finds an `hf-repo` among what is here."""

    def __init__(self, describe: Callable[[str], Model], resolve_repo: Callable[[str], Model | None]) -> None:
        self._describe = describe
        self._resolve_repo = resolve_repo

    def origin(self, known: Model | None, wishes: Wishes) -> Origin:
        """The model of a section, or the discovered one that it lies over."""
        path, repo = wishes.source("--model"), wishes.source("--hf-repo")
        if path is not None:
            return Origin(self._describe(path), wishes.sources["--model"].origin)
        if repo is not None:
            return self._in_cache(repo, wishes.source("--hf-file"), wishes.sources["--hf-repo"].origin)
        if known is not None:
            return Origin(known, _ORIGINS[known.source])
        return Origin(problem="no such model was found, and the section names none: model = PATH, or hf-repo = REPO")

    def companions(self, named: Mapping[str, Given], spec_types: str | None) -> Companions:
        """What is named besides the model, by the section or for all models."""
        found = Companions()
        for option in (PROJECTOR, DRAFT):
            if (given := named.get(option)) is not None:
                self._named(option, given, found)
        draft = named.get("--hf-repo-draft")
        if draft is not None and draft.values[0]:
            origin = self._in_cache(draft.values[0], None, draft.origin)
            files = origin.model.files if origin.model is not None else None
            if files is None:
                found.wanted = origin.wanted or draft.values[0]
            else:
                # A repository that has a draft of its own means that one (`common/arg.cpp`).
                own = best_draft(files.model, files.sidecars, draft_marks(spec_types, by_default=DRAFT_MARKS))
                found.paths[DRAFT] = (own or files.model, origin.written)
        return found

    def _named(self, option: str, given: Given, found: Companions) -> None:
        path = given.values[0]
        if not path:
            found.none.add(option)
            return
        model = self._describe(path)
        header = model.header
        problem = None if header is not None and header.architecture == "clip" else model.problem
        if option == PROJECTOR and header is not None and header.architecture != "clip":
            problem = "a model, not a projector (mmproj)"
        if problem is not None:
            found.problem = f"{given.origin}: {given.written} = {path}: {problem}"
        if option == PROJECTOR and header is not None:
            found.projects = header.input_modalities
        found.paths[option] = (model.files.model if model.files is not None else path, given.origin)

    def _in_cache(self, repo: str, file: str | None, written: str) -> Origin:
        spec = f"{repo.partition(':')[0]}/{file}" if file else repo
        try:
            wanted = str(parse_spec(spec))
        except FetchError as error:
            return Origin(problem=str(error))
        model = self._resolve_repo(wanted)
        return Origin(model, f"{written} (in the cache)") if model is not None else Origin(wanted=wanted)
