"""The simulator: reproducible traces, a box that counts by itself, and contenders that do what they are known for."""

from __future__ import annotations

import itertools
import json
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path

import pytest

from simulator.box import STOP_SECONDS, Box, Life
from simulator.contender import Contender
from simulator.fleet import GIB, SimulatedModel, fleet_of
from simulator.hunt import hunt
from simulator.ours import ours
from simulator.plain import ReferenceRouter, StrictLru
from simulator.result import QUANTILES, result_of
from simulator.traces import TRACES, Call, Shape, TraceError, recorded

A, B, C = (SimulatedModel(name, 4 * GIB, 2.0, slots=1) for name in "abc")
NEEDS = {model.name: model.bytes for model in (A, B, C)}


def lived(contender: Contender, calls: Iterable[Call], budget: int = 8 * GIB) -> Life:
    return Box((A, B, C), budget, contender).run(calls)


def contenders(budget: int) -> list[Contender]:
    return [ours(), StrictLru(NEEDS, budget), ReferenceRouter(budget // (4 * GIB))]


@pytest.mark.parametrize("trace", TRACES)
def test_a_trace_is_in_order_and_the_same_for_the_same_seed(trace: str) -> None:
    models = TRACES[trace].models(fleet_of(40, 24 * GIB, seed=3), 24 * GIB)
    calls, again, other = (
        list(itertools.islice(TRACES[trace].calls(models, Shape(2.0, seed)), 500)) for seed in (7, 7, 8)
    )
    assert calls == again != other
    assert [call.at for call in calls] == sorted(call.at for call in calls)
    assert {call.model for call in calls} <= {model.name for model in models}


@pytest.mark.parametrize("trace", TRACES)
@pytest.mark.parametrize("number", range(3))
def test_everybody_serves_every_request_of_every_trace(trace: str, number: int) -> None:
    budget = 24 * GIB
    models = TRACES[trace].models(fleet_of(30, budget, seed=1), budget)
    needs = {model.name: model.bytes for model in models}
    contender = [ours(), StrictLru(needs, budget), ReferenceRouter(budget // max(needs.values()))][number]
    life = Box(models, budget, contender).run(itertools.islice(TRACES[trace].calls(models, Shape(0.4, 1)), 400))
    assert (len(life.waits), life.refused, life.unserved, life.failed_loads) == (400, 0, 0, 0)


@pytest.mark.parametrize("number", range(3))
def test_a_cold_request_waits_for_its_load_and_the_next_one_for_nothing(number: int) -> None:
    life = lived(contenders(8 * GIB)[number], [Call(0.0, "a", 1.0), Call(10.0, "a", 1.0)])
    assert life.waits == [2.0, 0.0]
    assert (life.starts, life.bytes_loaded) == (1, 4 * GIB)


@pytest.mark.parametrize("number", range(3))
def test_the_least_recently_used_of_two_goes_for_the_third(number: int) -> None:
    calls = [
        Call(0.0, "a", 1.0),
        Call(10.0, "b", 1.0),
        Call(20.0, "a", 1.0),
        Call(30.0, "c", 1.0),
        Call(40.0, "a", 1.0),
    ]
    life = lived(contenders(8 * GIB)[number], calls)
    assert life.waits == pytest.approx([2.0, 2.0, 0.0, 2.0 + STOP_SECONDS, 0.0])


def test_only_llama_servers_router_loads_one_after_the_other_where_there_is_room_for_two() -> None:
    calls = [Call(0.0, "a", 1.0), Call(0.0, "b", 1.0)]
    assert [lived(each, calls).waits for each in contenders(8 * GIB)] == [[2.0, 2.0], [2.0, 2.0], [2.0, 4.0]]


@pytest.mark.parametrize("number", range(3))
def test_a_life_ends_with_its_last_answer_whatever_would_be_due_later(number: int) -> None:
    calls = [Call(0.0, "a", 3.0), Call(0.0, "a", 3.0)]  # the second one waits, with a time-out far away
    assert lived(contenders(8 * GIB)[number], calls).ends_at == 8.0


def test_one_slot_serves_one_after_the_other_wherever_they_queue() -> None:
    calls = [Call(0.0, "a", 3.0), Call(0.0, "a", 3.0)]
    assert [lived(each, calls).waits for each in contenders(8 * GIB)] == [[2.0, 5.0]] * 3


def test_a_hot_model_starves_another_one_under_the_others_and_not_under_ours() -> None:
    """Two clients of `a`, always one of them inside: it is never idle."""
    hot = [Call(0.9 * number, "a", 1.0) for number in range(300)]
    calls = sorted([*hot, Call(5.0, "b", 1.0)], key=lambda call: call.at)
    waits = {}
    for contender in (ours(), StrictLru(NEEDS, 4 * GIB), ReferenceRouter(1)):
        life = lived(contender, calls, budget=4 * GIB)
        waits[contender.name] = dict(zip(life.models, life.waits, strict=True))["b"]
    mine = waits.pop("llamarouter")
    assert mine < 20.0
    assert min(waits.values()) > 200.0


def test_who_starts_more_than_fits_sees_loads_die_of_memory() -> None:
    life = lived(StrictLru(NEEDS, 12 * GIB), [Call(0.0, "a", 9.0), Call(0.1, "b", 9.0), Call(0.2, "c", 9.0)])
    assert (life.starts, life.failed_loads, life.refused, len(life.waits)) == (3, 1, 1, 2)


def test_a_result_counts_who_was_never_served() -> None:
    life = Life(waits=[0.0, 1.0, 5.0], models=["a", "a", "b"], starts=2, refused=1, unserved=2)
    result = result_of("t", "x", life)
    assert (result.requests, result.lost, result.p50, result.longest) == (6, 3, 1.0, 5.0)
    assert len(result.quantiles) == len(QUANTILES)


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("{", "t.jsonl:2: not a request like"),
        ('{"at": 1, "model": "a"}', "t.jsonl:2: not a request like"),
        ('{"at": 1, "model": "z", "seconds": 1}', "t.jsonl:2: no model 'z' in the fleet"),
        ('{"at": 0.1, "model": "a", "seconds": 1}', "t.jsonl:2: 0.1 s comes before the 0.5 s of the line above"),
        ('{"at": 1, "model": "a", "seconds": 0}', "t.jsonl:2: `at` must be 0 or more"),
        ('{"at": Infinity, "model": "a", "seconds": 1}', "t.jsonl:2: `at` must be 0 or more"),
    ],
)
def test_a_wrong_line_of_a_recorded_trace_is_named(line: str, said: str) -> None:
    good = json.dumps({"at": 0.5, "model": "a", "seconds": 1})
    with pytest.raises(TraceError) as error:
        list(recorded("t.jsonl", [good, line], {"a"}))
    assert str(error.value).startswith(said)


def test_the_hunt_only_tells_of_what_is_worse_than_before() -> None:
    found = list(hunt(6, 200, seed=1))
    ratios = [one.ratio for one in found]
    assert ratios
    assert ratios == sorted(set(ratios))


def test_the_command_prints_a_table_and_says_what_is_wrong(tmp_path: Path) -> None:
    trace = tmp_path / "trace.jsonl"
    trace.write_text('{"at": 0.5, "model": "m000", "seconds": 1}\n')
    command = [sys.executable, "-m", "simulator", "--models", "5", "--trace", str(trace)]
    root = Path(__file__).parent.parent
    done = subprocess.run(command, cwd=root, capture_output=True, text=True, check=True)
    assert [word in done.stdout for word in ("llamarouter", "strict LRU", "llama-server's router")] == [True] * 3
    trace.write_text("nonsense\n")
    done = subprocess.run(command, cwd=root, capture_output=True, text=True)
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    assert f"{trace}:1: not a request" in done.stderr
