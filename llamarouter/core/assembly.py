"""One entry put together: where the model's files come from, which layers lie under its section, how it is started.

    section, known model -> Sources: the model's files, its projector, its draft
                         -> layers of given options -> flags -> Entry

Each engine reads the layers with its own table, so a section with another `lr-engine` gets the options that this
engine knows.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from msgspec.structs import replace

from llamarouter.core.companions import EAGLE3, best_draft, draft_marks, is_eagle3
from llamarouter.core.entry import Entry
from llamarouter.core.flags import Given, OptionTable
from llamarouter.core.fold import Merged, at_home, flags_of, fold, given_of, in_order, section_text
from llamarouter.core.ids import child_name_of
from llamarouter.core.ini import Section
from llamarouter.core.launch import FORCED_ORIGIN, Launch
from llamarouter.core.layers import Common, Layers
from llamarouter.core.model import Files, Model, Skipped, Source
from llamarouter.core.own_environment import over
from llamarouter.core.policy_rules import LOAD_ON_STARTUP, PIN, merged
from llamarouter.core.settings import Settings
from llamarouter.core.sources import DRAFT, PROJECTOR, Companions, Origin, Sources
from llamarouter.core.wishes import DEDUP, STOP_TIMEOUT, Wishes, read_section


class Assembly:
    """Makes entries, and collects by id what the catalogue needs of their sections.

    `deduplicating`: those that want their files listed once; `spoiled`: those that cannot be used; `alias_origins`:
    the line of their aliases; `pins_said`: those that say themselves whether they are pinned.
    """

    def __init__(
        self,
        layers: Layers,
        settings: Settings,
        describe: Callable[[str], Model],
        resolve_repo: Callable[[str], Model | None],
    ) -> None:
        self._layers = layers
        self._settings = settings
        self._sources = Sources(describe, resolve_repo)
        self.deduplicating: set[str] = set()
        self.spoiled: set[str] = set()
        self.alias_origins: dict[str, str] = {}
        self.wrong_rules: dict[str, dict[str, Skipped]] = {}
        self.pins_said: set[str] = set()

    def entry(self, name: str, known: Model | None, section: Section | None) -> Entry:
        """The entry of a discovered model, of a section, or of a section over a discovered model."""
        key = self._layers.engine_key(section)
        common = self._layers.common(key)
        stub = known or Model(id=name, source=Source.PRESET)
        where = section.where if section is not None else "[*]"
        if common is None:
            return self._broken(stub, f"{where}: lr-engine = {key} cannot be used", section)
        wishes = read_section(section, common.table) if section is not None else Wishes()
        self._layers.warn(*wishes.warnings)
        if wishes.problem is not None:
            self.spoiled.add(name)
            return self._broken(stub, wishes.problem, section)
        origin = self._sources.origin(known, wishes)
        if origin.problem is not None:
            return self._broken(stub, f"{where}: {origin.problem}", section)
        model = origin.model or stub
        if section is not None:
            model = replace(model, id=name, folder=stub.folder, source=Source.PRESET)
            self._note(name, wishes, common)
        entry = self._named(model, wishes, common)
        if origin.wanted is not None:
            merged = fold((*common.layers, wishes.given))
            own = PROJECTOR in wishes.sources  # named, or none by an empty value
            return replace(entry, hf_wanted=origin.wanted, with_projector=not own and _takes_found_projector(merged))
        if model.problem is not None or model.files is None:
            if (given := wishes.sources.get("--model")) is not None:
                reason = f"[{name}] cannot be used: {given.values[0]}: {model.problem}"
                self._layers.warn(Skipped(given.origin, reason))
            return replace(entry, problem=model.problem or "its files are not here")
        return self._startable(entry, key, model.files, origin, wishes, common)

    def _broken(self, model: Model, problem: str, section: Section | None) -> Entry:
        if section is not None:
            where, _, reason = problem.partition(": ")
            self._layers.warn(Skipped(where, f"[{section.name}] cannot be used: {reason}"))
            model = replace(model, source=Source.PRESET)
        return Entry(model=model, problem=problem)

    def _note(self, name: str, wishes: Wishes, common: Common) -> None:
        self.alias_origins[name] = wishes.alias_where
        self.wrong_rules[name] = wishes.wrong_rules
        if wishes.dedup if wishes.dedup is not None else common.everyone.dedup:
            self.deduplicating.add(name)
        if any(rule.key == PIN for rule in wishes.rules):
            self.pins_said.add(name)

    def _named(self, model: Model, wishes: Wishes, common: Common) -> Entry:
        everyone = common.everyone
        full = wishes.full_offload if wishes.full_offload is not None else everyone.full_offload
        return Entry(
            model=model,
            aliases=wishes.aliases,
            tags=wishes.tags or everyone.tags,
            rules=merged(everyone.rules, self._settings.rules, wishes.rules),
            require_full_offload=bool(full),
        )

    def _ours(self, entry: Entry, stop_timeout: float | None) -> list[tuple[str, str]]:
        """The keys of the router that were said, as a section shows them."""
        said = [(LOAD_ON_STARTUP, "true")] if entry.load_on_startup else []
        if entry.id in self.deduplicating:
            said.append((DEDUP, "true"))
        return said if stop_timeout is None else [*said, (STOP_TIMEOUT, f"{stop_timeout:g}")]

    def _startable(
        self, entry: Entry, key: str | None, files: Files, origin: Origin, wishes: Wishes, common: Common
    ) -> Entry:
        table = common.table
        merged = dict(fold((*common.layers, _files_of(files, origin.written, table), wishes.given)))
        named = {**({} if files.draft is not None else common.drafts), **wishes.sources}
        companions = self._sources.companions(named, _spec_types(merged))
        if companions.wanted is not None:
            return replace(entry, hf_wanted=companions.wanted, with_projector=False)
        if companions.problem is not None:
            where, _, reason = companions.problem.partition(": ")
            self._layers.warn(Skipped(where, f"[{entry.id}] cannot be used: {reason}"))
            return replace(entry, problem=companions.problem)
        projects = _pair(merged, companions, entry.model.projects, table)
        _draft(merged, companions, files, table)
        merged = at_home(merged, self._layers.home)
        if (broken := _broken_of(entry.model, merged)) is not None:
            return replace(entry, problem=broken)
        timeout = wishes.stop_timeout if wishes.stop_timeout is not None else common.everyone.stop_timeout
        stop_timeout = timeout if timeout is not None else self._settings.stop_timeout
        # The name under which the child answers, and the tags that it tells: no part of a section that says the same.
        said = [("--alias", child_name_of(entry.id))] + ([("--tags", ",".join(entry.tags))] if entry.tags else [])
        told = [given_of(table, name, (value,), FORCED_ORIGIN) for name, value in said]
        forced = {**merged, **{given.option.canonical: given for given in told if given is not None}}
        ordered = in_order(forced)
        launch = Launch(key, flags_of(ordered), over(common.everyone.variables, wishes.variables), stop_timeout)
        own = (given for given in ordered if given.origin != FORCED_ORIGIN)
        text = section_text(entry.id, own, self._ours(entry, timeout))
        return replace(entry, launch=launch, preset_text=text, projects=projects)


def _files_of(files: Files, origin: str, table: OptionTable) -> list[Given]:
    paths = (("--model", files.model), (PROJECTOR, files.mmproj), (DRAFT, files.draft))
    given = [given_of(table, name, (path,), origin) for name, path in paths if path is not None]
    return [one for one in given if one is not None]


def _pair(
    merged: dict[str, Given], companions: Companions, discovered: tuple[str, ...], table: OptionTable
) -> tuple[str, ...]:
    """Settle which projector it gets; returns what that takes."""
    if (named := companions.paths.get(PROJECTOR)) is not None:
        _put(merged, table, PROJECTOR, *named)
        return companions.projects
    if PROJECTOR in companions.none or not _takes_found_projector(merged):
        _drop(merged, table, PROJECTOR)
        return ()
    return discovered


def _takes_found_projector(merged: Merged) -> bool:
    """Whether it is started with the projector that is found beside it: not with `--no-mmproj`."""
    auto = merged.get("--mmproj-auto")
    return auto is None or auto.on


def _draft(merged: dict[str, Given], companions: Companions, files: Files, table: OptionTable) -> None:
    """Settle which draft it gets: the one of its section, the one beside it, or one of the kind that was asked for."""
    spec_types = _spec_types(merged)
    if (named := companions.paths.get(DRAFT)) is not None:
        _put(merged, table, DRAFT, *named)
    elif DRAFT in companions.none:
        _drop(merged, table, DRAFT)
    elif spec_types and files.sidecars and (beside := best_draft(files.model, files.sidecars, draft_marks(spec_types))):
        _put(merged, table, DRAFT, beside, "found in the cache")
    match = table.find(DRAFT)
    draft = merged.get(match.option.canonical) if match is not None else None
    if draft is not None and spec_types is None and is_eagle3(draft.values[0]):
        _put(merged, table, "--spec-type", EAGLE3, draft.origin)


def _broken_of(model: Model, merged: Mapping[str, Given]) -> str | None:
    """What is wrong with a file beside the model that it would be started with."""
    used = {value for given in merged.values() for value in given.values} if model.broken else ()
    names = ((each.where.rpartition("/")[2], each) for each in model.broken if each.where in used)
    return next((f"{name}: {each.reason}" for name, each in names), None)


def _spec_types(merged: Mapping[str, Given]) -> str | None:
    given = merged.get("--spec-type")
    return given.values[0] if given is not None else None


def _put(merged: dict[str, Given], table: OptionTable, name: str, value: str, origin: str) -> None:
    given = given_of(table, name, (value,), origin)
    if given is not None:
        merged[given.option.canonical] = given


def _drop(merged: dict[str, Given], table: OptionTable, name: str) -> None:
    match = table.find(name)
    if match is not None:
        merged.pop(match.option.canonical, None)
