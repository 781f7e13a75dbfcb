"""What a client is told about a child that ended: the map from its `Exit` to an error of the tree."""

from __future__ import annotations

from llamarouter.core.errors import (
    EngineUnavailable,
    InsufficientMemory,
    LoadTimeout,
    ModelCrashed,
    ModelInvalid,
    RouterError,
    UpstreamTimeout,
)
from llamarouter.core.exits import Cause, Exit

_ERRORS: dict[Cause, type[RouterError]] = {
    Cause.BAD_FILE: ModelInvalid,
    Cause.BAD_OPTION: ModelInvalid,
    Cause.OUT_OF_MEMORY: InsufficientMemory,
    Cause.KILLED: ModelCrashed,
    Cause.SIGNAL: ModelCrashed,
    Cause.STALLED_LOADING: LoadTimeout,
    Cause.STALLED_BUSY: UpstreamTimeout,
    Cause.ENGINE: EngineUnavailable,
    Cause.EXITED: ModelCrashed,
}

# Their message says all: it is the telling line of the log already, or the log has no part in it (a kill).
_TELLING = frozenset({Cause.BAD_FILE, Cause.BAD_OPTION, Cause.OUT_OF_MEMORY, Cause.ENGINE, Cause.KILLED})

# Memory may be free again when other models have gone.
_MEMORY_RETRY_AFTER = 30.0


def ending_of(end: Exit | None) -> dict[str, object]:
    """What llama-server's router says of a child that is gone, and our words where it failed; None: it did not."""
    if end is None:
        return {"exit_code": 0}
    ending: dict[str, object] = {"exit_code": end.exit_code, "reason": end.cause.value, "message": end.message}
    return ending if end.signal is None else ending | {"signal": end.signal}


def error_of(model: str, end: Exit) -> RouterError | None:
    """The error for those who waited for `model` or were inside it; None when the end was asked for."""
    if end.cause is Cause.ASKED:
        return None
    kind = _ERRORS[end.cause]
    message = f"model '{model}': {end.message}"
    if end.last_words and end.cause not in _TELLING and end.last_words[-1] not in end.message:
        message += f"; its last words: {end.last_words[-1]}"
    return kind(message, retry_after=_MEMORY_RETRY_AFTER if kind is InsufficientMemory else None)
