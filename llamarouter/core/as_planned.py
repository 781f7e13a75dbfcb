"""Whether a model came up as it was meant to: with its whole context, and with all its layers where they belong.

llama-server shrinks the context and leaves layers in host memory, silently, where its own `--fit` finds too little
room; and so may the router's choice of a place, where nothing else fits. Either is said: in the log, in `/models`, in
`lr ls` and `lr ps`. A footprint is learnt only from a load that came up as planned.
"""

from __future__ import annotations

from collections.abc import Iterable

from msgspec import Struct

from llamarouter.core.child_facts import ChildFacts
from llamarouter.core.launch import Launch
from llamarouter.core.memory import HOST, Placement
from llamarouter.core.model import Header

_CONTEXT = frozenset({"-c", "--ctx-size"})
_OF_A_SLOT = frozenset({"--kv-unified-per-slot"})
_LAYERS = frozenset({"-ngl", "--gpu-layers", "--n-gpu-layers"})
_ALL = frozenset({"auto", "all"})


class Shortfall(Struct, frozen=True):
    """What a model has less of than it was to have."""

    what: str  # context, layers
    message: str  # for people, in one line


def shortfalls(
    launch: Launch, header: Header | None, placement: Placement | None, facts: ChildFacts
) -> tuple[Shortfall, ...]:
    """What the child of a launch (as it was written, without a place) came up with less of. `facts`: what it said."""
    found = (_context(launch, header, facts), _layers(launch, placement, facts))
    return tuple(each for each in found if each is not None)


def is_as_planned(launch: Launch, header: Header | None, facts: ChildFacts) -> bool:
    """Whether the child of a launch (as it was started) has what that says: what it takes may be learnt then."""
    return not shortfalls(launch, header, None, facts)


def has_whole_context(launch: Launch, header: Header | None, facts: ChildFacts) -> bool:
    """Whether the child of a launch (as it was written) has all the context that it was to have."""
    return _context(launch, header, facts) is None


def has_context(launch: Launch) -> bool:
    """Whether somebody has said how long its context is to be: llama-server then does not make it shorter."""
    return bool(number_of(launch, _CONTEXT) or number_of(launch, _OF_A_SLOT))


def number_of(launch: Launch, spellings: Iterable[str]) -> int | None:
    """The number that a launch gives for an option; None: none, or no number."""
    text = next((flag.values[0] for flag in reversed(launch.flags) if flag.option in spellings and flag.values), "")
    try:
        return int(text)
    except ValueError:
        return None


def _context(launch: Launch, header: Header | None, facts: ChildFacts) -> Shortfall | None:
    trained = header.n_ctx_train if header is not None else None
    asked = number_of(launch, _CONTEXT) or trained  # 0: all that it was trained for
    if asked is None or facts.n_ctx is None:
        return None
    of_a_slot = number_of(launch, _OF_A_SLOT)
    if of_a_slot and facts.n_ctx >= of_a_slot:  # the operator keeps it short
        return None
    # A slot never has more than the model was trained for; without a common cache the slots share what was asked for.
    has = facts.n_ctx * (1 if facts.unified is True else facts.slots or 1)
    if has >= min(asked, trained or asked):
        return None
    return Shortfall("context", f"its context is {has} tokens instead of {asked}: more did not fit")


def _is_on_host(placement: Placement) -> bool:
    """Whether no GPU was there for it, or wanted."""
    return not placement.needs.keys() - {HOST} and all(words[0] != "--device" for words in placement.options)


def _layers(launch: Launch, placement: Placement | None, facts: ChildFacts) -> Shortfall | None:
    asked = number_of(launch, _LAYERS)
    if placement is not None and placement.partial and ("--fit", "off") in placement.options:
        return Shortfall("layers", f"a part of it is in host memory: {placement.label or 'not all layers fit'}")
    if facts.layers_offloaded is None or facts.layers is None or (placement is not None and _is_on_host(placement)):
        return None
    wanted = facts.layers if asked is None or asked < 0 else min(asked, facts.layers)
    if facts.layers_offloaded >= wanted:
        return None
    return Shortfall("layers", f"{facts.layers_offloaded} of {wanted} layers are on the GPU: more did not fit")
