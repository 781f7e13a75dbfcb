"""Layers of given options become the flags of one child: the last layer that names an option wins.

    built-in < llama.cpp's config.ini < LLAMA_ARG_* < [*] < command line < the model's files < the model's own section

Two spellings of one option are one option. Flags stand in llama-server's order, each with the origin of its value.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping

from msgspec.structs import replace

from llamarouter.core.flags import Given, Option, OptionTable
from llamarouter.core.launch import DEFAULT_ORIGIN, Flag

Merged = Mapping[str, Given]  # by the canonical spelling

# Threads of a child's HTTP server: with fewer, bursts of requests stall behind idle connections (measured).
_HTTP_THREADS = "64"
_URLS = ("--mmproj-url",)
# How `--help` hints at a path, perhaps with something behind it: `FNAME:SCALE,...`.
_PATH = re.compile(r"(?:FNAME|PATH|DIR|(?:\w+_)?FILE)(?:[:,].*)?")


def defaults_of(table: OptionTable) -> list[Given]:
    """What every child gets unless somebody says otherwise, as far as its engine knows it.

    `--offline`: all files are there, and no load may ask the network. `--metrics`: read by the router.
    """
    wanted = (("--threads-http", (_HTTP_THREADS,)), ("--offline", ()), ("--metrics", ()))
    return [given for name, values in wanted if (given := given_of(table, name, values, DEFAULT_ORIGIN)) is not None]


def given_of(table: OptionTable, name: str, values: tuple[str, ...], origin: str) -> Given | None:
    """The option `name` with these values, or None where the engine does not know it."""
    match = table.find(name)
    if match is None:
        return None
    return Given(option=match.option, values=values, on=not match.negated, written=name, origin=origin)


def fold(layers: Iterable[Iterable[Given]]) -> Merged:
    """The last value of each option over all layers. All layers must speak of the options of one table."""
    merged: dict[str, Given] = {}
    for layer in layers:
        for given in layer:
            merged[given.option.canonical] = given
    if any(url in merged for url in _URLS) and is_default(merged.get("--offline")):
        del merged["--offline"]
    return merged


def is_default(given: Given | None) -> bool:
    """Whether nobody but the router asked for it."""
    return given is not None and given.origin == DEFAULT_ORIGIN


def in_table(given: Given, table: OptionTable) -> Given | None:
    """The same wish in the words of another engine's table; None where it has no such option of that arity."""
    option = table.find_option(given.option)
    if option is None or option.arity != given.option.arity:
        return None
    return Given(option=option, values=given.values, on=given.on, written=given.written, origin=given.origin)


def at_home(merged: Merged, home: str | None) -> dict[str, Given]:
    """The same with `~/` put in full where an option takes a path: no shell has seen a preset."""
    result = dict(merged)
    for canonical, given in merged.items() if home else ():
        if given.values and given.values[0].startswith("~/") and _PATH.fullmatch(given.option.hint):
            result[canonical] = _in_full(given, home or "")
    return result


def _in_full(given: Given, home: str) -> Given:
    return replace(given, values=(f"{home.rstrip('/')}/{given.values[0][2:]}", *given.values[1:]))


def in_order(merged: Merged) -> list[Given]:
    """As llama-server's router sorts them: by the first spelling of each."""
    return sorted(merged.values(), key=lambda given: given.option.names[0])


def flags_of(ordered: Iterable[Given]) -> tuple[Flag, ...]:
    """The command line of a child: an option that is off and has no negative spelling leaves no trace."""
    flags = []
    for given in ordered:
        spelling = _spelling_of(given.option, given.on)
        if spelling is not None:
            flags.append(Flag(spelling, given.values, given.origin))
    return tuple(flags)


def _spelling_of(option: Option, on: bool) -> str | None:
    if on:
        return option.canonical
    return option.negatives[-1] if option.negatives else None


def section_text(name: str, ordered: Iterable[Given], more: Iterable[tuple[str, str]]) -> str:
    """The section that says the same, as llama-server shows it in `status.preset`."""
    lines = [(given.option.canonical.lstrip("-"), _value_of(given)) for given in ordered]
    body = "".join(f"{key} = {_escaped(value)}\n" for key, value in (*lines, *sorted(more)))
    return f"[{name}]\n{body}\n"


def _value_of(given: Given) -> str:
    return " ".join(given.values) if given.option.arity else str(given.on).lower()


def _escaped(value: str) -> str:
    return value.replace("\n", "\\\n")
