"""How long something may take, as people write it: `90`, `90s`, `15m`, `1h30m`, `1d`, and `0`, `none`, `never`."""

from __future__ import annotations

import math
import re

_UNITS = {"": 1.0, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
_PART = re.compile(r"([0-9]{1,10}(?:\.[0-9]{1,3})?)([smhd]?)", re.ASCII)
# Ollama and llama-server write -1 for it.
_NEVER = frozenset({"none", "never", "off", "-1"})
_LONGEST = 1e9  # seconds: thirty years


def seconds_of(text: str) -> float | None:
    """The seconds that `text` means, infinity for never (also 0); None where it is no duration."""
    word = "".join(text.lower().split())
    if word in _NEVER:
        return math.inf
    parts = _PART.findall(word)
    if not parts or "".join(number + unit for number, unit in parts) != word:
        return None
    if len(parts) > 1 and not all(unit for _, unit in parts):  # 1h30: minutes, or seconds?
        return None
    seconds = math.fsum(float(number) * _UNITS[unit] for number, unit in parts)
    if seconds > _LONGEST:
        return None
    return seconds or math.inf
