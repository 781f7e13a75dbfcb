"""Devices that somebody has named in a section, a variable or on the command line, and that are not there."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Protocol

from llamarouter.core.devices import View
from llamarouter.core.entry import Entry
from llamarouter.core.model import Skipped
from llamarouter.core.tuning import fixed_of
from llamarouter.host.engine import Engine


class Listed(Protocol):
    """Who knows which devices an engine has: `host.devices.machine`."""

    def view(self, command: Sequence[str], environ: Mapping[str, str] | None = None) -> View | None: ...

    async def listed(self, command: Sequence[str], environ: Mapping[str, str] | None = None) -> None: ...


async def unknown_devices(
    entries: Iterable[Entry], engine_of: Callable[[str | None], Engine], devices: Listed
) -> tuple[Skipped, ...]:
    """What the engine of a model does not have, though it was named: a line for each place where it is written."""
    found: dict[str, Skipped] = {}
    for entry in entries:
        flags = {} if entry.launch is None else {flag.option: flag for flag in entry.launch.flags}
        named = fixed_of(flags.values()).devices
        if entry.launch is None or not named or "--rpc" in flags:  # that brings devices of its own
            continue
        asked = engine_of(entry.launch.engine_key).command, entry.launch.environment()
        await devices.listed(*asked)
        view = devices.view(*asked)
        there = () if view is None else view.gpus
        lacking = [name for name in named if name.casefold() not in map(str.casefold, there)]
        if view is not None and lacking:
            origin = flags["--device"].origin
            reason = f"device {', '.join(lacking)}: no such device; its engine has {', '.join(there) or 'no GPU'}"
            found.setdefault(origin, Skipped(origin, reason))
    return tuple(found.values())
