"""What is known of the models that want a place: the ways to place each, and since when.

    wanted -- ask --> asked -- note --> appraised -- forget (started, or changed) --> unknown
                                            |-- older than `STANDS`: asked again

An appraisal is used once and stands `STANDS` seconds: other programs take and give memory too.
"""

from __future__ import annotations

from llamarouter.core.events import Appraised
from llamarouter.core.memory import Placement

STANDS = 2.0


class Appraisals:
    """The last appraisal of each model that wants a place."""

    def __init__(self) -> None:
        self._asked: set[str] = set()
        self._placements: dict[str, tuple[tuple[Placement, ...], float]] = {}

    def ask(self, model: str, now: float) -> bool:
        """Whether the model is to be appraised now: nothing of it is fresh, and it has not been asked for yet."""
        if model in self._asked or self.of(model, now):
            return False
        self._asked.add(model)
        return True

    def note(self, event: Appraised, now: float) -> None:
        self._asked.discard(event.model)
        self._placements[event.model] = event.placements, now

    def of(self, model: str, now: float) -> tuple[Placement, ...]:
        """The fresh placements of a model, the preferred first; none: it is not known."""
        placements, at = self._placements.get(model, ((), 0.0))
        return placements if now < at + STANDS else ()

    def forget(self, model: str) -> None:
        self._asked.discard(model)
        self._placements.pop(model, None)
