"""Rows on a router in whose environment `LLAMA_SERVER_DEBUG_FAKE_TIMING` is set: test suites rely on the delays."""

from __future__ import annotations

import time
from collections.abc import Callable

from tests.reference.row import LIFE, Rows
from tests.reference.seen import Seen
from tests.reference.side import Side

TIMED = Rows()
ARGUMENTS = ("--models-dir", "models/one", "--offline")
ENVIRON = {"LLAMA_SERVER_DEBUG_FAKE_TIMING": "1"}
_DELAY = 2.0  # seconds


def _delayed(act: Callable[[], object]) -> bool:
    start = time.monotonic()
    act()
    return time.monotonic() - start >= _DELAY


@TIMED.row(LIFE, "delays that tests ask for")
def _delays(side: Side) -> Seen:
    return {
        "before a load": _delayed(lambda: side.load("model")),
        "in a relayed request": _delayed(lambda: side.ask("POST", "/tokenize", {"model": "model", "content": "x"})),
        "in the router's own answers": _delayed(lambda: side.ask("GET", "/models")),
    }
