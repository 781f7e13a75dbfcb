"""Where one event loop ends: it has one core, and each request and each token takes its part of it.

Worked out from the CPU time that the router took under load, since no child here computes as fast as that.
"""

from __future__ import annotations

from bench.measure import Measure

_READER = 30  # tokens a second: faster than anybody reads
_FAST_CARD = 10_000  # tokens a second, all streams together: what the largest cards reach with small models in batches


def limits_of(measures: list[Measure]) -> list[str]:
    """What a full core comes to, a line each; `measures`: the rows of the loads."""
    lines = []
    for measure in measures:
        cost = measure.median("lr")
        if not cost or not measure.name.endswith(": CPU"):
            continue
        load, most = measure.name.removesuffix(": CPU"), 1e6 / cost
        if measure.unit == "us/token":
            lines.append(
                f"{load}: one core relays {most:,.0f} tokens a second ({most / _READER:,.0f} streams of {_READER});"
                f" a card that makes {_FAST_CARD:,} keeps {_FAST_CARD / most:.0%} of it busy"
            )
        else:
            lines.append(f"{load}: one core relays {most:,.0f} requests a second")
    return lines
