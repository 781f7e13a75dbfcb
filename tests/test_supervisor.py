"""The supervisor with a real scheduler and children that do as they are told: leases, waits, ends and their order."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field

import pytest

from llamarouter.core.causes import Cause
from llamarouter.core.errors import ModelCrashed, ModelInvalid, ModelUnloaded, NotLoaded, RouterError
from llamarouter.core.events import Appraised, Command, Event, TimePassed
from llamarouter.core.exits import Exit
from llamarouter.core.flags import OptionTable
from llamarouter.core.footprint import Footprint
from llamarouter.core.launch import Launch
from llamarouter.core.memory import Placement, Room
from llamarouter.core.scheduler import Limits, Phase, Scheduler
from llamarouter.host.child_log import LogRing
from llamarouter.host.engine import Engine, EngineKind
from llamarouter.host.process import ChildObserver, ReadyChild
from llamarouter.relay.switchboard import Outcome, Wait
from llamarouter.server.child import Child, Lease
from llamarouter.server.feed import Feed
from llamarouter.server.supervisor import Supervisor
from tests.waiting import until

pytestmark = pytest.mark.anyio

DONE = Outcome(200, complete=True, client_left=False, tail=b'{"timings":{"predicted_per_second": 12.5}}')
ENGINE = Engine(
    command=("llama-server",),
    kind=EngineKind.COMPILED,
    origin="test",
    build="b1",
    unix_socket=True,
    state_lines=True,
    table=OptionTable(()),
    help_text="",
)


@dataclass
class Stage:
    """A spawner whose children wait for their cues."""

    slots: int = 2
    started: list[str] = field(default_factory=list)
    observers: dict[str, ChildObserver] = field(default_factory=dict)
    ends: dict[str, asyncio.Future[Exit]] = field(default_factory=dict)
    cancelled: list[str] = field(default_factory=list)
    missing: set[str] = field(default_factory=set)
    placed: dict[str, Placement | None] = field(default_factory=dict)
    last_moments: asyncio.Event | None = None  # a child that is to go stays until then

    def prepare(self, model: str, started: float, placement: Placement | None) -> Child:
        self.placed[model] = placement
        if model in self.missing:
            raise ModelInvalid(f"{model} has no file")
        return Child(model, Launch(None, ()), ENGINE, ("llama-server",), started)

    async def live(self, child: Child, ring: LogRing, observer: ChildObserver) -> Exit:
        model = child.model
        self.started.append(model)
        self.observers[model] = observer
        self.ends[model] = asyncio.get_running_loop().create_future()
        observer.spawned(1000 + len(self.started))
        try:
            return await self.ends[model]
        except asyncio.CancelledError:
            self.cancelled.append(model)
            if self.last_moments is not None:
                await self.last_moments.wait()
            raise

    async def ready(self, model: str) -> None:
        await until(lambda: model in self.observers)
        self.observers.pop(model).ready(
            ReadyChild(
                address="/nowhere.sock",
                api_key=None,
                slots=self.slots,
                n_ctx=512,
                info={},
                props={},
                layers_offloaded=None,
                layers=None,
                load_seconds=0.1,
            )
        )

    async def crash(self, model: str) -> None:
        await until(lambda: model in self.ends)
        self.ends.pop(model).set_result(
            Exit(cause=Cause.SIGNAL, message="crashed with SIGSEGV", signal="SIGSEGV", last_words=("boom",))
        )


def supervisor(stage: Stage, models_max: int = 1) -> Supervisor:
    return Supervisor(Scheduler(Limits(models_max=models_max)), stage, Feed(), lambda child: None)


async def lease_of(router: Supervisor, model: str) -> Lease:
    return await router.lease(model, True, 0, True, wait=Wait())


async def begun(group: asyncio.TaskGroup, router: Supervisor, model: str) -> asyncio.Task[Lease]:
    """A lease that is being waited for."""
    before = router.scheduler.waiting(model)
    task = group.create_task(lease_of(router, model))
    await until(lambda: router.scheduler.waiting(model) > before)
    return task


async def told(work: Callable[[], object], kind: type[RouterError]) -> RouterError:
    with pytest.raises(kind) as caught:
        await work()  # type: ignore[misc]
    return caught.value


async def test_a_cold_model_is_started_once_and_everybody_gets_in() -> None:
    stage = Stage()
    async with supervisor(stage) as router, asyncio.TaskGroup() as group:
        tasks = [await begun(group, router, "a") for _ in range(3)]
        await stage.ready("a")
        first, second = await tasks[0], await tasks[1]
        assert stage.started == ["a"]
        assert router.scheduler.in_flight("a") == 2
        assert router.lease_now("a", True) is None
        first.end(DONE)
        first.end(DONE)
        third = await tasks[2]
        assert router.children["a"].tokens_per_second == 12.5
        second.end(DONE)
        third.end(Outcome(200, complete=True, client_left=False, tail=b'{"tokens":[1]}'))
        assert router.children["a"].tokens_per_second == 12.5
        quick = router.lease_now("a", True)
        assert quick is not None
        quick.end(DONE)
        assert router.scheduler.in_flight("a") == 0


async def test_whoever_leaves_gives_its_place_up_also_when_the_grant_crosses_it() -> None:
    stage = Stage(slots=1)
    async with supervisor(stage) as router, asyncio.TaskGroup() as group:
        crossed = await begun(group, router, "a")
        left = await begun(group, router, "a")
        left.cancel()
        await asyncio.wait([left])
        assert router.scheduler.waiting("a") == 1
        await stage.ready("a")
        # Granted already, but the task has not run since.
        assert router.scheduler.in_flight("a") == 1
        crossed.cancel()
        await asyncio.wait([crossed])
        assert router.scheduler.in_flight("a") == 0


async def test_a_load_without_a_client_is_over_when_the_model_is_ready() -> None:
    stage = Stage()
    async with supervisor(stage) as router, asyncio.TaskGroup() as group:
        loading = group.create_task(router.load("a"))
        await stage.ready("a")
        await loading
        assert router.scheduler.phase_of("a") is Phase.READY
        assert router.scheduler.in_flight("a") == 0


async def test_a_failed_load_tells_every_waiter_why() -> None:
    stage = Stage()
    async with supervisor(stage) as router, asyncio.TaskGroup() as group:
        waiting = [group.create_task(told(lambda: lease_of(router, "a"), ModelCrashed)) for _ in range(2)]
        await stage.crash("a")
        errors = [await task for task in waiting]
        assert {error.message for error in errors} == {"model 'a': crashed with SIGSEGV; its last words: boom"}
        assert "a" not in router.children
        assert router.lives.failures["a"][0].signal == "SIGSEGV"


async def test_a_model_that_cannot_be_prepared_is_refused_and_others_go_on() -> None:
    stage = Stage(missing={"a"})
    async with supervisor(stage) as router, asyncio.TaskGroup() as group:
        assert "no file" in (await told(lambda: lease_of(router, "a"), ModelInvalid)).message
        task = await begun(group, router, "b")
        await stage.ready("b")
        (await task).end(DONE)


async def test_nothing_is_loaded_for_a_request_that_must_not() -> None:
    stage = Stage()
    async with supervisor(stage) as router:
        await told(lambda: router.lease("a", True, 0, False, wait=Wait()), NotLoaded)
        assert stage.started == []


async def test_a_broken_connection_is_explained_by_the_end_of_the_process() -> None:
    stage = Stage()
    async with supervisor(stage) as router, asyncio.TaskGroup() as group:
        task = await begun(group, router, "a")
        await stage.ready("a")
        lease = await task
        why = group.create_task(lease.failure())
        await stage.crash("a")
        assert "SIGSEGV" in (await why).message
        lease.end(Outcome(200, complete=False, client_left=False, tail=b""))
        assert router.scheduler.in_flight("a") == 0


async def test_eviction_waits_for_the_process_to_be_gone() -> None:
    stage = Stage()
    async with supervisor(stage) as router, asyncio.TaskGroup() as group:
        first = await begun(group, router, "a")
        await stage.ready("a")
        (await first).end(DONE)
        second = await begun(group, router, "b")
        await until(lambda: "b" in stage.started)
        assert stage.cancelled == ["a"]
        assert list(router.children) == ["b"]
        await stage.ready("b")
        (await second).end(DONE)


async def test_unload_while_loading_refuses_who_waits() -> None:
    stage = Stage()
    async with supervisor(stage) as router, asyncio.TaskGroup() as group:
        waiting = group.create_task(told(lambda: lease_of(router, "a"), ModelUnloaded))
        await until(lambda: "a" in stage.started)
        router.unload("a", 10)
        await waiting
        await router.lives.until_gone("a")
        assert "a" not in router.lives.failures


async def test_closing_lets_the_running_end_and_leaves_no_child() -> None:
    stage = Stage()
    async with supervisor(stage) as router, asyncio.TaskGroup() as group:
        task = await begun(group, router, "a")
        await stage.ready("a")
        lease = await task
        router.close(60)
        empty = group.create_task(router.lives.until_empty())
        await asyncio.wait([empty], timeout=0)
        assert "a" in router.children
        lease.end(DONE)
        await empty
        assert stage.cancelled == ["a"]


async def test_who_is_cut_is_told_why() -> None:
    stage = Stage()
    async with supervisor(stage, models_max=2) as router, asyncio.TaskGroup() as group:
        leases = []
        for model in "ab":
            task = await begun(group, router, model)
            await stage.ready(model)
            leases.append(await task)
        router.unload("a", 0.0)
        assert (await leases[0].failure()).reason == "model_unloaded"
        router.close(0.0)
        told_why = await leases[1].failure()
        assert (told_why.reason, told_why.message) == ("draining", "the router is shutting down")
        for lease in leases:
            lease.end(DONE)


async def test_who_is_cut_is_told_why_though_the_child_takes_its_time_to_go() -> None:
    stage = Stage(last_moments=asyncio.Event())
    async with supervisor(stage) as router, asyncio.TaskGroup() as group:
        task = await begun(group, router, "a")
        await stage.ready("a")
        lease = await task
        router.unload("a", 0.0)
        assert (await lease.failure()).reason == "model_unloaded"
        assert "a" in router.children
        lease.end(DONE)
        assert stage.last_moments is not None
        stage.last_moments.set()


async def test_a_supervision_that_fails_is_one_models_failure() -> None:
    stage = Stage()
    async with supervisor(stage, models_max=2) as router, asyncio.TaskGroup() as group:
        other = await begun(group, router, "b")
        await stage.ready("b")
        broken = group.create_task(told(lambda: lease_of(router, "a"), RouterError))
        await until(lambda: "a" in stage.ends)
        stage.ends["a"].set_exception(ZeroDivisionError("a bug"))
        assert (await broken).reason == "engine_unavailable"
        (await other).end(DONE)
        assert router.scheduler.phase_of("b") is Phase.READY


async def test_a_deadline_that_has_passed_already_rings_and_breaks_nothing() -> None:
    class Late(Scheduler):
        late = False
        rung = 0

        def handle(self, event: Event, now: float) -> list[Command]:
            self.rung += isinstance(event, TimePassed)
            self.late = self.late and not self.rung
            return super().handle(event, now)

        def deadline(self) -> float | None:
            return 0.001 if self.late else super().deadline()

    stage, scheduler = Stage(), Late(Limits(models_max=1))
    async with Supervisor(scheduler, stage, Feed(), lambda child: None) as router, asyncio.TaskGroup() as group:
        task = await begun(group, router, "a")
        await stage.ready("a")
        (await task).end(DONE)
        scheduler.late = True
        router.unload("b", 0.0)  # any event sets the timer, which is due before it is set
        await until(lambda: scheduler.rung)
        assert scheduler.rung == 1


async def test_a_deadline_between_two_ticks_of_the_clock_rings_once_and_not_before() -> None:
    class Punctual(Scheduler):
        due: float | None = None
        rung: list[bool] = []  # noqa: RUF012 (this one test's)

        def handle(self, event: Event, now: float) -> list[Command]:
            if isinstance(event, TimePassed) and self.due is not None:
                self.rung.append(now >= self.due)
                self.due = None if now >= self.due else self.due
            return super().handle(event, now)

        def deadline(self) -> float | None:
            return super().deadline() if self.due is None else self.due

    scheduler = Punctual(Limits(models_max=1))
    async with Supervisor(scheduler, Stage(), Feed(), lambda child: None) as router:
        for fraction in (0.0201, 0.0204, 0.0209):
            scheduler.due = asyncio.get_running_loop().time() + fraction
            router.unload("b", 0.0)
            await until(lambda: scheduler.due is None)
    assert scheduler.rung == [True] * 3


@dataclass
class Scales:
    """An appraiser that answers at once, later, never, or breaks."""

    now: bool = True
    broken: bool = False
    asked: list[str] = field(default_factory=list)
    cue: asyncio.Event = field(default_factory=asyncio.Event)

    def at_once(self, model: str) -> Appraised | None:
        self.asked.append(model)
        if self.now and self.broken:
            raise ZeroDivisionError
        return self.said(model) if self.now else None

    async def appraise(self, model: str) -> Appraised:
        await self.cue.wait()
        if self.broken:
            raise ZeroDivisionError
        return self.said(model)

    def footprint_of(self, model: str) -> Footprint | None:
        return None

    def appraised(self) -> list[str]:
        return []

    def said(self, model: str) -> Appraised:
        return Appraised(model, (Placement({"Host": 1}, label="somewhere"),), {"Host": Room(total=9, free=9)})


def weighing(stage: Stage, scales: Scales) -> Supervisor:
    limits = Limits(models_max=2, by_memory=True)
    return Supervisor(Scheduler(limits), stage, Feed(), lambda child: None, scales)


async def test_a_model_is_started_where_it_was_found_to_fit() -> None:
    stage, scales = Stage(), Scales()
    async with weighing(stage, scales) as router, asyncio.TaskGroup() as group:
        task = await begun(group, router, "a")
        await stage.ready("a")
        (await task).end(DONE)
        assert scales.asked == ["a"]
        place = stage.placed["a"]
        assert place is not None
        assert place.label == "somewhere"
        router.weighed("a", {"Host": 2})


async def test_an_appraisal_may_take_its_time_and_an_errand_that_breaks_stops_nothing() -> None:
    stage, scales = Stage(), Scales(now=False)
    async with weighing(stage, scales) as router, asyncio.TaskGroup() as group:
        task = await begun(group, router, "a")
        assert stage.started == []
        scales.cue.set()
        await stage.ready("a")
        (await task).end(DONE)
        scales.broken = True
        task = await begun(group, router, "b")
        await stage.ready("b")
        (await task).end(DONE)
        assert stage.placed["b"] == Placement({})


async def test_a_mistake_in_what_is_said_at_once_is_asked_for_again() -> None:
    stage, scales = Stage(), Scales(broken=True)
    scales.cue.set()
    async with weighing(stage, scales) as router, asyncio.TaskGroup() as group:
        task = await begun(group, router, "a")
        await stage.ready("a")
        (await task).end(DONE)
        assert stage.placed["a"] == Placement({})


async def test_an_appraisal_does_not_outlive_the_supervisor() -> None:
    stage, scales = Stage(), Scales(now=False)
    async with asyncio.timeout(5), weighing(stage, scales) as router, asyncio.TaskGroup() as group:
        waiting = group.create_task(told(lambda: lease_of(router, "a"), RouterError))
        await until(lambda: router.scheduler.waiting("a") == 1)
        router.close(0.0)
        await waiting
    assert scales.asked == ["a"]


async def test_a_witness_that_fails_keeps_no_model_from_its_next_child() -> None:
    stage, seen = Stage(), []

    def witness(child: Child, end: Exit) -> None:
        seen.append((child.model, end.cause, router.scheduler.phase_of("a")))
        raise RuntimeError("a bug of ours")

    async with supervisor(stage) as router, asyncio.TaskGroup() as group:
        router.lives.witness = witness
        complaints: list[dict[str, object]] = []
        asyncio.get_running_loop().set_exception_handler(lambda _, context: complaints.append(context))
        first = await begun(group, router, "a")
        await stage.ready("a")
        (await first).end(DONE)
        await stage.crash("a")
        await until(lambda: complaints)
        assert seen == [("a", Cause.SIGNAL, Phase.READY)]
        assert router.scheduler.phase_of("a") is Phase.ABSENT
        again = await begun(group, router, "a")
        await stage.ready("a")
        (await again).end(DONE)
