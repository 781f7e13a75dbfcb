"""Whose time to live is over: models that nobody has used for as long as theirs may be idle, and when to look again.

Who only looks (a glance, as a scraper does) is no use: it neither keeps a model nor is it cut off by its end. A model
that is used is looked at again when it could have expired at the earliest, so that the end of a request on the warm
path has no clock to set.
"""

from __future__ import annotations

from collections.abc import Iterable

from llamarouter.core.residents import Resident


def expiry_of(resident: Resident) -> float | None:
    """When an idle one ends by itself; None: it does not, or it goes already."""
    after = resident.policy.expires_after
    return None if after is None or not resident.is_open else resident.idle_since + after


def expired_among(residents: Iterable[Resident], now: float) -> list[Resident]:
    """Those that have to go now."""
    return [one for one in residents if (due := expiry_of(one)) is not None and now >= due and not one.is_used]


def next_expiry(residents: Iterable[Resident], now: float) -> float | None:
    """When somebody may have to go by himself, none of those that have to go now being left."""
    open_ones = (one for one in residents if one.policy.expires_after is not None and one.is_open)
    ends = ((now if one.is_used else one.idle_since) + (one.policy.expires_after or 0.0) for one in open_ones)
    return min(ends, default=None)
