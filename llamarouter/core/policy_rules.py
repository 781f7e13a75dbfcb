"""The words about how long a model stays and who may wait for it (`policy`), read from a key of a preset or an option:
each with its origin.

lr-ttl = 15m | lr-pin = true | lr-priority = 5 | load-on-startup = true
             | lr-queue-per-model = 10 | lr-queue-timeout = 60           -> Rule     the rest is a warning's text
rules of [*] < of the command line < of the model's section              -> policy_of -> Policy
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from llamarouter.core.durations import seconds_of
from llamarouter.core.flags import boolean_of
from llamarouter.core.policy import Policy

TTL = "lr-ttl"
PIN = "lr-pin"
PRIORITY = "lr-priority"
LOAD_ON_STARTUP = "load-on-startup"
QUEUE = "lr-queue-per-model"
QUEUE_TIMEOUT = "lr-queue-timeout"
RULES = (TTL, PIN, PRIORITY, QUEUE, QUEUE_TIMEOUT, LOAD_ON_STARTUP)

_HIGHEST = 1_000_000
DURATIONS = "1 s to 30 years, as in 90s, 15m, 2h or 1d (0: never)"


@dataclass(frozen=True, slots=True)
class Rule:
    """One of them: `value` is seconds (infinity: never), a truth or a number."""

    key: str
    text: str  # as it was written
    value: float
    origin: str = field(default="", compare=False)


def rule_of(key: str, text: str, origin: str) -> tuple[Rule | None, str | None]:
    """What a key says, and what is wrong with it (then it says nothing, or off)."""
    if key in _READERS:
        read, right = _READERS[key]
        value = read(text.strip())
        if value is None:
            return None, f"{key} must be {right}, not {text!r}: the default stays"
        return Rule(key, text.strip(), value, origin), None
    truth = boolean_of(text)
    doubt = f"{key} must be true or false, not {text!r}: taken as false" if truth is None else None
    return Rule(key, str(bool(truth)).lower(), bool(truth), origin), doubt


def _ttl(word: str) -> float | None:
    seconds = seconds_of(word)
    return seconds if seconds is not None and seconds >= 1.0 else None


def _timeout(word: str) -> float | None:
    seconds = seconds_of(word)
    return seconds if seconds is not None and math.isfinite(seconds) else None


def _priority(word: str) -> float | None:
    fits = re.fullmatch(r"[+-]?[0-9]{1,7}", word, re.ASCII) is not None and abs(int(word)) <= _HIGHEST
    return int(word) if fits else None


def _count(word: str) -> float | None:
    return int(word) if re.fullmatch(r"[0-9]{1,9}", word, re.ASCII) is not None and int(word) else None


_READERS: dict[str, tuple[Callable[[str], float | None], str]] = {
    TTL: (_ttl, DURATIONS),
    PRIORITY: (_priority, f"a whole number from -{_HIGHEST} to {_HIGHEST}"),
    QUEUE: (_count, "a whole number, 1 or more"),
    QUEUE_TIMEOUT: (_timeout, "a time, as in 90, 90s or 5m"),
}


def merged(*layers: Iterable[Rule]) -> tuple[Rule, ...]:
    """One rule for each key, the last layer's; in the order of `RULES`."""
    held = {rule.key: rule for layer in layers for rule in layer}
    return tuple(held[key] for key in RULES if key in held)


def policy_of(rules: Iterable[Rule]) -> Policy:
    """What they come to."""
    values = {rule.key: rule.value for rule in rules}
    ttl = values.get(TTL, math.inf)
    return Policy(
        None if math.isinf(ttl) else ttl,
        bool(values.get(PIN)),
        int(values.get(PRIORITY, 0)),
        queue=int(values[QUEUE]) if QUEUE in values else None,
        queue_timeout=values.get(QUEUE_TIMEOUT),
    )


def contradiction_in(rules: Iterable[Rule]) -> tuple[Rule, str] | None:
    """What one place says twice, each time something else: the rule that has no effect, and why."""
    held = {rule.key: rule for rule in rules}
    ttl, pin = held.get(TTL), held.get(PIN)
    if ttl is None or pin is None or not pin.value or math.isinf(ttl.value):
        return None
    return ttl, f"{TTL} has no effect: the model is pinned ({PIN} at {pin.origin})"
