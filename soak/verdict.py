"""What became of one request: whole, refused as it should be, cut in a way that its client sees, or lost.

Untouched, it must be what was asked for, whole. Touched, it may be refused or break off, but says so: an error with a
reason, in mid-stream an error event and an end that is none, and all of it within the bound.
"""

from __future__ import annotations

import enum
import json
from dataclasses import dataclass

from soak.answer import Answer

# What each dialect ends a stream with.
_ENDS = (b"data: [DONE]", b'"type":"message_stop"', b"event: message_stop")
_WAITING_HELPS = frozenset({429, 503})
# What a router says when something of its own is broken: nothing that is done to a model or a key excuses it.
_OURS = frozenset({"internal_error"})


class Fate(enum.Enum):
    """The rows of the table."""

    WHOLE = "whole"
    REFUSED = "refused as meant"  # a wrong key, a limit, a body that is too large
    LEFT = "left by client"
    EXCUSED = "touched: refused"
    BROKEN = "touched: broken off"
    LOST = "LOST"


@dataclass(frozen=True, slots=True)
class Verdict:
    """`why`: of what was lost, for a person."""

    fate: Fate
    why: str = ""


def judge(answer: Answer, expected: frozenset[int], touched: bool) -> Verdict:
    """`expected`: the statuses that an untouched request may have."""
    if answer.left:
        return Verdict(Fate.LEFT)
    if answer.hung:
        return Verdict(Fate.LOST, f"no end after {answer.seconds:.0f} s")
    if answer.status is None:
        return Verdict(Fate.LOST, "the connection ended without an answer")
    if answer.status >= 400:
        return _of_error(answer, expected, touched)
    return _of_answer(answer, expected, touched)


def _of_error(answer: Answer, expected: frozenset[int], touched: bool) -> Verdict:
    if not answer.whole:
        return Verdict(Fate.LOST, f"{answer.status}, cut")
    reason = _reason_of(answer.body)
    said = f"{answer.status} {reason or ''}: {answer.body[:300]!r}"
    if reason is None:
        return Verdict(Fate.LOST, f"no reason: {said}")
    if answer.status in _WAITING_HELPS and "retry-after" not in answer.headers:
        return Verdict(Fate.LOST, f"no Retry-After: {said}")
    if answer.status in expected:
        return Verdict(Fate.REFUSED)
    if touched and reason not in _OURS:
        return Verdict(Fate.EXCUSED)
    return Verdict(Fate.LOST, said)


def _of_answer(answer: Answer, expected: frozenset[int], touched: bool) -> Verdict:
    ended = answer.whole and (not answer.is_stream or any(end in answer.body for end in _ENDS))
    failed = answer.is_stream and _has_error(answer.body)
    tail = answer.body[-300:]
    if answer.status not in expected:
        return Verdict(Fate.LOST, f"{answer.status} where {sorted(expected)} was to come")
    if ended and not failed:
        return Verdict(Fate.WHOLE)
    if answer.whole and not failed:
        return Verdict(Fate.LOST, f"a stream that looks whole and is not: {tail!r}")
    if not touched:
        return Verdict(Fate.LOST, f"broken off: {tail!r}")
    if answer.is_stream and not failed:
        return Verdict(Fate.LOST, f"a stream that broke off without an error event: {tail!r}")
    if answer.whole:
        return Verdict(Fate.LOST, f"an error event, and an end as if all were well: {tail!r}")
    return Verdict(Fate.BROKEN)


def _has_error(body: bytes) -> bool:
    return b'data: {"error":' in body or b"event: error" in body


def _reason_of(body: bytes) -> str | None:
    """The word for programs in an error of either dialect; llama-server's own errors have only a type."""
    try:
        error = json.loads(body)["error"]
        reason = error.get("reason") or error.get("type")
    except (ValueError, KeyError, TypeError, AttributeError):
        return None
    return reason if isinstance(reason, str) else None
