"""The devices of a house: their memory, who has taken some of it, and what their drivers say."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from llamarouter.core.memory import Room
from tests.properties.inhabitants import Child


@dataclass
class Device:
    total: int
    says_whose: bool = True  # whether its driver knows whose bytes are whose
    budget: int | None = None
    reserve: int = 0
    lag: float = 0.0  # for so long after an end its bytes are not free yet
    prompt: bool = False  # it is never late, and says so
    others: int = 0  # what other programs hold
    taken: dict[str, int] = field(default_factory=dict)  # by our children
    ghosts: list[tuple[float, int]] = field(default_factory=list)  # bytes of the dead, and until when

    def __post_init__(self) -> None:
        if self.prompt:
            self.lag = 0.0

    @property
    def limit(self) -> int:
        return (self.total if self.budget is None else min(self.total, self.budget)) - self.reserve

    def free(self, now: float) -> int:
        dead = sum(size for until, size in self.ghosts if now < until)
        return max(0, self.total - self.others - sum(self.taken.values()) - dead)

    def take(self, model: str, size: int, now: float) -> bool:
        """Let a child hold `size` in all; False: there is no more."""
        if size - self.taken.get(model, 0) > self.free(now):
            return False
        self.taken[model] = size
        return True

    def leave(self, model: str, now: float) -> None:
        size = self.taken.pop(model, 0)
        if size and self.lag:
            self.ghosts.append((now + self.lag, size))

    def late(self, now: float, lag: float) -> int:
        """The bytes of the dead that are not free though they have been dead for `lag`."""
        return sum(size for until, size in self.ghosts if until - self.lag + lag <= now < until)

    def room(self, now: float) -> Room:
        ours = sum(self.taken.values()) if self.says_whose else None
        return Room(self.total, self.free(now), ours, self.budget, self.reserve, self.prompt)


@dataclass(frozen=True)
class Look:
    """All that was true when somebody looked at the devices."""

    at: float
    rooms: Mapping[str, Room]
    others: Mapping[str, int]
    taken: Mapping[str, Mapping[str, int]]
    loading: frozenset[str]
    loaded: tuple[Child, ...]  # whose bytes the books explain, not the devices
    haunted: bool  # some bytes of the dead were not free yet
    late: Mapping[str, int]  # of those, the bytes that the scheduler waits for no longer: it takes them for others'
