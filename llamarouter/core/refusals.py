"""What the scheduler says to those whom it does not serve: one function for each cause."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence

from llamarouter.core.cooldown import Failure
from llamarouter.core.errors import (
    Cooldown,
    Draining,
    InsufficientMemory,
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
from llamarouter.core.memory import Placement, Room
from llamarouter.core.residents import Resident
from llamarouter.core.sizes import said

# Nobody can say how long a pin holds: this asks clients not to hurry (seconds).
_PINNED_FOR = 30.0
_MEMORY_FOR = 10.0


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
        f"model '{model}' {_how_often(failure)} and is left alone for {max(1, math.ceil(left))} s more{cause}",
        retry_after=left,
    )


def being_probed(model: str, failure: Failure, left: float) -> Cooldown:
    """`left`: seconds until the load that tries it should be over."""
    left = max(1.0, left)
    return Cooldown(
        f"model '{model}' {_how_often(failure)}, and one request is trying it again now; "
        f"ask again in {math.ceil(left)} s: {_cause_of(model, failure)}",
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


def no_memory(
    model: str,
    placements: Sequence[Placement],
    rooms: Mapping[str, Room],
    most: Mapping[str, int],
    pinned: Collection[Resident],
) -> RouterError:
    """No placement fits; `most`: what could be had of each device if all went that may."""

    def lacks(space: Mapping[str, int]) -> tuple[Placement, str, int]:
        """The way that lacks least, and the device of which it lacks most, by how much."""
        found = []
        for one in placements:
            lacking = {device: size - space.get(device, size) for device, size in one.needs.items()}
            device = max(lacking, key=lambda name: lacking[name], default="")
            found.append((lacking.get(device, 0), device, one))
        short, device, way = min(found, key=lambda one: one[0])
        return way, device, short

    way, device, short = lacks({name: room.most for name, room in rooms.items()})
    if short > 0:
        room = rooms[device]
        limits = [f"{said(room.total)} in all"]
        limits += [f"a budget of {said(room.budget)}"] if room.budget is not None else []
        limits += [f"{said(room.reserve)} in reserve"] if room.reserve else []
        return ModelTooLarge(
            f"model '{model}' needs {said(way.needs[device])} of {device}, of which models may hold {said(room.most)}"
            f" ({', '.join(limits)})"
        )
    way, device, _ = lacks(most)
    kept = [one for one in pinned if one.needs.get(device)]
    held = sum(one.needs.get(device, 0) for one in kept)
    names = ", ".join(sorted(one.model for one in kept))
    by = [f"models that are pinned ({names}) hold {said(held)}"] if held else []
    others = rooms[device].most - most[device] - held
    by += [f"other programs hold {said(others)}"] if others > 0 else []
    return InsufficientMemory(
        f"model '{model}' needs {said(way.needs[device])} of {device}, of which no more than"
        f" {said(max(0, most[device]))} can be had now: {' and '.join(by)}",
        retry_after=_MEMORY_FOR,
    )
