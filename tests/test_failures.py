"""What clients are told of an end: the class by its cause, the telling line once."""

from __future__ import annotations

import pytest

from llamarouter.core.causes import Cause
from llamarouter.core.errors import (
    EngineUnavailable,
    InsufficientMemory,
    LoadTimeout,
    ModelCrashed,
    ModelInvalid,
    RouterError,
    UpstreamTimeout,
)
from llamarouter.core.exits import Exit
from llamarouter.core.failures import error_of


@pytest.mark.parametrize(
    ("cause", "kind"),
    [
        (Cause.BAD_FILE, ModelInvalid),
        (Cause.BAD_OPTION, ModelInvalid),
        (Cause.MISSING_FILE, ModelInvalid),
        (Cause.PERMISSION, ModelInvalid),
        (Cause.OLD_ENGINE, ModelInvalid),
        (Cause.OUT_OF_MEMORY, InsufficientMemory),
        (Cause.DEVICE_MEMORY, InsufficientMemory),
        (Cause.HOST_MEMORY, InsufficientMemory),
        (Cause.LIBRARY, EngineUnavailable),
        (Cause.SOCKET, EngineUnavailable),
        (Cause.KILLED, ModelCrashed),
        (Cause.SIGNAL, ModelCrashed),
        (Cause.STALLED_LOADING, LoadTimeout),
        (Cause.STALLED_BUSY, UpstreamTimeout),
        (Cause.ENGINE, EngineUnavailable),
        (Cause.EXITED, ModelCrashed),
    ],
)
def test_each_cause_has_its_error(cause: Cause, kind: type[RouterError]) -> None:
    error = error_of("m", Exit(cause=cause, message="what happened"))
    assert type(error) is kind
    assert error.message == "model 'm': what happened"
    assert (error.retry_after is not None) == (kind is InsufficientMemory)


def test_an_end_that_was_asked_for_is_no_failure() -> None:
    assert error_of("m", Exit(cause=Cause.ASKED, message="stopped")) is None


def test_last_words_follow_where_the_message_does_not_tell_already() -> None:
    words = ("first", "last")
    crashed = error_of("m", Exit(cause=Cause.SIGNAL, message="SIGSEGV", last_words=words))
    invalid = error_of("m", Exit(cause=Cause.BAD_FILE, message="bad magic", last_words=words))
    assert crashed is not None
    assert crashed.message == "model 'm': SIGSEGV; its last words: last"
    told = error_of("m", Exit(cause=Cause.EXITED, message="exited: last", last_words=words))
    assert told is not None
    assert told.message == "model 'm': exited: last"
    assert invalid is not None
    assert invalid.message == "model 'm': bad magic"
