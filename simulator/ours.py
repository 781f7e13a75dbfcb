"""The router's own scheduler as a contender, with nobody refused for the length of the queue or of the waiting."""

from __future__ import annotations

from llamarouter.core.scheduler import Limits, Scheduler

_ENDLESS = 1 << 40


class Ours(Scheduler):
    """`llamarouter.core.scheduler`, as it is."""

    name = "llamarouter"


def ours(max_wait: float = 10.0) -> Ours:
    """By bytes and with the limits of `lr serve`, but for those by which the others would lose requests too."""
    limits = Limits(
        models_max=0,
        max_wait=max_wait,
        queue_timeout=1e9,
        queue_per_model=_ENDLESS,
        queue_in_all=_ENDLESS,
        queue_bytes=_ENDLESS,
        by_memory=True,
        lag=0.0,
    )
    return Ours(limits)
