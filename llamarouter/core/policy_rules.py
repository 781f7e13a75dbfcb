"""The words about how long a model stays (`policy`), read from a key of a preset or an option: each with its origin.

lr-ttl = 15m | lr-pin = true | lr-priority = 5 | load-on-startup = true  -> Rule     the rest is a warning's text
rules of [*] < of the command line < of the model's section              -> policy_of -> Policy
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable
from dataclasses import dataclass, field

from llamarouter.core.durations import seconds_of
from llamarouter.core.flags import boolean_of
from llamarouter.core.policy import Policy

TTL = "lr-ttl"
PIN = "lr-pin"
PRIORITY = "lr-priority"
LOAD_ON_STARTUP = "load-on-startup"
RULES = (TTL, PIN, PRIORITY, LOAD_ON_STARTUP)

_HIGHEST = 1_000_000
DURATIONS = "at least a second, as in 90s, 15m, 2h or 1d (0: never)"


@dataclass(frozen=True, slots=True)
class Rule:
    """One of them: `value` is seconds (infinity: never), a truth or a number."""

    key: str
    text: str  # as it was written
    value: float
    origin: str = field(default="", compare=False)


def rule_of(key: str, text: str, origin: str) -> tuple[Rule | None, str | None]:
    """What a key says, and what is wrong with it (then it says nothing, or off)."""
    if key == TTL:
        seconds = seconds_of(text)
        if seconds is None or seconds < 1.0:
            return None, f"{TTL} must be {DURATIONS}, not {text!r}: the default stays"
        return Rule(TTL, text.strip(), seconds, origin), None
    if key == PRIORITY:
        word = text.strip()
        if not re.fullmatch(r"[+-]?[0-9]{1,7}", word, re.ASCII) or abs(int(word)) > _HIGHEST:
            reason = (
                f"{PRIORITY} must be a whole number from -{_HIGHEST} to {_HIGHEST}, not {text!r}: the default stays"
            )
            return None, reason
        return Rule(PRIORITY, word, int(word), origin), None
    truth = boolean_of(text)
    doubt = f"{key} must be true or false, not {text!r}: taken as false" if truth is None else None
    return Rule(key, str(bool(truth)).lower(), bool(truth), origin), doubt


def merged(*layers: Iterable[Rule]) -> tuple[Rule, ...]:
    """One rule for each key, the last layer's; in the order of `RULES`."""
    held = {rule.key: rule for layer in layers for rule in layer}
    return tuple(held[key] for key in RULES if key in held)


def policy_of(rules: Iterable[Rule]) -> Policy:
    """What they come to."""
    values = {rule.key: rule.value for rule in rules}
    ttl = values.get(TTL, math.inf)
    return Policy(None if math.isinf(ttl) else ttl, bool(values.get(PIN)), int(values.get(PRIORITY, 0)))


def contradiction_in(rules: Iterable[Rule]) -> tuple[Rule, str] | None:
    """What one place says twice, each time something else: the rule that has no effect, and why."""
    held = {rule.key: rule for rule in rules}
    ttl, pin = held.get(TTL), held.get(PIN)
    if ttl is None or pin is None or not pin.value or math.isinf(ttl.value):
        return None
    return ttl, f"{TTL} has no effect: the model is pinned ({PIN} at {pin.origin})"
