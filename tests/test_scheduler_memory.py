"""Stories of the scheduler that looks at memory: who is let in, what is held until when, who goes, who is refused."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import pytest

from llamarouter.core.events import Appraise, Appraised, Event, PolicySet, Refuse, Start, Weighed
from llamarouter.core.memory import Placement, Room
from llamarouter.core.policy import Policy
from llamarouter.core.scheduler import Limits, Phase, Scheduler
from tests.stories import MEMORY, ask, evict, gone, grant, left, play, ready, refuse, release, stop, tick, unload

GPU, OTHER = "CUDA0", "CUDA1"


def by_memory(**limits: float) -> Scheduler:
    return Scheduler(Limits(**{"models_max": 0, "by_memory": True, **limits}))  # type: ignore[arg-type]


def needs(*sizes: int, partial: bool = False, label: str = "") -> Placement:
    return Placement(dict(zip((GPU, OTHER), sizes, strict=False)), partial=partial, label=label)


@dataclass
class World:
    """The devices of a story: what is free is said with each answer."""

    total: int = 24
    sizes: Mapping[str, int] = field(default_factory=lambda: {"a": 10, "b": 10, "c": 10, "small": 4, "big": 20})
    says_whose: bool = True
    budget: int | None = None
    reserve: int = 0

    def answer(self, model: str, free: int, *placements: Placement, ours: int | None = None, age: float = 0.0) -> Event:
        """`ours`: what our children hold; told only by drivers that say so."""
        room = Room(self.total, free, ours if self.says_whose else None, self.budget, self.reserve)
        return Appraised(model, placements or (self.way(model),), {GPU: room}, age=age)

    def way(self, model: str) -> Placement:
        return needs(self.sizes[model])

    def start(self, model: str) -> Start:
        return Start(model, self.way(model))


WORLD = World()
answer, start = WORLD.answer, WORLD.start


def loaded(*models: str, busy: bool = False, world: World = WORLD, **limits: float) -> Scheduler:
    """A scheduler in which these models came up at 1, 2, 3 ... s, each within a second, and were used until then."""
    scheduler = by_memory(**limits)
    held = 0
    for number, model in enumerate(models, start=1):
        play(
            scheduler,
            (number - 1, ask(100 + number, model), Appraise(model)),
            (number - 1, world.answer(model, world.total - held, ours=held), world.start(model)),
            (number, ready(model), grant(100 + number, model)),
        )
        held += world.sizes[model]
        if not busy:
            play(scheduler, (number, release(100 + number)))
    return scheduler


# --- admission ---


def test_what_fits_beside_the_others_is_started_and_holds_its_bytes_from_then_on() -> None:
    play(
        loaded("a"),
        (5, ask(1, "b"), Appraise("b")),
        (5, answer("b", 14, ours=10), start("b")),
        # the devices do not show yet what b will take
        (5, ask(2, "small"), Appraise("small")),
        (5, answer("small", 14, ours=10), start("small")),
        (5, ask(3, "c"), Appraise("c")),
        (5, answer("c", 14, ours=10), evict("a")),
    )


def test_a_want_that_is_being_appraised_keeps_its_place() -> None:
    play(
        by_memory(models_max=1),
        (0, ask(1, "a"), Appraise("a")),
        (0, ask(2, "b"), Appraise("b")),
        (0.1, answer("b", 24, ours=0)),
        (0.2, answer("a", 24, ours=0), start("a")),
    )


def test_the_first_placement_that_fits_is_taken() -> None:
    first, second = needs(20, 0, label="CUDA0"), needs(0, 20, label="CUDA1")
    scheduler = by_memory()
    rooms = {GPU: Room(24, 24, 0), OTHER: Room(24, 24, 0)}
    play(
        scheduler,
        (0, ask(1, "x"), Appraise("x")),
        (0, Appraised("x", (first, second), rooms), Start("x", first)),
        (0, ask(2, "y"), Appraise("y")),
        (0, Appraised("y", (first, second), rooms), Start("y", second)),
    )


def test_a_partial_placement_is_taken_only_where_no_other_could_ever_fit() -> None:
    whole, part = needs(20, label="all"), needs(4, partial=True, label="some")
    play(
        loaded("a"),
        (5, ask(1, "x"), Appraise("x")),
        (5, answer("x", 14, whole, part, ours=10), evict("a")),
    )
    play(
        loaded("a"),
        (5, ask(1, "x"), Appraise("x")),
        (5, answer("x", 6, whole, part, ours=10), Start("x", part)),  # others hold 8, so 16 is all that there can be
    )


@pytest.mark.parametrize(("budget", "reserve"), [(16, 0), (None, 8), (18, 2)])
def test_budget_and_reserve_are_kept(budget: int | None, reserve: int) -> None:
    world = World(budget=budget, reserve=reserve)
    play(
        loaded("a", world=world),
        (5, ask(1, "small"), Appraise("small")),
        (5, world.answer("small", 14, ours=10), start("small")),
        (6, ready("small"), grant(1, "small")),
        (7, release(1)),
        (8, ask(2, "b"), Appraise("b")),
        (8, world.answer("b", 10, ours=14), evict("a")),
    )


def test_a_model_counts_as_what_it_weighs() -> None:
    play(
        loaded("a"),
        (5, Weighed("a", {GPU: 16})),
        (5, ask(1, "b"), Appraise("b")),
        (5, answer("b", 8, ours=16), evict("a")),
    )
    play(
        loaded("a"),
        (5, Weighed("a", {GPU: 4})),
        (5, Weighed("nobody", {GPU: 4})),
        (5, ask(1, "big"), Appraise("big")),
        (5, answer("big", 20, ours=4), start("big")),
    )


def test_what_a_model_is_found_to_hold_more_is_not_others_besides() -> None:
    """By the look from before it was: 3 of nobody's knowing. Who waits is not refused for them."""
    scheduler = loaded("small")
    play(
        scheduler,
        (5, ask(1, "a"), Appraise("a")),
        (5, answer("a", 20, ours=4), start("a")),
        (6, ready("a"), grant(1, "a")),
        (6, ask(2, "small"), grant(2, "small")),
        (6, PolicySet({"a": Policy(pinned=True)})),
        (7, ask(3, "c"), Appraise("c")),
        (7, answer("c", 7, needs(11), ours=17)),
        (7.5, Weighed("a", {GPU: 13})),
        (7.9, release(2), evict("small")),
    )


def test_where_the_driver_does_not_say_whose_bytes_are_whose_a_load_counts_twice_until_it_is_ready() -> None:
    world = World(says_whose=False)
    play(
        loaded("a", world=world),
        (5, ask(1, "small"), Appraise("small")),
        (5, world.answer("small", 14), start("small")),
        (5, ask(2, "b"), Appraise("b")),
        # small has taken its 4 already: the 10 that are free may or may not be all that is left
        (5.1, world.answer("b", 10)),
        (5.9, ready("small"), grant(1, "small"), Appraise("b")),
        (6, world.answer("b", 10), start("b")),
    )


def test_a_look_that_is_older_than_a_start_does_not_give_its_bytes_away() -> None:
    world = World(says_whose=False)
    play(
        by_memory(),
        (0, ask(1, "a"), Appraise("a")),
        (0, world.answer("a", 24), start("a")),
        (1, ready("a"), grant(1, "a")),
        (1.2, ask(2, "big"), Appraise("big")),
        (1.2, world.answer("big", 24, age=0.9)),
    )


# --- what is freed ---


def test_bytes_are_free_when_the_process_is_gone_and_the_device_shows_it() -> None:
    play(
        loaded("a", "b"),
        (5, ask(1, "c"), Appraise("c")),
        (5, answer("c", 4, ours=20), evict("a")),
        (5.5, gone("a"), Appraise("c")),
        (5.6, answer("c", 4, ours=10)),  # not yet
        (5.65, tick),
        (5.7, tick, Appraise("c")),
        (5.7, answer("c", 14, ours=10), start("c")),
    )


def test_a_driver_that_never_shows_it_is_believed_after_the_lag() -> None:
    scheduler = play(
        loaded("a", "b", lag=2.0),
        (5, ask(1, "c"), Appraise("c")),
        (5, answer("c", 4, ours=20), evict("a")),
        (5.5, gone("a"), Appraise("c")),
        (5.6, answer("c", 4, ours=10)),
        (7.4, tick, Appraise("c")),
        (7.5, answer("c", 4, ours=10), evict("b")),  # these bytes are somebody else's, it seems
    )
    assert scheduler.phase_of("c") is Phase.ABSENT


def test_what_is_being_freed_is_not_freed_twice() -> None:
    play(
        loaded("a", "b", "small"),
        (5, ask(1, "c"), Appraise("c")),
        (5, answer("c", 0, ours=24), evict("a")),
        (6, tick, Appraise("c")),
        (6, answer("c", 0, ours=24)),
        (7, gone("a"), Appraise("c")),
        (7, answer("c", 10, ours=14), start("c")),
    )


# --- who goes ---


def test_no_more_go_than_are_needed_and_the_one_that_suffices_before_two_that_do() -> None:
    world = World(sizes={"a": 4, "b": 4, "large": 12, "c": 8})
    play(
        loaded("a", "b", "large", world=world),
        (9, ask(1, "c"), Appraise("c")),
        (9, world.answer("c", 4, ours=20), evict("a")),
    )
    play(
        loaded("a", "b", "large", world=world),
        (9, ask(1, "x"), Appraise("x")),
        (9, world.answer("x", 4, needs(14), ours=20), evict("large")),
    )


def test_what_took_long_to_load_stays() -> None:
    scheduler = loaded("a", "b")
    policies = PolicySet({"a": Policy(load_seconds=60.0), "b": Policy(load_seconds=2.0)})
    play(
        scheduler,
        (4, policies),
        (5, ask(1, "c"), Appraise("c")),
        (5, answer("c", 4, ours=20), evict("b")),
    )


def test_at_models_max_the_least_recently_used_goes_whatever_it_cost() -> None:
    scheduler = loaded("small", "a", models_max=2)
    policies = PolicySet({"small": Policy(load_seconds=600.0), "a": Policy(load_seconds=1.0)})
    play(
        scheduler,
        (4, policies),
        (5, ask(1, "b"), Appraise("b")),
        (5, answer("b", 10, ours=14), evict("small")),
    )


def test_a_busy_one_is_claimed_by_its_bytes_after_max_wait() -> None:
    scheduler = play(
        loaded("a", "small", busy=True),
        (3, ask(1, "big"), Appraise("big")),
        (3, answer("big", 10, ours=14)),
        (12.9, tick, Appraise("big")),
        (12.9, answer("big", 10, ours=14)),
        (13, tick),
    )
    assert scheduler.is_claimed("a")
    assert not scheduler.is_claimed("small")  # its bytes are not needed: big fits beside it
    play(
        scheduler,
        (13.5, release(101), evict("a")),
        (13.7, gone("a"), Appraise("big")),
        (13.8, answer("big", 20, ours=4), start("big")),
    )


def test_pinned_and_fresh_models_do_not_go() -> None:
    scheduler = loaded("a", "b")
    play(
        scheduler,
        (3, PolicySet({"a": Policy(pinned=True)})),
        (5, ask(1, "c"), Appraise("c")),
        (5, answer("c", 4, ours=20), evict("b")),
    )
    play(
        by_memory(),
        (0, ask(1, "a"), Appraise("a")),
        (0, answer("a", 24, ours=0), start("a")),
        (4, ready("a"), grant(1, "a")),
        (5, release(1)),
        (5, ask(2, "big"), Appraise("big")),
        (5, answer("big", 14, ours=10)),
        (6, tick, Appraise("big")),
        (6, answer("big", 14, ours=10)),
        (8, tick, evict("a"), Appraise("big")),
    )


# --- who is refused ---


def refusal_of(scheduler: Scheduler, event: Event, now: float) -> Refuse:
    (refused,) = scheduler.handle(event, now)
    assert isinstance(refused, Refuse)
    return refused


def test_what_needs_all_there_is_is_not_refused_because_others_have_taken_a_page_since() -> None:
    play(
        loaded("a"),
        (5, ask(1, "x"), Appraise("x")),
        (5, answer("x", 14, needs(24), ours=10), evict("a")),
        (5.1, ask(2, "small"), Appraise("small")),
        (5.1, answer("small", 13, ours=10), start("small")),  # x can have no more than 23 by this look
        (5.2, gone("a"), Appraise("x")),
        (5.2, answer("x", 23, needs(23), ours=0)),  # and makes do with that
        (6, ready("small"), grant(2, "small"), Appraise("x")),
        (6, answer("x", 19, needs(24), ours=4), refuse(1, "insufficient_memory")),
    )


def test_whoever_would_be_refused_by_a_look_for_others_is_the_next_for_whom_somebody_looks() -> None:
    play(
        loaded("a", busy=True, max_wait=100),
        (5, ask(1, "big"), Appraise("big")),
        (5, answer("big", 14, ours=10)),
        (5, ask(2, "x"), Appraise("x")),
        (5, answer("x", 14, needs(24), ours=10)),
        (5.1, ask(3, "small"), Appraise("small")),
        (5.1, answer("small", 13, ours=10), start("small")),
        (6.1, tick, Appraise("x")),
        (6.1, answer("x", 13, needs(23), ours=10)),
    )


def test_what_can_never_fit_is_refused_at_once_with_the_numbers() -> None:
    scheduler = loaded("a")
    scheduler.handle(ask(1, "x"), 5)
    gib = 1 << 30
    room = {GPU: Room(24 * gib, 24 * gib, 0, budget=20 * gib, reserve=gib)}
    refused = refusal_of(scheduler, Appraised("x", (needs(30 * gib), needs(22 * gib)), room), 5)
    assert (refused.error.status, refused.error.reason, refused.error.should_retry) == (
        507,
        "insufficient_memory",
        False,
    )
    assert refused.error.message == (
        "model 'x' needs 22.0 GiB of CUDA0, of which models may hold 19.0 GiB"
        " (24.0 GiB in all, a budget of 20.0 GiB, 1.0 GiB in reserve)"
    )


def test_what_others_and_pinned_models_leave_no_room_for_is_told_to_come_back() -> None:
    gib = 1 << 30
    world = World(total=24 * gib, sizes={"a": 10 * gib, "small": 4 * gib, "big": 20 * gib})
    scheduler = loaded("a", "small", world=world)
    play(scheduler, (4, PolicySet({"small": Policy(pinned=True)})), (5, ask(1, "big"), Appraise("big")))
    refused = refusal_of(scheduler, world.answer("big", 5 * gib, ours=14 * gib), 5)
    assert (refused.error.status, refused.error.reason, refused.error.retry_after) == (503, "insufficient_memory", 10.0)
    assert refused.error.message == (
        "model 'big' needs 20.0 GiB of CUDA0, of which no more than 15.0 GiB can be had now:"
        " models that are pinned (small) hold 4.0 GiB and other programs hold 5.0 GiB"
    )


def test_what_is_held_by_those_that_may_go_is_waited_for() -> None:
    play(loaded("a", "b", busy=True), (5, ask(1, "big"), Appraise("big")), (5, answer("big", 4, ours=20)))


# --- who may overtake ---


def test_a_small_one_goes_in_while_a_big_one_waits_for_a_busy_one_until_that_has_waited_long_enough() -> None:
    world = World(sizes={"a": 10, "big": 22, "small": 4, "tiny": 2})
    scheduler = play(
        loaded("a", busy=True, world=world),
        (3, ask(1, "big"), Appraise("big")),
        (3, world.answer("big", 14, ours=10)),
        (3.5, ask(2, "small"), Appraise("small")),
        (3.5, world.answer("small", 14, ours=10), world.start("small")),
        (3.9, ready("small"), grant(2, "small"), Appraise("big")),
        (3.9, world.answer("big", 10, ours=14)),
        (4.5, release(2)),
        (12.5, tick, Appraise("big")),
        (12.5, world.answer("big", 10, ours=14)),
        (13, tick),
    )
    assert scheduler.is_claimed("a")
    assert scheduler.phase_of("small") is Phase.READY  # idle, but its bytes alone are of no use yet
    play(
        scheduler,
        (13, ask(3, "b"), Appraise("b")),
        (13, world.answer("b", 10, needs(4), ours=14)),  # it is free, and big waits for it
        (13, ask(4, "tiny"), Appraise("tiny")),
        (13, world.answer("tiny", 10, ours=14), world.start("tiny")),  # it fits beside big
    )


def test_what_one_takes_is_kept_for_the_next_who_has_waited_long_enough_not_for_a_younger_one() -> None:
    """In the same moment, too: `b` comes after `a`, whose bytes it needs, and `small` after `b`."""
    world = World(sizes={"big": 20, "a": 10, "b": 17, "small": 8})
    play(
        loaded("big", busy=True, world=world, max_wait=0.0),
        (5, ask(1, "a"), Appraise("a")),
        (5, world.answer("a", 4, ours=20)),
        (5, ask(2, "b"), Appraise("b")),
        (5, world.answer("b", 4, ours=20)),
        (5, ask(3, "small"), Appraise("small")),
        (5, world.answer("small", 4, ours=20)),
        (5.5, gone("big", MEMORY), Appraise("a")),
        (5.5, world.answer("a", 24, ours=0), world.start("a")),
    )


def test_bytes_that_are_being_freed_for_one_are_not_taken_by_a_younger_one() -> None:
    play(
        loaded("a", "small"),
        (5, ask(1, "big"), Appraise("big")),
        (5, answer("big", 10, ours=14), evict("a")),
        (5, ask(2, "b"), Appraise("b")),
        (5, answer("b", 10, ours=14)),
        (5.5, gone("a"), Appraise("big")),
        (5.5, answer("big", 20, ours=4), start("big")),
    )


# --- a second try ---


def test_beside_bytes_that_may_be_nobodys_a_younger_one_takes_nothing_that_an_older_one_may_need() -> None:
    """14 are in use: 10 of the dead and 4 of others, or 6 and 8. Then there is room for the older one, not for both."""
    world = World(sizes={"a": 10, "big": 16, "small": 4})
    play(
        loaded("a", world=world),
        (5, unload("a", 9), stop("a")),
        (6, gone("a")),
        (6, ask(1, "big"), Appraise("big")),
        (6, world.answer("big", 10, ours=0)),
        (6, ask(2, "small"), Appraise("small")),
        (6, world.answer("small", 10, ours=0)),
        (6.1, tick, Appraise("big")),
        (6.1, world.answer("big", 16, ours=0), world.start("big")),
    )


def test_on_a_prompt_device_nobody_hurries_to_look_for_bytes_of_the_dead() -> None:
    """What it shows is others': there is a look after the end, and then one each second, as without."""

    def answer(model: str, free: int, ours: int) -> Event:
        return Appraised(model, (WORLD.way(model),), {GPU: Room(32, free, ours, prompt=True)})

    play(
        loaded("b"),
        (5, ask(1, "a"), Appraise("a")),
        (5, answer("a", 22, 10), start("a")),
        (6, ready("a"), grant(1, "a")),
        (7, ask(2, "big"), Appraise("big")),
        (7, answer("big", 12, 20), evict("b")),
        (7.5, gone("b"), Appraise("big")),
        (7.5, answer("big", 12, 10)),  # somebody else has taken its bytes at once
        (8.4, tick),
        (8.5, tick, Appraise("big")),
    )


def test_a_load_that_dies_of_memory_evicts_one_more_and_asks_for_more() -> None:
    scheduler = play(
        loaded("a"),
        (5, ask(1, "b"), Appraise("b")),
        (5, answer("b", 14, ours=10), start("b")),
        (6, gone("b", MEMORY), evict("a")),
        (7, gone("a"), Appraise("b")),
        (7, answer("b", 24, ours=0), Start("b", needs(13))),
        (8, gone("b", MEMORY), refuse(1, "insufficient_memory")),
    )
    play(
        scheduler,
        (20, ask(2, "b"), Appraise("b")),
        (20, answer("b", 24, ours=0), start("b")),
    )


def test_a_second_try_that_cannot_have_more_room_gets_what_there_is() -> None:
    play(
        loaded("small"),
        (5, ask(1, "big"), Appraise("big")),
        (5, answer("big", 20, ours=4), start("big")),
        (6, gone("big", MEMORY), evict("small")),
        (7, gone("small"), Appraise("big")),
        (7, answer("big", 24, ours=0), start("big")),  # 25 would be asked for, of 24
    )


def test_who_holds_nothing_of_what_was_short_does_not_go_for_a_second_try() -> None:
    scheduler = by_memory()
    rooms = {GPU: Room(24, 24, 0), OTHER: Room(24, 24, 0)}
    play(
        scheduler,
        (0, ask(1, "x"), Appraise("x")),
        (0, Appraised("x", (needs(0, 4),), rooms), Start("x", needs(0, 4))),
        (1, ready("x"), grant(1, "x")),
        (2, release(1)),
        (5, ask(2, "b"), Appraise("b")),
        (5, Appraised("b", (needs(10, 0),), rooms), Start("b", needs(10, 0))),
        (6, gone("b", MEMORY), refuse(2, "insufficient_memory")),
    )


# --- how often is asked ---


def test_while_somebody_waits_for_bytes_the_devices_are_looked_at_every_second_by_one_of_them() -> None:
    scheduler = play(
        loaded("a", "b", busy=True),
        (3, ask(1, "c"), Appraise("c")),
        (3, ask(2, "big"), Appraise("big")),
        (6.5, answer("c", 4, ours=20)),
        (6.6, answer("big", 4, ours=20)),
    )
    assert scheduler.deadline() == pytest.approx(7.6)
    play(scheduler, (7.6, tick, Appraise("c")), (7.7, tick))
    assert scheduler.deadline() == 13  # an answer is on its way
    play(
        scheduler,
        (8, answer("c", 4, ours=20)),
        (8, left(1)),
        (8, left(2)),
        (9, tick),
    )
    assert scheduler.deadline() is None


def test_nothing_starts_by_an_old_appraisal() -> None:
    scheduler = play(
        loaded("a", "b", busy=True),
        (3, ask(1, "c"), Appraise("c")),
        (3, answer("c", 4, ours=20)),
        (4, tick, Appraise("c")),
        (
            6.5,
            gone("a"),
        ),
    )
    assert scheduler.phase_of("c") is Phase.ABSENT
    play(scheduler, (6.6, answer("c", 14, ours=10), start("c")))


def test_no_more_than_eight_wants_are_looked_at() -> None:
    scheduler = by_memory()
    for number in range(10):
        asked = scheduler.handle(ask(number, f"m{number}"), 0)
        assert asked == ([Appraise(f"m{number}")] if number < 8 else [])
    rooms = {GPU: Room(24, 24, 0)}
    assert scheduler.handle(Appraised("m0", (needs(2),), rooms), 0) == [Start("m0", needs(2)), Appraise("m8")]


def test_an_unload_frees_its_bytes_for_who_waits() -> None:
    play(
        loaded("a", "b", busy=True),
        (3, ask(1, "c"), Appraise("c")),
        (3, answer("c", 4, ours=20)),
        (3.5, unload("a", 10)),
        (3.8, release(101), stop("a")),
        (3.9, gone("a"), Appraise("c")),
        (3.9, answer("c", 14, ours=10), start("c")),
        (5, ready("c"), grant(1, "c")),
    )
