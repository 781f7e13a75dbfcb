"""A house whose models need memory: virtual devices, other programs, lagging drivers, estimates that are wrong.

It checks at each start that the models' reserved bytes stay within the budget and that the devices, as they were last
seen, had the bytes; that no load dies of memory unless the world had changed or the estimate was wrong; that nobody is
refused who might be served, and that nobody younger takes what one needs who has waited for `max_wait`.
"""

from __future__ import annotations

from collections.abc import Mapping

from llamarouter.core.appraisals import REFRESH, STANDS
from llamarouter.core.errors import InsufficientMemory, ModelTooLarge
from llamarouter.core.events import Appraised, Command, Event, Exited, Forgotten, Ready, Refuse, Weighed
from llamarouter.core.memory import Placement
from llamarouter.core.scheduler import Limits, Phase
from tests.properties.house import House
from tests.properties.inhabitants import EXITS, Child, Fate
from tests.properties.machine import Device, Look


class CrowdedHouse(House):
    def __init__(
        self,
        limits: Limits,
        load_seconds: dict[str, float],
        devices: dict[str, Device],
        placements: Mapping[str, tuple[Placement, ...]],
        *,
        errors: Mapping[str, int] | None = None,  # percent of what is said to be needed; 100: the estimate is right
        delay: float = 0.0,  # seconds until an appraisal is answered
        cached: float = 0.0,  # seconds for which a look at the devices is used again
        weighs: float | None = None,  # seconds after a load until what the child holds is known; None: it never is
    ) -> None:
        super().__init__(limits, load_seconds)
        self.devices = devices
        self.placements = placements
        self.errors = errors or {}
        self.delay, self.cached, self.weighs = delay, cached, weighs
        self._look: Look | None = None
        self._seen: Look | None = None  # the last one that the scheduler was told of
        self._looks: dict[int, tuple[Appraised, Look]] = {}  # by the answer that the scheduler is still to be told
        self._known: set[str] = set()  # whose needs the scheduler has been told of, since their last start or refusal
        self._others_grew_at = float("-inf")
        self._wrong_until = float("-inf")  # drivers may show bytes of the dead that no estimate knew of
        self._asked_of: set[str] = set()  # of whom an answer is on its way; it counts for nothing for those who have
        self._void: set[str] = set()  # become others since
        self._told: dict[str, float] = {}  # by model: when the scheduler was told of its needs
        self._calm = False  # no child has come up or gone since the last question
        self._never_late = not cached and all(device.prompt for device in devices.values())

    # --- other programs -----------------------------------------------------------------------------------------------

    def crowd(self, device: str, size: int) -> None:
        """Other programs hold `size` of a device from now on, as far as it is free."""
        one = self.devices[device]
        size = min(size, one.others + one.free(self.now))
        if size > one.others:
            self._others_grew_at = self.now
        one.others = size
        for model, hunger in self.hunger.items():  # the bound begins anew
            hunger.by = max(hunger.by, self.now + self._bound(model))

    # --- appraisals ---------------------------------------------------------------------------------------------------

    def _appraise(self, model: str) -> None:
        calm = self._calm and model in self._known and self.now < self._told[model] + STANDS
        hurried = calm and self.now < max(self._told.values()) + REFRESH
        assert not hurried or not self._never_late, "looked again for the bytes of the dead where no device is late"
        self._calm = True
        self._asked_of.add(model)
        if self.delay:
            self._later(self.delay, lambda: self._answer(model))
        else:
            self._answer(model)

    def _answer(self, model: str) -> None:
        look = self._look
        if look is None or self.now >= look.at + self.cached:
            look = self._look = self._looked()
        answer = Appraised(model, self.placements[model], look.rooms, age=self.now - look.at)
        self._looks[id(answer)] = answer, look
        self.tell(answer)

    def _looked(self) -> Look:
        return Look(
            self.now,
            {name: device.room(self.now) for name, device in self.devices.items()},
            {name: device.others for name, device in self.devices.items()},
            {name: dict(device.taken) for name, device in self.devices.items()},
            frozenset(child.model for child in self.children.values() if child.phase is Phase.STARTING),
            tuple(child for child in self.children.values() if child.ready < self.now),
            any(self.now < until for device in self.devices.values() for until, _ in device.ghosts),
            {name: device.late(self.now, self.limits.lag) for name, device in self.devices.items()},
        )

    def _before(self, event: Event) -> None:
        if isinstance(event, Forgotten):
            self._known.discard(event.model)
            self._void |= self._asked_of & {event.model}
        if isinstance(event, Ready | Exited):
            self._calm = False
        if id(event) in self._looks:
            answer, self._seen = self._looks.pop(id(event))
            self._asked_of.discard(answer.model)
            self._told[answer.model] = self.now
            if answer.model not in self._void:
                self._known.add(answer.model)
            self._void.discard(answer.model)

    def _obey(self, command: Command) -> None:
        if isinstance(command, Refuse) and command.error is not EXITS[Fate.MEMORY][0]:
            model = self.requests[command.ticket].model
            if type(command.error) in (InsufficientMemory, ModelTooLarge):
                self._check_refusal(model, too_large=isinstance(command.error, ModelTooLarge))
                self._known.discard(model)
        super()._obey(command)

    # --- children -----------------------------------------------------------------------------------------------------

    def _start(self, model: str, placement: Placement | None) -> None:
        assert placement is not None, "started without a placement"
        assert self._seen is not None
        assert self.now <= self._seen.at + 2.0 + self.delay + self.cached, "started by an old look at the devices"
        self._check_room(placement, self._seen)
        self._check_overtaking(model, placement)
        self._known.discard(model)
        child = self._begin(model)
        child.needs = placement.needs
        percent = self.errors.get(model, 100)
        child.truth = {device: size * percent // 100 for device, size in self._asked(model, placement).items()}
        self._later(self.load_seconds[model] / 2, lambda: self._take(child, 2))

    def _asked(self, model: str, placement: Placement) -> Mapping[str, int]:
        """What its estimate says, without what a second try adds."""
        return next(one.needs for one in self.placements[model] if one.label == placement.label)

    def _take(self, child: Child, of: int) -> bool:
        if self.children.get(child.model) is not child or child.phase is not Phase.STARTING:
            return True
        had = [self.devices[device].take(child.model, size // of, self.now) for device, size in child.truth.items()]
        return all(had)

    def _loaded(self, child: Child, fate: Fate) -> None:
        alive = self.children.get(child.model) is child and child.phase is Phase.STARTING
        if alive and fate is not Fate.MEMORY and not self._take(child, 1):
            self._check_death(child)
            fate = Fate.MEMORY
        super()._loaded(child, fate)
        if self.weighs is not None and self.children.get(child.model) is child and child.phase is Phase.READY:
            self._later(self.weighs, lambda: self._weigh(child))

    def _weigh(self, child: Child) -> None:
        if self.children.get(child.model) is child:
            child.needs = child.truth
            self.tell(Weighed(child.model, child.truth))

    def _gone(self, child: Child) -> None:
        if self.errors.get(child.model, 100) > 100:
            self._wrong_until = self.now + max(device.lag for device in self.devices.values())
        for device in self.devices.values():
            device.leave(child.model, self.now)
        if self._look is not None and self._look.at == self.now:  # a real clock would have gone on between the two,
            self._look = None  # and told a look before an end from one after it
        super()._gone(child)

    # --- checks -------------------------------------------------------------------------------------------------------

    def _check_room(self, placement: Placement, seen: Look) -> None:
        for name, size in placement.needs.items():
            if not size:
                continue
            device, room = self.devices[name], seen.rooms[name]
            reserved = sum(child.needs.get(name, 0) for child in self.children.values())
            assert reserved + size <= device.limit, "more is reserved than the budget of a device"
            # What those have still to take who loaded then, or have been started since.
            due = sum(
                max(0, child.needs.get(name, 0) - seen.taken[name].get(child.model, 0))
                for child in self.children.values()
                if child.model in seen.loading or child.started >= seen.at
            )
            # Whose bytes those are that somebody holds beyond his estimate, nobody knows while others load.
            wrong = {model for model, percent in self.errors.items() if percent > 100}
            beyond = sum(
                size - size * 100 // self.errors[one] for one, size in seen.taken[name].items() if one in wrong
            )
            assert size + due <= room.free + beyond - device.reserve, "started into memory that was not free"

    def _check_death(self, child: Child) -> None:
        """A load died of memory: somebody must have taken what the books did not know of."""
        wrong = any(self.errors.get(model, 100) > 100 for model in self.children) or self.now <= self._wrong_until
        grew = self._others_grew_at >= child.started - 2.0 - self.delay - self.cached
        slow = any(device.lag > self.limits.lag for device in self.devices.values())
        assert wrong or grew or slow, "a load died of memory though every estimate was right"

    def _check_refusal(self, model: str, *, too_large: bool) -> None:
        assert self._seen is not None
        for placement in self.placements[model]:
            if too_large:
                short = any(size > self.devices[name].limit for name, size in placement.needs.items())
            else:
                short = self._seen.haunted or any(
                    size > self._most(name) for name, size in placement.needs.items() if size
                )
            assert short, f"{model} was refused though it might have had room"

    def _most(self, name: str, late: int = 0) -> int:
        """What could be had of a device if everything of ours went that may, and others held `late` more."""
        assert self._seen is not None
        device = self.devices[name]
        unknown = sum(
            max(0, size - self.children[model].needs.get(name, 0))
            for model, size in self._seen.taken[name].items()
            if model in self.children
        )
        pinned = sum(child.needs.get(name, 0) for child in self.children.values() if self._stays(child))
        others = self._seen.others[name] + unknown + late
        return min(device.limit, device.total - others - device.reserve) - pinned

    def _stays(self, child: Child) -> bool:
        return self.policy_of(child.model).pinned and child.phase is not Phase.STOPPING and child.drain_by is None

    def _check_overtaking(self, model: str, placement: Placement) -> None:
        """Whoever has wanted room for longest, and for `max_wait`, has it beside a younger one in the end."""
        if self.delay or self.cached:  # it may not be known yet what he needs
            return
        held = self.scheduler.living()
        wanting = [one for one in self.hunger if one in self._known - self.doomed and one not in held]
        oldest = min(wanting, key=lambda one: self.hunger[one].since, default=model)
        since = self.hunger[oldest].since if wanting else self.now
        # Its hunger may have begun anew, as the oldest who waited for it has left; its right is that of the next one.
        mine = min(one.arrived for lane in self.waiting[model].values() for one in lane.values())
        if oldest == model or since >= mine or self.now <= since + self.limits.max_wait:
            return
        if not self._might_be_served(oldest):
            return
        taken = {name: size for name, size in placement.needs.items() if size}
        beside = any(
            all(
                one.needs.get(name, 0) + size <= self._most(name, -self._overrated(name))
                for name, size in taken.items()
                if one.needs.get(name)
            )
            for one in self.placements[oldest]
        )
        assert beside, f"{model} took what {oldest} has waited for since {since}"

    def _might_be_served(self, model: str) -> bool:
        """Else it is on its way to a refusal, and nobody takes anything from it: what others hold (or seem to, where
        a driver is late), and what a pinned model will hold that has wanted room for longer and goes for nobody once it
        is there, does not leave as much as it needs. That comes when it is looked at, after those that start.
        """
        assert self._seen is not None
        late = self._seen.late
        since = self.hunger[model].since
        ahead = [
            one
            for one, hunger in self.hunger.items()
            if one != model
            and hunger.since <= since
            and one in self._known - self.doomed
            and self.policy_of(one).pinned
        ]
        return any(
            all(
                size + sum(max((way.needs.get(name, 0) for way in self._ways(one)), default=0) for one in ahead)
                <= self._most(name, late[name])
                for name, size in one.needs.items()
                if size
            )
            for one in self.placements[model]
        )

    def _ways(self, model: str) -> list[Placement]:
        """The placements of a model that could be had if everything went that may, partial ones only without others."""
        ways = [
            way
            for way in self.placements[model]
            if all(size <= self._most(name) for name, size in way.needs.items() if size)
        ]
        return [way for way in ways if not way.partial] or ways

    def _overrated(self, name: str) -> int:
        """What children hold less of a device than their books say, where no driver says whose bytes are whose.

        So much of what others hold looks like theirs, and as if it were free once they have gone. Until then nobody can
        know better: a younger one may have begun in it, and the older one waits for its turn. That does not go on:
        whoever begins in it holds a part of it, so the next time there is less.
        """
        assert self._seen is not None
        if self.devices[name].says_whose:
            return 0
        taken = self._seen.taken[name]
        return sum(max(0, child.needs.get(name, 0) - taken.get(child.model, 0)) for child in self._seen.loaded)

    def _check_priority(self, victim: Child) -> None:
        """Nobody goes whose bytes another one of lower priority has too, on every device."""
        priority = self.policy_of(victim.model).priority
        for child in self.children.values():
            if child is victim or not self._may_go(child) or not self._may_go(victim):
                continue
            as_much = all(child.needs.get(name, 0) >= size for name, size in victim.needs.items())
            assert not as_much or priority <= self.policy_of(child.model).priority

    def _check_places(self, held: set[str]) -> None:
        wanting = [model for model in self.load_seconds if self._waits(model) and model not in self.doomed]
        claimed = [model for model in self.children if self.scheduler.is_claimed(model) and not self._stops(model)]
        assert not claimed or any(not self._is_open(self.children.get(model)) for model in wanting), (
            "a claim for nobody"
        )

    def _bound(self, model: str) -> float:
        """As in `docs/fairness.md`: everybody may be ahead, and each step may wait for a look at the devices."""
        step = 2 * (self.delay + self.cached + 1.0) + self.limits.lag + max(one.lag for one in self.devices.values())
        others = [other for other in self.load_seconds if other != model]
        once = (
            sum(self._load(other) + self.load_seconds[other] + self._end_seconds + step for other in others)
            + self._end_seconds
            + self._load(model)
            + step
        )
        return self.limits.max_wait + 2 * once
