"""What the scheduler says to those whom it does not serve: one function for each cause."""

from __future__ import annotations

from collections.abc import Collection

from llamarouter.core.cooldown import Failure
from llamarouter.core.errors import (
    Cooldown,
    Draining,
    ModelCrashed,
    ModelTooLarge,
    ModelUnloaded,
    NoPlace,
    NotLoaded,
    QueueFull,
    QueueTimeout,
    RouterError,
    Unavailable,
)

# Nobody can say how long a pin holds: this asks clients not to hurry (seconds).
_PINNED_FOR = 30.0


def not_loaded(model: str) -> NotLoaded:
    # llama-server's words, then ours.
    return NotLoaded(f"model is not loaded: '{model}' is loaded by POST /models/load, or by autoload=true in the query")


def still_loading() -> Unavailable:
    return Unavailable("Loading model", retry_after=1.0)  # llama-server's words


def draining() -> Draining:
    return Draining("the router is shutting down", retry_after=5.0)


def cooling(model: str, failure: Failure | None, left: float) -> Cooldown:
    """`left`: seconds until the model may be tried again."""
    cause = "" if failure is None else ": " + _cause_of(model, failure)
    return Cooldown(
        f"model '{model}' {_how_often(failure)} and is left alone for {max(1, round(left))} s more{cause}",
        retry_after=left,
    )


def being_probed(model: str, failure: Failure, left: float) -> Cooldown:
    """`left`: seconds until the load that tries it should be over."""
    left = max(1.0, left)
    return Cooldown(
        f"model '{model}' {_how_often(failure)}, and one request is trying it again now; ask again in {round(left)} s: "
        f"{_cause_of(model, failure)}",
        retry_after=left,
    )


def _how_often(failure: Failure | None) -> str:
    return f"failed {failure.count} times" if failure is not None and failure.is_broken else "failed"


def _cause_of(model: str, failure: Failure) -> str:
    return failure.error.message.removeprefix(f"model '{model}': ")


def not_worth_a_place(failure: Failure) -> RouterError:
    """What failed for a cause that lies in itself: no other model is stopped to see it fail again."""
    error = failure.error
    message = f"{error.message}; it is tried again when a place is free, or after a reload"
    return type(error)(message, retry_after=error.retry_after)


def line_full(model: str, waiting: int, retry_after: float) -> QueueFull:
    return QueueFull(f"{waiting} requests wait for model '{model}' already", retry_after=retry_after)


def queue_full(waiting: int, body_bytes: int, retry_after: float) -> QueueFull:
    return QueueFull(f"{waiting} requests with {body_bytes >> 20} MiB of bodies wait already", retry_after=retry_after)


def waited_too_long(model: str, seconds: float, retry_after: float) -> QueueTimeout:
    return QueueTimeout(f"model '{model}' had no room for this request within {seconds:g} s", retry_after=retry_after)


def all_pinned(models: Collection[str]) -> NoPlace:
    names = ", ".join(sorted(models))
    what = (
        f"all {len(models)} places are held by pinned models" if len(models) > 1 else "a pinned model holds the place"
    )
    return NoPlace(f"{what} ({names}): `lr unpin` one of them, or raise --models-max", retry_after=_PINNED_FOR)


def unloaded_while_loading(model: str) -> ModelUnloaded:
    return ModelUnloaded(f"model '{model}' was unloaded while it was loading", retry_after=1.0)


def ended_unasked(model: str) -> ModelCrashed:
    return ModelCrashed(f"model '{model}' ended though nobody asked it to")


def nowhere_to_be(model: str) -> ModelTooLarge:
    return ModelTooLarge(f"model '{model}' cannot be placed on any device of this machine")
