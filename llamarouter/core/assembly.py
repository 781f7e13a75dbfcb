"""One entry put together: where the model's files come from, which layers lie under its section, how it is started.

    section, known model -> source (model = PATH | hf-repo, found or to be fetched | the discovered files)
                         -> layers of given options -> flags -> Entry

Each engine reads the layers with its own table, so a section with another `lr-engine` gets the options that this
engine knows. What cannot be used in a layer that speaks for all is a warning, said once.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

from llamarouter.core.entry import Entry
from llamarouter.core.fetch_events import FetchError
from llamarouter.core.flags import COMMAND_LINE, Given, OptionTable
from llamarouter.core.fold import defaults_of, flags_of, fold, given_of, in_table, section_text
from llamarouter.core.hub_names import parse_spec
from llamarouter.core.ini import DEFAULT_SECTION, GLOBAL_SECTION, Ini, Section
from llamarouter.core.launch import FORCED_ORIGIN, Launch
from llamarouter.core.model import Files, Model, Skipped, Source
from llamarouter.core.preset import (
    Wishes,
    engine_key_of,
    read_environment,
    read_for_everyone,
    read_section,
    take_option,
)
from llamarouter.core.settings import Settings

_ORIGINS = {Source.CACHE: "found in the cache", Source.MODELS_DIR: "found in --models-dir", Source.PRESET: "preset"}


@dataclass(frozen=True, slots=True)
class _Common:
    """What one engine gives to every model: the layers under a model's files, the lowest first."""

    table: OptionTable
    layers: tuple[tuple[Given, ...], ...]
    everyone: Wishes
    drafts: Mapping[str, Given]  # for every model that has none of its own


class Layers:
    """The layers that speak for all models, read once for each engine."""

    def __init__(
        self,
        everyone: tuple[Section, ...],
        config_ini: Ini | None,
        settings: Settings,
        environ: Mapping[str, str],
        tables: Mapping[str | None, OptionTable],
    ) -> None:
        self._everyone = everyone
        self._config = tuple(
            section
            for section in (config_ini.sections if config_ini is not None else ())
            if section.name in (GLOBAL_SECTION, DEFAULT_SECTION)
        )
        self._settings = settings
        self._environ = environ
        self._tables = tables
        self._warnings: dict[Skipped, None] = {}
        self._common: dict[str | None, _Common] = {None: self._read(None, tables[None])}

    @property
    def warnings(self) -> tuple[Skipped, ...]:
        """Everything that was left out so far, once each."""
        return tuple(self._warnings)

    def warn(self, *warnings: Skipped) -> None:
        """Note what was left out."""
        self._warnings.update(dict.fromkeys(warnings))

    def engine_key(self, section: Section | None) -> str | None:
        """The `lr-engine` of a section, else that of `[*]`."""
        for each in (section, *reversed(self._everyone)):
            if each is not None and (key := engine_key_of(each)) is not None:
                return key
        return None

    def common(self, key: str | None) -> _Common | None:
        """The layers as the engine `key` reads them; None where there is no such engine."""
        if key not in self._common and key in self._tables:
            self._common[key] = self._read(key, self._tables[key])
        return self._common.get(key)

    def _read(self, key: str | None, table: OptionTable) -> _Common:
        config = read_for_everyone(self._config, table)
        environment = read_environment(self._environ, table)
        everyone = read_for_everyone(self._everyone, table)
        if key is None:  # what is wrong for the default engine is wrong; another one may just know less
            self.warn(*config.warnings, *environment.warnings, *everyone.warnings)
        drafts: dict[str, Given] = {}
        said = Wishes(where=COMMAND_LINE)
        for given in self._settings.options:
            ours = in_table(given, table)
            if ours is not None:
                take_option(ours, said)
            else:
                self.warn(Skipped(given.origin, f"{given.written} is left out where lr-engine = {key}: unknown there"))
        speakers = (config, environment, everyone, said)
        everyone.tags = next((each.tags for each in reversed(speakers) if each.tags), ())
        for each in speakers:
            drafts |= each.sources
        layers = (defaults_of(table), *(each.given for each in speakers))
        return _Common(table, tuple(tuple(layer) for layer in layers), everyone, drafts)


@dataclass(frozen=True, slots=True)
class _Source:
    """Where a model's files come from: a model that is here, something to fetch, or a reason why neither."""

    model: Model | None = None
    origin: str = ""
    wanted: str | None = None
    problem: str | None = None


class Assembly:
    """Makes entries. `deduplicating` collects the ids whose sections want their files listed once, `spoiled` those
    whose sections cannot be used."""

    def __init__(
        self,
        layers: Layers,
        settings: Settings,
        describe: Callable[[str], Model],
        resolve_repo: Callable[[str], Model | None],
    ) -> None:
        self._layers = layers
        self._settings = settings
        self._describe = describe
        self._resolve_repo = resolve_repo
        self.deduplicating: set[str] = set()
        self.spoiled: set[str] = set()

    def entry(self, name: str, known: Model | None, section: Section | None) -> Entry:
        """The entry of a discovered model, of a section, or of a section over a discovered model."""
        key = self._layers.engine_key(section)
        common = self._layers.common(key)
        stub = known or Model(id=name, source=Source.PRESET)
        where = section.where if section is not None else "[*]"
        if common is None:
            return self._broken(stub, f"{where}: lr-engine = {key} cannot be used", section)
        wishes = read_section(section, common.table) if section is not None else Wishes(where="")
        self._layers.warn(*wishes.warnings)
        if wishes.problem is not None:
            self.spoiled.add(name)
            return self._broken(stub, wishes.problem, section)
        source = self._source(known, wishes)
        if source.problem is not None:
            return self._broken(stub, f"{where}: {source.problem}", section)
        model = replace(source.model or stub, id=name)
        if section is not None:
            model = replace(model, source=Source.PRESET)
        entry = self._named(model, wishes, common)
        if source.wanted is not None:
            return replace(entry, hf_wanted=source.wanted)
        if model.problem is not None or model.files is None:
            if (given := wishes.sources.get("--model")) is not None:
                reason = f"[{name}] cannot be used: {given.values[0]}: {model.problem}"
                self._layers.warn(Skipped(given.origin, reason))
            return replace(entry, problem=model.problem or "its files are not here")
        return self._startable(entry, key, model.files, source, wishes, common)

    def _broken(self, model: Model, problem: str, section: Section | None) -> Entry:
        if section is not None:
            where, _, reason = problem.partition(": ")
            self._layers.warn(Skipped(where, f"[{section.name}] cannot be used: {reason}"))
            model = replace(model, source=Source.PRESET)
        return Entry(model=model, problem=problem)

    def _named(self, model: Model, wishes: Wishes, common: _Common) -> Entry:
        everyone = common.everyone
        if wishes.dedup if wishes.dedup is not None else everyone.dedup:
            self.deduplicating.add(model.id)
        load = wishes.load_on_startup if wishes.load_on_startup is not None else everyone.load_on_startup
        return Entry(model=model, aliases=wishes.aliases, tags=wishes.tags or everyone.tags, load_on_startup=bool(load))

    def _source(self, known: Model | None, wishes: Wishes) -> _Source:
        path, repo = wishes.source("--model"), wishes.source("--hf-repo")
        if path is not None:
            return _Source(self._describe(path), wishes.sources["--model"].origin)
        if repo is not None:
            return self._in_cache(repo, wishes.source("--hf-file"), wishes.sources["--hf-repo"].origin)
        if known is not None:
            return _Source(known, _ORIGINS[known.source])
        return _Source(problem="no such model was found, and the section names none: model = PATH, or hf-repo = REPO")

    def _in_cache(self, repo: str, file: str | None, origin: str) -> _Source:
        spec = f"{repo.partition(':')[0]}/{file}" if file else repo
        try:
            wanted = str(parse_spec(spec))
        except FetchError as error:
            return _Source(problem=str(error))
        model = self._resolve_repo(wanted)
        return _Source(model, f"{origin} (in the cache)") if model is not None else _Source(wanted=wanted)

    def _startable(
        self, entry: Entry, key: str | None, files: Files, source: _Source, wishes: Wishes, common: _Common
    ) -> Entry:
        sources = {**({} if files.draft is not None else common.drafts), **wishes.sources}
        companions, wanted = self._companions(sources, common.table)
        if wanted is not None:
            return replace(entry, hf_wanted=wanted)
        own = _files_of(files, source.origin, common.table)
        merged = dict(fold((*common.layers, own, wishes.given)))
        projector_off = (auto := merged.get("--mmproj-auto")) is not None and not auto.on
        for name, file in (
            ("--mmproj", companions.get("--mmproj")),
            ("--model-draft", companions.get("--model-draft")),
        ):
            if file is not None:
                merged.update(fold([[file]]))
            elif name in wishes.sources or (name == "--mmproj" and projector_off):
                merged.pop(name, None)
        timeout = wishes.stop_timeout if wishes.stop_timeout is not None else common.everyone.stop_timeout
        stop_timeout = timeout if timeout is not None else self._settings.stop_timeout
        # The name under which the child answers: forced, and no part of a section that says the same.
        alias = given_of(common.table, "--alias", (entry.id,), FORCED_ORIGIN)
        named = merged if alias is None else {**merged, alias.option.canonical: alias}
        launch = Launch(entry.id, key, flags_of(named), (), stop_timeout)
        more = [("load-on-startup", "true")] if entry.load_on_startup else []
        return replace(entry, launch=launch, preset_text=section_text(entry.id, merged, more))

    def _companions(self, sources: Mapping[str, Given], table: OptionTable) -> tuple[dict[str, Given], str | None]:
        """The projector and the draft model that somebody named, and what of them must be fetched first."""
        found: dict[str, Given] = {}
        for name in ("--mmproj", "--model-draft"):
            if (given := sources.get(name)) is not None and (path := given.values[0]):
                files = self._describe(path).files
                _put(found, table, name, files.model if files is not None else path, given.origin)
        draft = sources.get("--hf-repo-draft")
        if draft is not None and draft.values[0]:
            source = self._in_cache(draft.values[0], None, draft.origin)
            if source.model is None or source.model.files is None:
                return found, source.wanted or draft.values[0]
            _put(found, table, "--model-draft", source.model.files.model, source.origin)
        return found, None


def _put(found: dict[str, Given], table: OptionTable, name: str, path: str, origin: str) -> None:
    given = given_of(table, name, (path,), origin)
    if given is not None:
        found[name] = given


def _files_of(files: Files, origin: str, table: OptionTable) -> list[Given]:
    paths = (("--model", files.model), ("--mmproj", files.mmproj), ("--model-draft", files.draft))
    given = [given_of(table, name, (path,), origin) for name, path in paths if path is not None]
    return [one for one in given if one is not None]
