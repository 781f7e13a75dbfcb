"""The catalogue: which models can be asked for, under which names, and how each would be started.

    discovered models + sections of a preset -> build_catalog -> Catalog
    Catalog.resolve("name") -> Entry(model, launch | problem | what must be fetched)

A section over a discovered id is laid over it; a section with a source of its own is a model of its own. Nothing
that a file says raises: a section that cannot be used is an entry with its problem, the rest is a warning.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

from msgspec.structs import replace

from llamarouter.core.assembly import Assembly
from llamarouter.core.entry import Entry
from llamarouter.core.flags import OptionTable
from llamarouter.core.ids import DEFAULT_TAGS, spellings_of
from llamarouter.core.ini import Ini
from llamarouter.core.layers import Layers
from llamarouter.core.model import Model, Skipped, Source
from llamarouter.core.names import hide_duplicates, names_of, with_folder_names, without_conflicts
from llamarouter.core.pins import with_pins
from llamarouter.core.policy_rules import merged
from llamarouter.core.preset import Preset, engine_key_of, preset_of
from llamarouter.core.settings import Settings

__all__ = ["Catalog", "Entry", "build_catalog", "engines_wanted"]


class Catalog:
    """Entries by id, in the order of their ids, and every warning that building them gave. Immutable."""

    def __init__(self, entries: Iterable[Entry] = (), skipped: Iterable[Skipped] = ()) -> None:
        self.entries: Mapping[str, Entry] = {entry.id: entry for entry in sorted(entries, key=lambda e: e.id)}
        self.skipped = tuple(skipped)
        self._names = names_of(self.entries)

    def resolve(self, asked: str) -> Entry | None:
        """The entry that a client means: by id, by alias, with `.gguf` at its end, with its tag in any case.

        `user/repo` without a tag means the quant that llama-server would take, or the only one.
        """
        if asked in self._names:  # as nearly always: ids are asked for many times in each load
            return self._names[asked]
        for name in spellings_of(asked):
            if name in self._names:
                return self._names[name]
        return self._untagged(asked) if "/" in asked and ":" not in asked else None

    def having(self, entry: Entry) -> Catalog:
        """The same, with this entry in the place of the one of its id."""
        return Catalog({**self.entries, entry.id: entry}.values(), self.skipped)

    def _untagged(self, repo: str) -> Entry | None:
        for tag in DEFAULT_TAGS:
            if (entry := self.entries.get(f"{repo}:{tag}")) is not None:
                return entry
        found = [entry for name, entry in self.entries.items() if name.startswith(f"{repo}:")]
        return found[0] if len(found) == 1 else None


def build_catalog(
    *,
    models: Iterable[Model],
    skipped: Iterable[Skipped],
    ini: Ini | None,
    config_ini: Ini | None,
    settings: Settings,
    environ: Mapping[str, str],
    tables: Mapping[str | None, OptionTable],
    describe: Callable[[str], Model],
    resolve_repo: Callable[[str], Model | None],
    previous: Catalog | None = None,
) -> Catalog:
    """Fold everything into what can be asked for. Never raises for what a file says.

    `config_ini` is llama.cpp's own (its `[*]` and the keys before any section count). `tables` has the option table of
    the default engine under None and of each `lr-engine` that could be resolved. `describe` reads the file of a
    preset's `model = PATH`; `resolve_repo` finds what an `hf-repo` means among the files that are here. A section that
    was good in `previous` and is wrong now keeps its last good version.
    """
    preset = preset_of(ini) if ini is not None else Preset((), ())
    layers = Layers(preset.everyone, config_ini, settings, environ, tables)
    assembly = Assembly(layers, settings, describe, resolve_repo)
    known = _by_id(models)
    sections = {section.name: section for section in preset.sections}
    if (one := settings.one_model) is not None:
        sections[one.id] = one.section(over=sections.get(one.id))
    entries: dict[str, Entry] = {}
    for name, section in sections.items():
        entry = assembly.entry(name, known.get(name), section)
        if name in assembly.spoiled:
            entries[name] = _last_good(entry, previous, layers)
        else:
            entries[name] = _with_last_rules(entry, assembly.wrong_rules.get(name, {}), previous, layers)
    if one is not None:
        entries[one.id] = _with_cached_name(entries[one.id])
    for name, model in known.items():
        # Beside a model that the command line names, only what it also names is listed: not what lies in a cache.
        if name not in sections and (one is None or model.source is not Source.CACHE):
            entries[name] = assembly.entry(name, model, None)
    entries = without_conflicts(with_folder_names(entries), assembly.alias_origins, layers.warn)
    named = Catalog(entries.values()).resolve if settings.pins.names else entries.get
    entries = with_pins(entries, settings.pins, named, assembly.pins_said, settings.models_max, layers.warn)
    warnings = (*skipped, *preset.warnings, *settings.warnings, *layers.warnings)
    return Catalog(hide_duplicates(entries, assembly.deduplicating), warnings)


def engines_wanted(ini: Ini | None) -> tuple[str, ...]:
    """The values of `lr-engine` in a preset, for the host to resolve before the catalogue is built."""
    if ini is None:
        return ()
    preset = preset_of(ini)
    keys = (engine_key_of(section) for section in (*preset.everyone, *preset.sections))
    return tuple(dict.fromkeys(key for key in keys if key is not None))


def _by_id(models: Iterable[Model]) -> dict[str, Model]:
    """Discovered models; of two with one id, the one in `--models-dir` holds, as in llama-server."""
    known: dict[str, Model] = {}
    for model in models:
        before = known.get(model.id)
        if before is None or before.source is not Source.MODELS_DIR:
            known[model.id] = model
    return known


def _last_good(entry: Entry, previous: Catalog | None, layers: Layers) -> Entry:
    """The entry of a section that cannot be read, or what the section said when it last could."""
    before = previous.entries.get(entry.id) if previous is not None else None
    if before is None or before.problem is not None:
        return entry
    where = (entry.problem or "").partition(": ")[0]
    layers.warn(Skipped(where, f"[{entry.id}] keeps its last good version"))
    return before


def _with_last_rules(entry: Entry, wrong: Mapping[str, Skipped], previous: Catalog | None, layers: Layers) -> Entry:
    """The entry with what it last said under the keys that cannot be read now: a slip must not cost a pin."""
    before = previous.entries.get(entry.id) if previous is not None else None
    kept = {rule.key: rule for rule in before.rules if rule.key in wrong} if before is not None else {}
    for key, doubt in wrong.items():
        if key in kept:
            what = doubt.reason.rpartition(": ")[0]
            doubt = Skipped(doubt.where, f"{what}: [{entry.id}] keeps its last good {key} = {kept[key].text}")
        layers.warn(doubt)
    return replace(entry, rules=merged(entry.rules, kept.values())) if kept else entry


def _with_cached_name(entry: Entry) -> Entry:
    """`-hf user/repo` is also known by the quant that it turned out to be, which clients of the cache ask for."""
    repo = entry.model.repo
    named = repo is None or repo in (entry.id, *entry.aliases)
    return entry if named else replace(entry, aliases=(*entry.aliases, repo or ""))
