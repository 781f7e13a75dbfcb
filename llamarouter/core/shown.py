"""What somebody else has written, fit for a line of the log: one line, no steering of a terminal, not endless."""

from __future__ import annotations

import re

# What a secret looks like that a client has put where none belongs: into a path, or where the model is named.
_SECRET = re.compile(r"(?<![A-Za-z0-9])(sk-(?:lr-)?|hf_)[A-Za-z0-9_-]{8,}")
LIMIT = 100  # characters
_MESSAGE = 1 << 16  # of one that is ours
# What JSON leaves as it is, and a terminal or a reader of lines does not: control characters, other line ends, and
# what turns the direction of the text round.
_STEERS = re.compile("[\x7f-\x9f\u061c\u2028-\u202e\u2066-\u2069\ufeff\ud800-\udfff]")


def shown(text: str, limit: int = LIMIT) -> str:
    """`text` with what is not printable written as `\\n`, `\\x1b`, `\\u202e`, and its end cut off."""
    if len(text) > limit:
        text = text[:limit] + "..."
    if text.isprintable():
        return text
    return "".join(each if each.isprintable() else repr(each)[1:-1] for each in text)


def without_secrets(text: str) -> str:
    """`text` in which keys and tokens are cut to how they begin."""
    return _SECRET.sub(r"\1...", text) if "sk-" in text or "hf_" in text else text


def one_line(text: str) -> str:
    """A message, however many lines it had."""
    return shown(" ".join(text.split()), _MESSAGE)


def harmless(text: str) -> str:
    """`text` for a JSON string: its line ends stay, which JSON escapes."""
    return text if text.isascii() and "\x7f" not in text else _STEERS.sub(lambda found: repr(found[0])[1:-1], text)
