"""Brings pinned models back: one whose process ended although nobody asked it to is loaded again after its cool-down.

What would only fail again is left alone: a file or an option that is wrong, and a load that died of memory, which would
cost other models their place. So is a pinned model that somebody unloaded: its next request loads it.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable

from llamarouter.core.exits import Exit
from llamarouter.core.scheduler import Phase
from llamarouter.server.child import Child
from llamarouter.server.supervisor import Supervisor

log = logging.getLogger("llamarouter")


class Revival:
    """`load` begins a load, and says itself where it fails."""

    def __init__(self, supervisor: Supervisor, load: Callable[[str], object]) -> None:
        self._supervisor = supervisor
        self._load = load

    def failed(self, child: Child, end: Exit) -> None:
        """A process ended unasked."""
        load_died_of_memory = end.memory and child.ready is None
        if not end.deterministic and not load_died_of_memory:
            self._later(child.model)

    def _later(self, model: str) -> None:
        if self._is_missed(model):
            asyncio.get_running_loop().call_later(self._supervisor.cooldown_left(model), self._revive, model)

    def _revive(self, model: str) -> None:
        if self._supervisor.cooldown_left(model) > 0.0:  # it has failed again, or the clock rounds
            self._later(model)
        elif self._is_missed(model):
            log.info("loading %s again, as it is pinned", model)
            self._load(model)

    def _is_missed(self, model: str) -> bool:
        supervisor = self._supervisor
        absent = supervisor.scheduler.phase_of(model) is Phase.ABSENT
        return absent and not supervisor.closing and supervisor.scheduler.policy_of(model).pinned
