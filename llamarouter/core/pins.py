"""Which models are pinned in the end: those whose rules say so, those that `--pin` names, and no more than have places.

A pinned model is never stopped for another one, so more of them than `--models-max` could not be kept. Those that the
command line names come first, then those of the preset in its order; the rest is served as if it had no pin.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping

from msgspec import Struct
from msgspec.structs import replace

from llamarouter.core.entry import Entry
from llamarouter.core.model import Skipped
from llamarouter.core.naming import nearest
from llamarouter.core.policy_rules import PIN, Rule, merged

# So many are named where more pins are left out; the rest is a number.
_MOST_NAMED = 5


class NamedPins(Struct, frozen=True):
    """The models that the command line, or a variable, says are pinned."""

    names: tuple[str, ...] = ()
    where: str = "--pin"


def with_pins(
    entries: Mapping[str, Entry],
    named: NamedPins,
    resolve: Callable[[str], Entry | None],
    own: Collection[str],
    places: int,
    warn: Callable[[Skipped], None],
) -> dict[str, Entry]:
    """Entries with the pins that hold. `own`: the ids whose section has its word; `places`: 0, without limit."""
    result, first = dict(entries), []
    for name in named.names:
        entry = resolve(name)
        if entry is None:
            names = [known for each in entries.values() for known in (each.id, *each.aliases)]
            warn(Skipped(named.where, f"no model is called {name!r}{nearest(name, names) or '; see lr ls'}"))
        elif entry.id not in own:
            rule = Rule(PIN, "true", True, named.where)
            result[entry.id] = replace(result[entry.id], rules=merged(result[entry.id].rules, (rule,)))
            first.append(entry.id)
    pinned = list(dict.fromkeys(id for id in (*first, *result) if result[id].policy.pinned))
    if places and len(pinned) > places:
        warn(_too_many(pinned, places, result))
        for id in pinned[places:]:
            result[id] = replace(result[id], rules=tuple(rule for rule in result[id].rules if rule.key != PIN))
    elif places and len(pinned) == places and len(entries) > places:
        reason = f"as many models are pinned as --models-max allows ({places}): while they are loaded, no other can be"
        warn(Skipped(origin_of_pin(result[pinned[-1]]) or "", reason))
    return result


def _too_many(pinned: list[str], places: int, entries: Mapping[str, Entry]) -> Skipped:
    left = pinned[places:]
    names = [f"{id} ({origin_of_pin(entries[id])})" for id in left[:_MOST_NAMED]]
    more = [f"{len(left) - _MOST_NAMED} more"] if len(left) > _MOST_NAMED else []
    reason = f"{len(pinned)} models are pinned, and --models-max is {places}: not pinned are {', '.join(names + more)}"
    return Skipped(origin_of_pin(entries[left[0]]) or "", reason)


def origin_of_pin(entry: Entry) -> str | None:
    """Where it is written that a model is pinned, if it is written."""
    return next((rule.origin for rule in entry.rules if rule.key == PIN and rule.value), None)
