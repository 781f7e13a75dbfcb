"""What a llama-server tells in its log and nowhere else, or earlier than elsewhere.

The lines are those of b11434; a build that words them differently only leaves the fields empty. How many layers
went to the GPU is printed by builds with a GPU backend at `--log-verbosity 4` and above.
"""

from __future__ import annotations

import re

from msgspec import Struct

_SLOTS = re.compile(r"n_slots = (\d+)(?:, n_ctx_slot = (\d+)(?:, kv_unified = '(true|false)')?)?")
_OFFLOADED = re.compile(r"offloaded (\d+)/(\d+) layers to GPU")
_CONTEXT = re.compile(r"llama_context: n_ctx_seq\s+= (\d+)")


class ChildFacts(Struct, frozen=True):
    """Figures picked from log lines; None where no line told them."""

    slots: int | None = None
    n_ctx: int | None = None  # tokens of one slot
    layers_offloaded: int | None = None
    layers: int | None = None
    unified: bool | None = None  # whether the slots have one cache together, each up to the whole context


def facts_of(lines: tuple[str, ...]) -> ChildFacts:
    """The facts in the lines of one load. A draft model says the same after the main one: the first word counts."""
    slots = n_ctx = offloaded = layers = unified = None
    for line in lines:
        if slots is None and (found := _SLOTS.search(line)):
            slots = int(found[1])
            n_ctx = int(found[2]) if found[2] else n_ctx
            unified = found[3] == "true" if found[3] else None
        elif offloaded is None and (found := _OFFLOADED.search(line)):
            offloaded, layers = int(found[1]), int(found[2])
        elif n_ctx is None and (found := _CONTEXT.search(line)):
            n_ctx = int(found[1])
    return ChildFacts(slots, n_ctx, offloaded, layers, unified)
