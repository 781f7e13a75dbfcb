"""What the simulated box needs of whoever decides: the events and commands of the router's own scheduler."""

from __future__ import annotations

from typing import Protocol

from llamarouter.core.events import Command, Event


class Contender(Protocol):
    """Decides who is loaded, who goes, and who may go in."""

    name: str

    def handle(self, event: Event, now: float) -> list[Command]:
        """Note `event`; the commands are to be carried out in their order."""
        ...

    def deadline(self) -> float | None:
        """When to call again with `TimePassed`, if nothing happens before."""
        ...
