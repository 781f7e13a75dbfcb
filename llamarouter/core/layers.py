"""The layers that speak for all models, read once for each engine: what lies under a model's files and its section.

    defaults of ours < llama.cpp's config.ini < LLAMA_ARG_* < [*] < the command line

Each engine reads them with its own table. What cannot be used in one of them is a warning, said once.
"""

from __future__ import annotations

from collections.abc import Mapping

from msgspec import Struct

from llamarouter.core.config_ini import for_models, leaks_of
from llamarouter.core.flags import Given, OptionTable
from llamarouter.core.fold import defaults_of, in_table
from llamarouter.core.ini import Ini, Section
from llamarouter.core.model import Skipped
from llamarouter.core.preset import engine_key_of
from llamarouter.core.settings import Settings
from llamarouter.core.wishes import Wishes, read_environment, read_for_everyone, take_option


class Common(Struct, frozen=True):
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
        self._config = for_models(config_ini)
        self._settings = settings
        self._environ = environ
        self._tables = tables
        self._warnings: dict[Skipped, None] = dict.fromkeys(leaks_of(config_ini))
        self._common: dict[str | None, Common] = {None: self._read(None, tables[None])}

    @property
    def home(self) -> str | None:
        """What `~` means in a path."""
        return self._environ.get("HOME") or None

    @property
    def warnings(self) -> tuple[Skipped, ...]:
        """Everything that was left out so far, once each."""
        return tuple(self._warnings)

    def warn(self, *warnings: Skipped) -> None:
        """Note what was left out."""
        self._warnings.update(dict.fromkeys(warnings))

    def engine_key(self, section: Section | None) -> str | None:
        """The `lr-engine` of a section, else that of `[*]`."""
        for each in (section, *self._everyone):
            if each is not None and (key := engine_key_of(each)) is not None:
                return key
        return None

    def common(self, key: str | None) -> Common | None:
        """The layers as the engine `key` reads them; None where there is no such engine."""
        if key not in self._common and key in self._tables:
            self._common[key] = self._read(key, self._tables[key])
        return self._common.get(key)

    def _read(self, key: str | None, table: OptionTable) -> Common:
        config = read_for_everyone(self._config, table)
        environment = read_environment(self._environ, table)
        everyone = read_for_everyone(self._everyone, table)
        if key is None:  # what is wrong for the default engine is wrong; another one may just know less
            self.warn(*config.warnings, *environment.warnings, *everyone.warnings)
        drafts: dict[str, Given] = {}
        said = Wishes()
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
        return Common(table, tuple(tuple(layer) for layer in layers), everyone, drafts)
