"""How long something took, as the person at the terminal saw it."""

from __future__ import annotations

import time


class Stopwatch:
    """Runs from its making."""

    def __init__(self) -> None:
        self._began = time.monotonic()

    def seconds(self) -> float:
        return time.monotonic() - self._began
