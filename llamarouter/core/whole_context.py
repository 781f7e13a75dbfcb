"""The context of a model of which nobody has said how long it is to be.

llama-server then takes what the model was trained for; and, unless its slots have one cache together, as much for
each of them, where its own `--fit` finds room (`common/fit.cpp`, build b11434). A child that is placed is started with
`--fit off`, so it has to be told.
"""

from __future__ import annotations

from llamarouter.core.asked import asked_of
from llamarouter.core.flags import OptionTable, boolean_of
from llamarouter.core.launch import Launch
from llamarouter.core.memory_flags import Said
from llamarouter.core.model import Header


def context_to_tell(launch: Launch, header: Header | None, table: OptionTable) -> int | None:
    """The tokens that its child is to be told; None: what the launch says, or the engine's default, is right."""
    said = Said(launch.flags, table)
    asked = asked_of(said)
    trained = header.n_ctx_train if header is not None else None
    if not trained or asked.ctx_size or asked.unified or asked.parallel <= 1:
        return None
    if boolean_of(said.text("--fit") or "on") is False:
        return None
    return trained * asked.parallel
