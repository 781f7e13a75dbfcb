"""`lr plan`: what a request for a model would meet with now, in words for people and figures for programs.

    entry, appraisal, scheduler -> core.foresight -> one JSON object; nothing is done

The appraisal is the one that a request would wait for, the decision that of a copy of the scheduler.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from msgspec.structs import asdict, replace

from llamarouter.core.entry import Entry
from llamarouter.core.errors import payload_of
from llamarouter.core.events import Appraised
from llamarouter.core.explain import Explanation
from llamarouter.core.flags import OptionTable
from llamarouter.core.footprint import HOST, Footprint
from llamarouter.core.foresight import Foresight, Verdict, foresee
from llamarouter.core.memory import Placement
from llamarouter.core.placed import placed
from llamarouter.core.scheduler import Scheduler

Plan = dict[str, Any]

FETCHES = "fetches"  # its files are not here: more can be said when they are


def plan_of(
    entry: Entry,
    appraised: Appraised,
    scheduler: Scheduler,
    *,
    footprint: Footprint | None,
    living: Placement | None,
    table: OptionTable,
    explain: Callable[[Entry], Explanation],
    now: float,
) -> Plan:
    """What would happen to a request for the model of `entry`.

    `living`: where its child is now, if there is one; `table`: that of its engine.
    """
    if entry.launch is None:
        explanation = explain(entry)
        verdict = Verdict.REFUSED.value if entry.hf_wanted is None else FETCHES
        return {"verdict": verdict, "why": explanation["problem"], **explanation}
    seen = foresee(scheduler, entry.id, appraised, now)
    placement = living or seen.placement or next(iter(appraised.placements), Placement({}))
    return {
        "verdict": seen.verdict.value,
        "why": _why(entry.id, seen),
        "place": placement.label or None,
        "partial": placement.partial,
        "needs": dict(placement.needs),
        **described(footprint),
        "evict": [_loss(scheduler, model, now) for model in seen.evict],
        "claim": [_loss(scheduler, model, now) for model in seen.claim],
        "after": seen.after,
        "load_seconds": scheduler.load_seconds(entry.id),
        "error": None if seen.error is None else payload_of(seen.error),
        "rooms": {name: asdict(room) for name, room in appraised.rooms.items()},
        **explain(replace(entry, launch=placed(entry.launch, placement, table))),
    }


def described(footprint: Footprint | None) -> Mapping[str, Any]:
    """Who says what a model needs, and what that is made of."""
    if footprint is None:
        return {"source": None, "parts": {}, "may_grow": {}, "doubts": []}
    limit = footprint.prompt_cache_limit
    return {
        "source": footprint.source.value,
        "parts": {name: asdict(parts) for name, parts in footprint.needs.items() if parts.total},
        "may_grow": {HOST: limit} if limit != 0 else {},
        "doubts": list(footprint.doubts),
    }


def _loss(scheduler: Scheduler, model: str, now: float) -> Plan:
    """Who would go, and what that costs."""
    used, inside = scheduler.last_used(model), scheduler.in_flight(model)
    return {
        "model": model,
        "idle": None if used is None or inside else now - used,
        "in_flight": inside,
        "load_seconds": scheduler.load_seconds(model),
        "frees": dict(scheduler.held().get(model, {})),
    }


def _why(model: str, seen: Foresight) -> str:
    match seen.verdict:
        case Verdict.LOADED:
            return f"{model} is loaded"
        case Verdict.LOADING:
            return f"{model} is being loaded"
        case Verdict.STARTS:
            return "there is room for it"
        case Verdict.EVICTS:
            return f"there is room for it once {_names(seen.evict)} {'is' if len(seen.evict) == 1 else 'are'} gone"
        case Verdict.REFUSED:
            return "it is refused" if seen.error is None else seen.error.message
        case Verdict.WAITS:
            return _why_it_waits(seen)


def _why_it_waits(seen: Foresight) -> str:
    when = f"in {seen.after:.3g} s" if seen.after else "now"
    if seen.evict:
        return f"{_names(seen.evict)} may go {when}, and no sooner"
    if seen.claim:
        verbs = "takes no newcomers, and goes" if len(seen.claim) == 1 else "take no newcomers, and go"
        return f"nobody is idle: {when} {_names(seen.claim)} {verbs} when the last answer has ended"
    return "nobody may go yet"


def _names(models: tuple[str, ...]) -> str:
    return models[0] if len(models) == 1 else f"{', '.join(models[:-1])} and {models[-1]}"
