"""A launch in its place: the options that a choice of devices adds to it, each said as such.

What is added wins over the launch, because whoever chose the place has read the launch before. An option that the
engine does not know is left out: so it is with an engine that was built for no device.
"""

from __future__ import annotations

from collections.abc import Iterable

from msgspec.structs import replace

from llamarouter.core.flags import OptionTable
from llamarouter.core.launch import Flag, Launch
from llamarouter.core.memory import Placement

PLACED_ORIGIN = "llamarouter (memory)"


def placed(launch: Launch, placement: Placement, table: OptionTable) -> Launch:
    """The launch as it is started there."""
    added = [flag for words in placement.options if (flag := _flag_of(words, table)) is not None]
    known = {_identity(flag.option, table) for flag in added}
    kept = [flag for flag in launch.flags if _identity(flag.option, table) not in known]
    return replace(launch, flags=_in_order([*kept, *added], table)) if added else launch


def _flag_of(words: tuple[str, ...], table: OptionTable) -> Flag | None:
    match = table.find(words[0])
    if match is None:
        return None
    option = match.option
    return Flag(option.negatives[-1] if match.negated else option.canonical, words[1:], PLACED_ORIGIN)


def _identity(spelling: str, table: OptionTable) -> str:
    match = table.find(spelling)
    return match.option.canonical if match is not None else spelling


def _in_order(flags: Iterable[Flag], table: OptionTable) -> tuple[Flag, ...]:
    """As llama-server's router sorts them."""

    def first(flag: Flag) -> str:
        match = table.find(flag.option)
        return match.option.names[0] if match is not None else flag.option

    return tuple(sorted(flags, key=first))
