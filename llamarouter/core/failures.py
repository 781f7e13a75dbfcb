"""What a client is told about a child that ended: the map from its `Exit` to an error of the tree."""

from __future__ import annotations

from llamarouter.core.causes import Cause, hint_for
from llamarouter.core.errors import (
    EngineUnavailable,
    InsufficientMemory,
    LoadTimeout,
    ModelCrashed,
    ModelInvalid,
    ModelTooLarge,
    RouterError,
    UpstreamTimeout,
)
from llamarouter.core.exits import Exit

_ERRORS: dict[Cause, type[RouterError]] = {
    Cause.MISSING_FILE: ModelInvalid,
    Cause.PERMISSION: ModelInvalid,
    Cause.BAD_FILE: ModelInvalid,
    Cause.OLD_ENGINE: ModelInvalid,
    Cause.BAD_OPTION: ModelInvalid,
    Cause.DEVICE_MEMORY: InsufficientMemory,
    Cause.HOST_MEMORY: InsufficientMemory,
    Cause.OUT_OF_MEMORY: InsufficientMemory,
    Cause.LIBRARY: EngineUnavailable,
    Cause.SOCKET: EngineUnavailable,
    Cause.ENGINE: EngineUnavailable,
    Cause.KILLED: ModelCrashed,
    Cause.SIGNAL: ModelCrashed,
    Cause.STALLED_LOADING: LoadTimeout,
    Cause.STALLED_BUSY: UpstreamTimeout,
    Cause.EXITED: ModelCrashed,
}

# The message of any other says all: it is the telling line of the log already, or the log has no part in it (a kill).
_WORDS_FOLLOW = frozenset({Cause.SIGNAL, Cause.STALLED_LOADING, Cause.STALLED_BUSY, Cause.EXITED})

# Memory may be free again when other models have gone.
_MEMORY_RETRY_AFTER = 30.0


def ending_of(end: Exit | None) -> dict[str, object]:
    """What llama-server's router says of a child that is gone, and our words where it failed; None: it did not."""
    if end is None:
        return {"exit_code": 0}
    ending: dict[str, object] = {"exit_code": end.exit_code, "reason": end.cause.value, "message": end.message}
    return ending if end.signal is None else ending | {"signal": end.signal}


def hint_before_start(error: RouterError, model: str) -> str:
    """What to do about a refusal for which nothing was started."""
    if isinstance(error, ModelTooLarge):
        return f"`lr plan {model}` shows the numbers. {hint_for(Cause.OUT_OF_MEMORY, model=model)}"
    return f"`lr explain {model}` says where it is written; mend it there, then `lr reload`."


def error_kind_of(cause: Cause) -> type[RouterError] | None:
    """What clients are told of a cause; None where it is no failure."""
    return _ERRORS.get(cause)


def error_of(model: str, end: Exit) -> RouterError | None:
    """The error for those who waited for `model` or were inside it; None when the end was asked for."""
    if end.cause is Cause.ASKED:
        return None
    kind = _ERRORS[end.cause]
    message = f"model '{model}': {end.message}"
    if end.last_words and end.cause in _WORDS_FOLLOW and end.last_words[-1] not in end.message:
        message += f"; its last words: {end.last_words[-1]}"
    return kind(message, retry_after=_MEMORY_RETRY_AFTER if kind is InsufficientMemory else None)
