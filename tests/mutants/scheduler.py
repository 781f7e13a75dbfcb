"""Mutants of the scheduler: each is one mistake that somebody could make, as a change of its text."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Mutant:
    what: str
    file: str  # in llamarouter/core
    old: str
    new: str


MUTANTS = (
    # --- who gets room
    Mutant(
        "a younger one takes what was promised",
        "eviction.py",
        "if fits(way.needs, self._sure) and fits(way.needs, self._firm):",
        "if fits(way.needs, self._sure):",
    ),
    Mutant(
        "what is being freed is taken as free",
        "eviction.py",
        "if fits(way.needs, self._sure) and fits(way.needs, self._firm):",
        "if fits(way.needs, self._firm):",
    ),
    Mutant(
        "a younger one takes what the older one needs if late bytes are others'",
        "eviction.py",
        "if fits(way.needs, self._sure) and fits(way.needs, self._firm):",
        "if fits(way.needs, self._sure) and fits(way.needs, self._later):",
    ),
    Mutant(
        "a partial placement is as good as any",
        "eviction.py",
        "return [way for way in ways if not way.placement.partial] or ways",
        "return ways",
    ),
    Mutant(
        "nobody is refused for want of memory",
        "eviction.py",
        "for one in want.placements if fits(one.needs, most)]",
        "for one in want.placements]",
    ),
    Mutant(
        "a busy one is claimed at once",
        "eviction.py",
        "if self._now < want.since + self._max_wait or not self._claims(want, ways):",
        "if not self._claims(want, ways):",
    ),
    Mutant(
        "what an end may have freed unseen makes a want forget what it has waited for",
        "eviction.py",
        "self._must_wait(want, before or ways)",
        "self._must_wait(want, ways)",
    ),
    Mutant(
        "what an evicted set frees is not promised",
        "eviction.py",
        "        self._use(victims)\n        self._evict += [one.model for one in victims]\n"
        "        self._promise(ways[index].needs)\n",
        "        self._use(victims)\n        self._evict += [one.model for one in victims]\n",
    ),
    Mutant(
        "what a claim frees is not promised",
        "eviction.py",
        "        self._use(chosen)\n        self._promise(ways[index].needs)\n",
        "        self._use(chosen)\n",
    ),
    Mutant(
        "an old appraisal is started by",
        "eviction.py",
        "                if want.fresh:\n",
        "                if True:\n",
    ),
    Mutant(
        "what has been chosen once can be chosen again",
        "eviction.py",
        "                if one in pool:\n",
        "                if False:\n",
    ),
    Mutant(
        "claims are never given back",
        "eviction.py",
        "release=tuple(one.model for one in self._claimed if one.model not in self._needed)",
        "release=()",
    ),
    Mutant(
        "a want that is being appraised holds no place",
        "eviction.py",
        "            self._promise(_A_PLACE, sure=want.model not in self._here)\n",
        "",
    ),
    # --- who goes
    Mutant(
        "pinned models go",
        "victims.py",
        "return not resident.policy.pinned and now >= resident.keeps_until",
        "return now >= resident.keeps_until",
    ),
    Mutant(
        "fresh models go",
        "victims.py",
        "return not resident.policy.pinned and now >= resident.keeps_until",
        "return not resident.policy.pinned",
    ),
    Mutant(
        "busy models are evicted",
        "victims.py",
        "one.is_open and not one.in_flight and may_go(one, now)",
        "one.is_open and may_go(one, now)",
    ),
    Mutant(
        "at models-max the cheapest goes",
        "victims.py",
        "        if lacking.keys() == {PLACES}:\n",
        "        if False:\n",
    ),
    Mutant("loads cost nothing", "victims.py", "return (load + 1.0) / (", "return 1.0 / ("),
    Mutant("idle time counts for nothing", "victims.py", "(max(0.0, now - resident.idle_since) + 1.0)", "1.0"),
    Mutant("who is not needed goes too", "victims.py", "            kept = others\n", "            pass\n"),
    Mutant("priorities are forgotten", "victims.py", "if losses[one.model][0] <= rank]", "if True]"),
    # --- what is there
    Mutant(
        "bytes are free before anybody has looked",
        "holdings.py",
        "sure[device] = seen - hidden - held - reserve",
        "sure[device] = seen - held - reserve",
    ),
    Mutant(
        "what the living hold is not counted",
        "holdings.py",
        "sure[device] = seen - hidden - held - reserve",
        "sure[device] = seen - hidden - reserve",
    ),
    Mutant(
        "the reserve is given away",
        "holdings.py",
        "sure[device] = seen - hidden - held - reserve",
        "sure[device] = seen - hidden - held",
    ),
    Mutant(
        "the budget is no bound",
        "holdings.py",
        "            if view.room.budget is not None:\n",
        "            if False:\n",
    ),
    Mutant(
        "a load counts as ready",
        "holdings.py",
        "was_ready = resident.slots > 0 and resident.ready_at < at",
        "was_ready = True",
    ),
    Mutant(
        "a look says of a load what came after it",
        "holdings.py",
        "was_ready = resident.slots > 0 and resident.ready_at < at",
        "was_ready = resident.slots > 0",
    ),
    Mutant(
        "what children hold beyond the books is free",
        "holdings.py",
        "used - min(room.ours, held + loading)",
        "used - room.ours",
    ),
    Mutant(
        "the bytes of the dead are others'",
        "holdings.py",
        "phantom = min(view.others, view.loading + gone - hidden)",
        "phantom = 0",
    ),
    Mutant(
        "what may be nobody's is firm",
        "holdings.py",
        "firm[device] = min(limit, seen) + coming",
        "firm[device] = min(limit, seen + phantom) + coming",
    ),
    Mutant(
        "what one device shows of the dead all do",
        "holdings.py",
        "if size and self._is_shown(one, device, size)}",
        "if any(self._is_shown(one, *each) for each in one.needs.items())}",
    ),
    Mutant(
        "a prompt device shows the dead, too",
        "holdings.py",
        "if view is None or view.room.prompt:",
        "if view is None:",
    ),
    Mutant("a GPU that shares Host is prompt", "rooms.py", "prompt=plain and not device", "prompt=not device"),
    Mutant("a late driver is believed for ever", "holdings.py", "if now < self._forgiven_at(one)]", "if True]"),
    Mutant(
        "an end frees its bytes at once",
        "holdings.py",
        "        if any(resident.needs.values()):\n",
        "        if False:\n",
    ),
    Mutant(
        "what an older want takes at this moment is not waited for by the next",
        "eviction.py",
        "                self._promise(way.needs, sure=True)\n                self._foresee(want, way)\n",
        "                self._promise(way.needs, sure=True)\n",
    ),
    Mutant(
        "what an older want will take of busy ones is not waited for by the next",
        "eviction.py",
        "for device, size in firm.items()}\n        self._foresee(want, ways[index])\n",
        "for device, size in firm.items()}\n",
    ),
    Mutant(
        "what an older want will take of what is being freed is not waited for by the next",
        "eviction.py",
        "                    self._foresee(want, way)\n",
        "",
    ),
    Mutant(
        "what is left beside the second in line is anybody's before the first has begun",
        "eviction.py",
        "        if any(one in self._coming for one in chosen):\n",
        "        if False:\n",
    ),
    Mutant(
        "a pinned model that is still to begin is thought to go",
        "eviction.py",
        "if want.placements is not ANYWHERE and not want.pinned:",
        "if want.placements is not ANYWHERE:",
    ),
    Mutant(
        "pinned models are thought to go",
        "holdings.py",
        "staying = reserve + pinned.get(device, 0)",
        "staying = reserve",
    ),
    Mutant(
        "a model is never weighed", "allotment.py", "            resident.needs = event.needs\n", "            pass\n"
    ),
    Mutant(
        "what is weighed counts twice until the next look",
        "allotment.py",
        "            self._holdings.weighed(self._residents.values())\n",
        "",
    ),
    # --- appraisals
    Mutant("appraisals stand for ever", "appraisals.py", "STANDS = 2.0", "STANDS = 2e9"),
    Mutant("a second try asks for no more", "appraisals.py", "_RAISE = 5, 4", "_RAISE = 1, 1"),
    Mutant("nobody looks ahead", "appraisals.py", "LOOK_AHEAD = 8", "LOOK_AHEAD = 1"),
    Mutant("ends and loads ask for no look", "appraisals.py", "        self._changed = True\n", "        pass\n"),
    Mutant(
        "an answer about a changed model is believed",
        "appraisals.py",
        "            self._void.add(model)\n",
        "            pass\n",
    ),
    # --- when
    Mutant(
        "a load is tried for ever",
        "scheduler.py",
        "if failed.attempt > 1 or victim is None or",
        "if victim is None or",
    ),
    Mutant(
        "anybody goes for a second try",
        "allotment.py",
        "if any(one.needs.get(device) for device in scarce)), None)",
        "), None)",
    ),
    Mutant(
        "nobody gains by an end",
        "scheduler.py",
        "        return resident.in_flight > 0 or (resident.leaving",
        "        return True or (resident.leaving",
    ),
    Mutant(
        "a turn is never over before its time",
        "scheduler.py",
        "if any(before < since <= after for since in self._wanted):",
        "if False:",
    ),
    Mutant(
        "a claimed model that crashes goes to the end",
        "scheduler.py",
        "            if resident.leaving is None:  # else",
        "            if True:  # else",
    ),
    Mutant(
        "a claimed model that is unloaded goes to the end",
        "scheduler.py",
        "            if before is None:\n",
        "            if True:\n",
    ),
    Mutant(
        "nobody's patience ends",
        "scheduler.py",
        "        if now < self._patience:\n            return\n",
        "        return\n",
    ),
    Mutant(
        "a crowd of wants hides a hopeless one",
        "scheduler.py",
        "return not self._crowded or self._cooldowns.is_hopeless(model)",
        "return not self._crowded",
    ),
    Mutant(
        "the order of wants is that of their first look",
        "waiting.py",
        "                if mark == listed:\n",
        "                if True:\n",
    ),
    Mutant(
        "a claimed model keeps its turn",
        "waiting.py",
        "            line.barred = mark\n",
        "            pass\n",
    ),
)
