"""The inventory: everything that can be asked for, folded from the folders, the preset and the command line.

    settings, environment --> engines, discovery --> core.catalog --> Inventory

Taken at the start, at a reload, and when a folder has changed. Reads files and may run an engine's
`--help`, so it belongs in a thread. One inventory is immutable; a new one replaces it whole.
"""

from __future__ import annotations

import os
import shlex
from collections.abc import Collection, Iterator, Mapping

from msgspec import Struct

from llamarouter.core.catalog import Catalog, build_catalog, engines_wanted
from llamarouter.core.errors import UsageError
from llamarouter.core.ids import name_of
from llamarouter.core.ini import Ini
from llamarouter.core.model import Model, Skipped
from llamarouter.core.settings import Settings
from llamarouter.host.config_file import read_config
from llamarouter.host.discovery import Places, describe_file, discover, places_of, resolve_repo
from llamarouter.host.engine import Engine, checkout_of, renewed, resolve_engine
from llamarouter.host.header_cache import HeaderCache
from llamarouter.host.ini_file import UnreadableIni, read_ini
from llamarouter.host.look import Look
from llamarouter.host.option_table import EngineProblem
from llamarouter.host.state import data_dir

_Stamp = tuple[int, int] | None  # mtime in ns and bytes; None: no such file


class Inventory(Struct, frozen=True):
    """What there is, and the engines that run it (None: the default one)."""

    catalog: Catalog
    engines: Mapping[str | None, Engine]
    places: Places
    look: Look  # how the places were
    named: Mapping[
        str, _Stamp
    ]  # the engines' files and those that the preset names, which may lie anywhere, as they were
    unread: int = 0  # files for whose headers there was no time

    def engine_of(self, key: str | None) -> Engine:
        """The engine of a launch."""
        return self.engines.get(key) or self.engines[None]

    def run_by(self, engines: Collection[str | None]) -> list[str]:
        """The models that these engines run."""
        launches = {id: entry.launch for id, entry in self.catalog.entries.items()}
        return [id for id, launch in launches.items() if launch is not None and launch.engine_key in engines]

    def swapped(self, before: Inventory) -> frozenset[str | None]:
        """The engines at whose place another one lies than before."""
        return frozenset(
            key
            for key, each in before.engines.items()
            if key in self.engines and any(self.named.get(file) != before.named.get(file) for file in each.files)
        )


def engine_for(wanted: tuple[str, ...] | None, environ: Mapping[str, str], named_by: str = "--engine") -> Engine:
    """The engine that somebody named (`named_by`: by what), or the best that is here. Raises `UsageError`."""
    return resolve_engine(wanted, environ, checkout=checkout_of(), data_dir=str(data_dir(environ)), named_by=named_by)


def take_inventory(
    settings: Settings,
    environ: Mapping[str, str],
    engine: Engine,
    headers: HeaderCache,
    previous: Inventory | None = None,
) -> Inventory:
    """Look everywhere and fold what is found.

    Raises `UsageError` where the preset cannot be read or split, or `--models-dir` is not there; everything
    else that is wrong is a warning in the catalog.
    """
    ini = _read_preset(settings.preset) if settings.preset else None
    config = read_config(environ)
    places = places_of(environ, settings.models_dir)
    unread = headers.unread
    found = discover(places, headers, caches=settings.one_model is None or ini is not None)
    named: dict[str, _Stamp] = {}
    engines, skipped = _engines(ini, engine, environ, previous, named)
    preset_dir = os.path.dirname(os.path.abspath(settings.preset)) if settings.preset else None
    catalog = build_catalog(
        models=found.models,
        skipped=(*found.skipped, *skipped),
        ini=ini,
        config_ini=config,
        settings=settings,
        environ=environ,
        tables={key: each.table for key, each in engines.items()},
        describe=lambda path: _describe(path, preset_dir, headers, named),
        resolve_repo=lambda spec: resolve_repo(places, spec, headers),
        previous=previous.catalog if previous else None,
    )
    headers.save()
    if previous is not None:
        # A wrong section keeps its last good version, and that its engine.
        kept = {entry.launch.engine_key for entry in catalog.entries.values() if entry.launch is not None}
        old = {key: each for key, each in previous.engines.items() if key in kept and key not in engines}
        engines |= old
        named |= {file: previous.named.get(file) for each in old.values() for file in each.files}
    return Inventory(catalog, engines, places, found.look, named, headers.unread - unread)


def looked_again(inventory: Inventory, last: Look) -> Look | None:
    """Another look where all is as it was when the inventory was taken, and at the `last` look that found it so; else
    None: a folder, or a file that the preset names, looks different. Cheap. Raises `UsageError` as `look_at` does.
    """
    if any(_stamp_of(path) != stamp for path, stamp in inventory.named.items()):
        return None
    return last.again()


def _read_preset(path: str) -> Ini:
    try:
        return read_ini(path)
    except UnreadableIni as error:
        raise UsageError(f"--models-preset {path}: cannot be read ({error})") from error


def _engines(
    ini: Ini | None,
    engine: Engine,
    environ: Mapping[str, str],
    previous: Inventory | None,
    named: dict[str, _Stamp],
) -> tuple[dict[str | None, Engine], list[Skipped]]:
    """The default engine and those of the preset; `named` learns how their files were."""
    skipped = []
    if previous is not None:
        engine = previous.engines[None]
    named |= (stamps := {file: _stamp_of(file) for file in engine.files})
    if previous is not None and any(previous.named.get(file) != stamp for file, stamp in stamps.items()):
        try:
            engine = renewed(engine, environ)
        except EngineProblem as problem:  # it may be half written: then it changes once more
            skipped.append(Skipped("engine", str(problem)))
    engines: dict[str | None, Engine] = {None: engine}
    for wanted in engines_wanted(ini) if ini is not None else ():
        try:
            engines[wanted] = engine_for(tuple(shlex.split(wanted)), environ, "lr-engine")
        except (UsageError, ValueError) as error:
            skipped.append(Skipped(f"lr-engine = {wanted}", str(error)))
        else:
            named |= {file: _stamp_of(file) for file in engines[wanted].files}
    return engines, skipped


def _describe(path: str, preset_dir: str | None, headers: HeaderCache, named: dict[str, _Stamp]) -> Model:
    """A preset's file: relative to the working directory, as in llama-server, else to the preset's own folder.

    Every place that was looked at is noted in `named`, before the file is read.
    """
    here = os.path.expanduser(path)
    wanted = os.path.abspath(here)
    named[wanted] = stamp = _stamp_of(wanted)
    if stamp is None and preset_dir is not None and not os.path.isabs(here):
        beside = os.path.abspath(os.path.join(preset_dir, here))
        named[beside] = stamp = _stamp_of(beside)
        wanted = wanted if stamp is None else beside
    for shard in _shards_of(wanted):
        named[shard] = stamp = _stamp_of(shard)
        if stamp is None:
            break
    return describe_file(wanted, headers)


def _shards_of(path: str) -> Iterator[str]:
    """The files of a model that has several."""
    name = name_of(path)
    if name is not None and name.count > 1:
        yield from map(name.shard, range(1, name.count + 1))


def _stamp_of(path: str) -> _Stamp:
    try:
        status = os.stat(path)
    except (OSError, ValueError):
        return None
    return status.st_mtime_ns, status.st_size
