"""What the options of the log say: how much, where, and in which form."""

from __future__ import annotations

from msgspec import Struct

from llamarouter.core.errors import UsageError
from llamarouter.core.own_values import OwnValues

LEVELS = ("debug", "info", "warning", "error")
FORMATS = ("auto", "text", "json")
_INFO = 3  # llama-server's number for it


class LogWish(Struct, frozen=True):
    """The log, as it is to be."""

    level: str = "info"  # of `LEVELS`, or critical: nothing
    file: str | None = None
    jsonl: bool = False
    format: str = "auto"  # of `FORMATS`
    requests: bool = True


def log_of(values: OwnValues) -> LogWish:
    """Raises `UsageError`."""
    jsonl, form = values.truth("--log-jsonl", False), values.word("--log-format", "auto", FORMATS)
    if jsonl and form == "text":
        raise UsageError("--log-format text: not beside --log-jsonl, which asks for JSON")
    requests = values.truth("--log-requests", True)
    return LogWish(_level(values), values.text("--log-file"), jsonl, form, requests)


def _level(values: OwnValues) -> str:
    """The router's own, which one of three options says: on the command line the last of them, then a variable."""
    if values.truth("--log-disable", False):
        return "critical"
    level = values.word("--log-level", "", LEVELS)
    verbosity = values.integer("--log-verbosity", _INFO)
    verbose = values.truth("--log-verbose", False)
    last = max(("--log-level", "--log-verbosity", "--log-verbose"), key=values.place_of)
    if verbose and (last == "--log-verbose" or values.place_of(last) < 0):
        return "debug"
    if level and (last == "--log-level" or values.place_of(last) < 0):
        return level
    return "debug" if verbosity > _INFO else "info" if verbosity == _INFO else "warning" if verbosity == 2 else "error"
