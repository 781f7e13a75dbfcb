"""How long a model stays once it is loaded, which goes before it, and who may wait for it: what a preset, the command
line and `lr pin` say.

    lr-ttl       idle for so long, its process ends                     (docs/lifetimes.md says what each means)
    lr-pin       it is never stopped to make room for another model
    lr-priority  of the models that may go, those with the lowest go first
    lr-queue-per-model, lr-queue-timeout   how many may wait for it, and how long (docs/fairness.md)

None of it says how a child is started: a reload changes it without touching any.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from msgspec import Struct
from msgspec.structs import replace


class Policy(Struct, frozen=True):
    """What holds for one model."""

    ttl: float | None = None  # seconds that it may be idle; None: for ever
    pinned: bool = False
    priority: int = 0
    queue: int | None = None  # how many may wait for it; None: as many as for any
    queue_timeout: float | None = None  # seconds; None: as for any
    load_seconds: float | None = None  # how long its loads take, where that was learnt

    @property
    def expires_after(self) -> float | None:
        """The seconds of idleness after which its process ends; a pinned one is kept."""
        return None if self.pinned else self.ttl


_PLAIN = Policy()


class Policies:
    """What holds for all models: the presets' word, and over it what somebody said at run time.

    That holds until the preset's own word changes, or the model is there no more: the newest word counts.
    """

    def __init__(self) -> None:
        self._said: Mapping[str, Policy] = {}
        self._pins: dict[str, bool] = {}

    def of(self, model: str) -> Policy:
        said = self._said.get(model, _PLAIN)
        pinned = self._pins.get(model)
        return said if pinned is None else replace(said, pinned=pinned)

    def set(self, policies: Mapping[str, Policy]) -> None:
        """The presets say something else now."""
        self._said = policies
        for model in tuple(self._pins):
            said = policies.get(model)
            if said is None or said.pinned is self._pins[model]:
                del self._pins[model]

    def pin(self, model: str, pinned: bool | None) -> None:
        """Somebody pins or unpins it; None: what the preset says holds again."""
        if pinned is None or pinned is self._said.get(model, _PLAIN).pinned:
            self._pins.pop(model, None)
        else:
            self._pins[model] = pinned

    def changed(self) -> Iterable[str]:
        """The models of which something else holds than their preset says."""
        return self._pins

    def pinned(self) -> list[str]:
        """All that are pinned now, loaded or not."""
        return sorted(model for model in {*self._said, *self._pins} if self.of(model).pinned)
