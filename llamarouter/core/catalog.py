"""The catalogue: which models can be asked for, under which names, and how each would be started."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

from llamarouter.core.flags import OptionTable
from llamarouter.core.ini import Ini
from llamarouter.core.launch import Launch
from llamarouter.core.model import Model, Skipped
from llamarouter.core.settings import Settings


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One model that can be asked for. Exactly one of `launch`, `problem` and `hf_wanted` is set."""

    model: Model
    launch: Launch | None = None
    problem: str | None = None  # why it cannot be started, in one line
    aliases: tuple[str, ...] = ()
    tags: tuple[str, ...] = ()
    load_on_startup: bool = False
    hf_wanted: str | None = None  # `user/repo:TAG` that the router must fetch before there can be a launch
    hidden: bool = False  # usable by its id, but not listed (`dedup-cache-models`)
    preset_text: str = ""  # `[id]\nkey = value\n...`, as llama-server shows in `status.preset`

    @property
    def id(self) -> str:
        return self.model.id


class Catalog:
    """Entries by id, in the order of their ids, and every warning that building them gave."""

    def __init__(self, entries: Iterable[Entry] = (), skipped: tuple[Skipped, ...] = ()) -> None:
        self.entries: Mapping[str, Entry] = {entry.id: entry for entry in sorted(entries, key=lambda e: e.id)}
        self.skipped = skipped

    def resolve(self, asked: str) -> Entry | None:
        """The entry that a client means: by id, by alias, with `.gguf` at its end, with its tag in any case."""
        return self.entries.get(asked)


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
    """Fold everything into what can be asked for. Never raises for what a file says."""
    raise NotImplementedError


def engines_wanted(ini: Ini | None) -> tuple[str, ...]:
    """The values of `lr-engine` in a preset, for the host to resolve before the catalogue is built."""
    raise NotImplementedError
