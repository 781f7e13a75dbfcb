"""A whole router on a real card: models that do not fit together, asked for one after the other and all at once.

Four of the shapes get a budget that holds the largest of them alone, or several of the others. Before each request the
router is asked what it would do (`lr plan`); afterwards that is what it must have done, and neither its books nor the
card may show more than the budget.
"""

from __future__ import annotations

import itertools
import json
import random
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from llamarouter.core.asked import MIB
from tests.gpu.card import seconds_until
from tests.gpu.report import Report
from tests.gpu.router import Answer, Router, preset_of, serving

CLIENTS, REQUESTS = 4, 24
# By rank, the smallest is 0: those that fit together come first, and each is asked for again after it had to go.
ORDER = (1, 2, 0, 3, 1, 2, 3, 0)
TOO_LARGE = "too-large"
_SAME_FREE = 64 * MIB
_FREED = 5.0
_AT_ONCE = 3.0  # seconds that a refusal may take


class Meter(Protocol):
    """Who says what processes hold of a device."""

    @property
    def name(self) -> str: ...

    def free(self) -> int: ...

    def taken(self, pids: Iterable[int]) -> int | None: ...


@dataclass(frozen=True, slots=True)
class Models:
    """What is served. `files`: by id, the smallest first; `options`: of their sections."""

    files: Mapping[str, Path]
    options: Mapping[str, str]
    budget: int
    too_large: Path

    @property
    def preset(self) -> str:
        sections = {id: {"model": str(path), **self.options} for id, path in self.files.items()}
        # A number of layers that somebody has written is meant: it is not put on the host in part.
        too_large = {"model": str(self.too_large), **self.options, "n-gpu-layers": "999"}
        return preset_of({**sections, TOO_LARGE: too_large})


def chosen(needs: Mapping[str, int], room: int) -> tuple[tuple[str, ...], int]:
    """The four largest that fit into the room, the smallest first, and a budget that holds the largest alone."""
    fitting = sorted((need, name) for name, need in needs.items() if need <= room)[-4:]
    if len(fitting) < 4:
        raise ValueError(f"four models of {len(needs)} have to fit into {room / MIB:.0f} MiB")
    return tuple(name for _, name in fitting), min(room, fitting[-1][0] + fitting[0][0] // 2)


def swap(
    report: Report,
    meter: Meter,
    engine: Path,
    models: Models,
    folder: Path,
    seconds: float,
    then: Callable[[Router], None],
    order: Sequence[int] = ORDER,
    requests: int = REQUESTS,
) -> None:
    """One after the other, all at once, what is too large, and away again.

    `then`: while models are loaded; `order`: in which they are asked for, by rank; `requests`: of all clients.
    """
    preset = folder / "models.ini"
    preset.write_text(models.preset, encoding="utf-8")
    before, end = meter.free(), time.monotonic() + seconds
    budget = f"--memory-budget {meter.name}={models.budget}B --models-max 8"
    report.say(f"a budget of {models.budget / MIB:.0f} MiB of {meter.name}; models: {', '.join(models.files)}")
    with serving(engine, preset, folder, budget) as router:
        _in_turn(report, meter, router, models, order, end)
        _measured(report, router, models, {list(models.files)[rank] for rank in order})
        with report.trying("commands"):
            then(router)
        _at_once(report, meter, router, models, requests, end)
        _refused(report, router)
        _away(report, meter, router, before)
        _processes(report, router)
    report.check("the router ends by itself", router.process.returncode == 0, f"code {router.process.returncode}")


def _in_turn(report: Report, meter: Meter, router: Router, models: Models, order: Sequence[int], end: float) -> None:
    names = list(models.files)
    rows = []
    for number, rank in enumerate(order):
        model = names[rank]
        if time.monotonic() > end:
            report.say(f"{len(order) - number} requests were left out, no time is left")
            break
        rows.append(_turn(report, meter, router, model, models.budget, number))
        report.say("  " + "  ".join(rows[-1]))
    head = ("asked for", "plan", "who went", ">s", ">booked MiB", ">taken MiB", ">estimate or lesson MiB")
    report.table("in turn", head, rows)


def _turn(report: Report, meter: Meter, router: Router, model: str, budget: int, number: int) -> tuple[str, ...]:
    plan = router.ask("/lr/plan", {"model": model}).body
    before = router.loaded()
    answer = router.complete(model, first=number)
    after = router.loaded()
    what = f"request {number + 1}, for {model}"
    report.check(f"{what}: answered", answer.is_whole, f"{answer.status} {str(answer.body)[:200]}")
    expected = before - {each["model"] for each in plan["evict"]} | {model}
    said = f"planned {sorted(expected)} ({plan['verdict']}), there are {sorted(after)}"
    report.check(f"{what}: what was planned has happened", after == expected, said)
    booked, taken = _within(report, meter, router, budget, what)
    went = ", ".join(sorted(before - after)) or "-"
    # Who is fresh keeps its room for as long as its load took: that, too, is waited for.
    verdict = plan["verdict"] if not plan["after"] else f"{plan['verdict']} {plan['after']:.1f} s"
    need = plan["needs"].get(meter.name, 0)
    return model, verdict, went, f"{answer.seconds:.1f}", _mib(booked), _mib(taken), _mib(need)


def _within(report: Report, meter: Meter, router: Router, budget: int, what: str) -> tuple[int, int]:
    """What is booked, and what the children hold, after a look that nobody may have outdated."""
    taken = meter.taken(router.children().values()) or 0
    booked = router.device(meter.name)["booked"]
    said = f"{_mib(booked)} MiB booked, {_mib(taken)} taken, {_mib(budget)} may be"
    report.check(f"{what}: books and card are within the budget", booked <= budget and taken <= budget, said)
    return booked, taken


def _measured(report: Report, router: Router, models: Models, asked: set[str]) -> None:
    """After its first load a model's need is known; commands say what the API says."""
    entries = router.entries()
    sources = {id: (entries[id]["lr"].get("memory") or {}).get("source") for id in sorted(asked)}
    report.figures["sources"] = sources
    report.check("after a load its need is measured", set(sources.values()) == {"measured"}, str(sources))
    listed = json.loads(router.lr("ls", "--json").stdout)["models"]
    states = {each["id"]: each["state"] for each in listed}
    said = {id: entry["status"]["value"] for id, entry in router.entries().items()}
    report.check("lr ls says what /models says", states == said, f"{states}, {said}")
    loaded = router.loaded()
    for id in models.files:
        verdict = json.loads(router.lr("plan", id, "--json").stdout)["verdict"]
        right = (verdict == "loaded") == (id in loaded)
        report.check(f"lr plan {id} knows whether it is there", right, f"{verdict}; loaded: {sorted(loaded)}")


def _at_once(report: Report, meter: Meter, router: Router, models: Models, requests: int, end: float) -> None:
    """Several clients, each with its own order: everybody is answered."""
    chance = random.Random(0)
    orders = [[chance.choice(list(models.files)) for _ in range(requests // CLIENTS)] for _ in range(CLIENTS)]
    began = time.monotonic()
    with ThreadPoolExecutor(CLIENTS) as pool:
        answers = [each for some in pool.map(lambda order: _client(router, order, end), orders) for each in some]
    seconds = time.monotonic() - began
    lost = [(model, answer.status, str(answer.body)[:200]) for model, answer in answers if not answer.is_whole]
    slowest = max((answer.seconds for _, answer in answers), default=0.0)
    report.say(
        f"{len(answers)} of {requests} requests of {CLIENTS} clients: {len(lost)} lost, the slowest {slowest:.1f} s,"
        f" all of it {seconds:.1f} s"
    )
    report.figures["at once"] = {"answers": len(answers), "lost": lost, "slowest": slowest, "seconds": seconds}
    report.check("of several clients' requests none is lost", not lost, str(lost)[:300])
    report.check("several clients had time for a request each", len(answers) >= CLIENTS, f"{len(answers)} answers")
    _within(report, meter, router, models.budget, "after all clients")


def _client(router: Router, order: Sequence[str], end: float) -> list[tuple[str, Answer]]:
    answers = []
    for number, model in enumerate(order):
        if time.monotonic() > end:
            break
        answers.append((model, router.complete(model, first=100 + number)))
    return answers


def _refused(report: Report, router: Router) -> None:
    answer = router.complete(TOO_LARGE)
    message = (answer.body or {}).get("error", {}).get("message")
    report.say(f"what can never fit: {answer.status} after {answer.seconds * 1000:.0f} ms: {message}")
    report.figures["too large"] = {"status": answer.status, "seconds": answer.seconds, "message": message}
    right = answer.status == 507 and answer.seconds < _AT_ONCE
    report.check("what can never fit is refused at once", right, f"{answer.status} after {answer.seconds:.1f} s")


def _away(report: Report, meter: Meter, router: Router, before: int) -> None:
    done = router.lr("unload", "--all")
    report.check("lr unload --all", done.returncode == 0, done.stdout[-300:])
    seconds = seconds_until(lambda: meter.free() >= before - _SAME_FREE, _FREED)
    left, booked = before - meter.free(), router.device(meter.name)["booked"]
    said = f"{_mib(left)} MiB less free than before, {_mib(booked)} booked"
    report.say(f"with all unloaded: {said}")
    report.check("everything is given back", seconds is not None and booked == 0, said)


def _processes(report: Report, router: Router) -> None:
    left = router.children()
    report.check("no process is left", not left, str(left))


def in_part(
    report: Report, meter: Meter, engine: Path, path: Path, options: Mapping[str, str], budget: int, folder: Path
) -> None:
    """A budget that is smaller than the model: as many layers as fit, and within it."""
    preset = folder / "part.ini"
    preset.write_text(preset_of({"part": {"model": str(path), **options}}), encoding="utf-8")
    with serving(engine, preset, folder, f"--memory-budget {meter.name}={budget}B") as router:
        plan = router.ask("/lr/plan", {"model": "part"}).body
        answer = router.complete("part", tokens=520)
        report.check("a part of the layers: answered", answer.is_whole, f"{answer.status} {str(answer.body)[:300]}")
        booked, taken = _within(report, meter, router, budget, "a part of the layers")
        entry: dict[str, Any] = router.entries()["part"]["lr"]
        told = _after(plan["command"], "--n-gpu-layers")
        report.say(
            f"{_mib(budget)} MiB for {path.name}: --n-gpu-layers {told}, {answer.seconds:.1f} s; {_mib(booked)} MiB"
            f" booked, {_mib(taken)} taken"
        )
        for shortfall in entry.get("shortfalls") or ():
            report.say(f"  {shortfall}")
        report.figures["in part"] = {"plan": plan, "booked": booked, "taken": taken, "entry": entry}
        report.check("the plan is one in part", plan["partial"] is True, f"{plan['verdict']}: {plan['why']}")


def _after(command: Sequence[str], option: str) -> str | None:
    """The value of an option in a command line."""
    return next((value for word, value in itertools.pairwise(command) if word == option), None)


def _mib(size: int) -> str:
    return f"{size / MIB:.0f}"
