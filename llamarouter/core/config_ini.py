"""llama.cpp's own `config.ini`, which all its programs share: what of it is for the router, and what for its models.

    config.ini -> own_of -> the options of `lr serve`, beneath variables and command line
               -> for_models -> sections for every model, beneath everything that is said here

Of the file only `[*]` and the keys before any section count, in their order. Which model is served is not read from
it: what it says of one is meant for the programs that run one.
"""

from __future__ import annotations

from collections.abc import Iterator

from msgspec.structs import replace

from llamarouter.core.errors import UsageError
from llamarouter.core.flags import Given, Match, boolean_of
from llamarouter.core.ini import DEFAULT_SECTION, GLOBAL_SECTION, Ini, Key, Section
from llamarouter.core.model import Skipped
from llamarouter.core.own_options import OWN_TABLE, SHARED
from llamarouter.core.ownership import Role, role_of

SYSTEM = "/etc/llama.cpp/config.ini"
_CLOSING = ("--api-key", "--api-key-file", "--ssl-key-file", "--ssl-cert-file", "--api-prefix")


def own_of(ini: Ini | None) -> tuple[Given, ...]:
    """What it says of the router itself. Raises `UsageError`, with file and line."""
    return tuple(
        _given(match, key) for section in _sections_of(ini) for key in section.keys if (match := _own(key)) is not None
    )


def for_models(ini: Ini | None) -> tuple[Section, ...]:
    """What is left of it for every model."""
    return tuple(
        replace(section, keys=tuple(key for key in section.keys if not _is_for_the_router_alone(key)))
        for section in _sections_of(ini)
    )


def leaks_of(ini: Ini | None) -> list[Skipped]:
    """What would close every model to the router: a process of theirs reads the system's file, too, and nothing on its
    command line takes such a key back.
    """
    keys = [key for section in _sections_of(ini) for key in section.keys if key.file == SYSTEM]
    advice = "every model's process reads it, too, and would answer nobody: ~/.config/llama.cpp/config.ini is better"
    return [
        Skipped(key.where, f"{key.name}: {advice}")
        for key in keys
        if (match := OWN_TABLE.find_key(key.name)) is not None and match.option.canonical in _CLOSING
    ]


def _sections_of(ini: Ini | None) -> Iterator[Section]:
    for section in ini.sections if ini is not None else ():
        if section.name in (GLOBAL_SECTION, DEFAULT_SECTION):
            yield section


def _own(key: Key) -> Match | None:
    match = OWN_TABLE.find_key(key.name)
    return None if match is None or role_of(match.option) in (Role.SOURCE, Role.ALIAS) else match


def _is_for_the_router_alone(key: Key) -> bool:
    match = _own(key)
    return match is not None and match.option.canonical not in SHARED


def _given(match: Match, key: Key) -> Given:
    written = f"{key.where}: {key.name}"
    if match.option.arity:
        return Given(option=match.option, values=(key.value,), written=written, origin=key.where)
    truth = boolean_of(key.value)
    if truth is None:
        raise UsageError(f"{written} must be on or off, not {key.value!r}")
    return Given(option=match.option, on=truth is not match.negated, written=written, origin=key.where)
