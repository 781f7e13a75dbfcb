"""Requests that crashed their model alone: kept out for ten minutes, on every way in, and told why."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llamarouter.core import quarantine
from llamarouter.core.errors import RequestQuarantined, headers_of
from llamarouter.core.quarantine import HELD_FOR, MOST, Quarantine, mark_of
from llamarouter.relay import exchange
from tests.node_kit import House, add_model, engine_with, house
from tests.waiting import until

anyio = pytest.mark.anyio
CHAT = "/v1/chat/completions"
POISON = {"model": "m", "fake": {"crash": 1}}


def is_held(kept: Quarantine, model: str, target: bytes, body: bytes, now: float) -> bool:
    try:
        kept.check(model, mark_of(target, body), now)
    except RequestQuarantined:
        return True
    return False


def test_a_request_is_held_for_ten_minutes_by_path_and_body() -> None:
    kept = Quarantine()
    assert kept.models == frozenset()
    kept.crashed("m", b"/completion?x=1", b"body", "SIGSEGV", 5.0)
    assert kept.models == {"m"}
    assert is_held(kept, "m", b"/completion", b"body", 5.0)
    assert is_held(kept, "m", b"/completion?y=2", b"body", 5.0 + HELD_FOR - 0.1)
    assert not is_held(kept, "m", b"/completion", b"body ", 5.0)
    assert not is_held(kept, "m", b"/tokenize", b"body", 5.0)
    assert not is_held(kept, "n", b"/completion", b"body", 5.0)
    assert not is_held(kept, "m", b"/completion", b"body", 5.0 + HELD_FOR)
    assert kept.models == frozenset()


def test_path_and_body_do_not_run_together() -> None:
    assert mark_of(b"/a", b"b") != mark_of(b"/ab", b"")


def test_the_refusal_names_the_crash_and_what_is_left_and_forbids_another_try() -> None:
    kept = Quarantine()
    kept.crashed("m", b"/completion", b"body", "SIGSEGV", 0.0)
    with pytest.raises(RequestQuarantined) as caught:
        kept.check("m", mark_of(b"/completion", b"body"), 100.0)
    error = caught.value
    assert error.message == (
        "this request was alone in the process of model 'm' when that crashed (SIGSEGV); it is not let in again for "
        "500 s, or until a reload"
    )
    assert (error.status, error.reason) == (422, "request_quarantined")
    assert (b"x-should-retry", b"false") in headers_of(error)


def test_a_second_crash_begins_the_time_anew() -> None:
    kept = Quarantine()
    kept.crashed("m", b"/a", b"1", "SIGSEGV", 0.0)
    kept.crashed("m", b"/a", b"2", "SIGABRT", 1.0)
    kept.crashed("m", b"/a", b"1", "SIGBUS", 500.0)
    assert [(held.crash, held.path, held.until) for held in kept.of("m", 600.0)] == [
        ("SIGBUS", "/a", 500.0 + HELD_FOR),
        ("SIGABRT", "/a", 1.0 + HELD_FOR),
    ]
    assert [held.crash for held in kept.of("m", 700.0)] == ["SIGBUS"]
    assert kept.of("n", 700.0) == []


def test_what_is_another_now_is_let_in() -> None:
    kept = Quarantine()
    kept.crashed("m", b"/a", b"1", "SIGSEGV", 0.0)
    kept.crashed("n", b"/a", b"1", "SIGSEGV", 0.0)
    kept.forget("m")
    assert kept.models == {"n"}
    assert is_held(kept, "n", b"/a", b"1", 1.0)
    kept.clear()
    assert not is_held(kept, "n", b"/a", b"1", 1.0)
    assert kept.models == frozenset()


@given(st.lists(st.tuples(st.sampled_from("ab"), st.integers(0, 9), st.floats(0.0, 300.0)), max_size=60))
def test_whatever_crashes_just_what_crashed_in_the_last_ten_minutes_is_held(
    crashes: list[tuple[str, int, float]],
) -> None:
    kept, now, last = Quarantine(), 0.0, {}
    for model, body, pause in crashes:
        now += pause
        kept.crashed(model, b"/a", b"%d" % body, "SIGSEGV", now)
        last[model, body] = now
        assert kept.models >= {model}
    for model in "ab":
        for body in range(10):
            held = (model, body) in last and now < last[model, body] + HELD_FOR
            assert is_held(kept, model, b"/a", b"%d" % body, now) == held
    held_models = {model for (model, _), at in last.items() if now < at + HELD_FOR}
    assert kept.models == held_models


def test_it_holds_a_bounded_number(monkeypatch: pytest.MonkeyPatch) -> None:
    assert MOST == 1024
    monkeypatch.setattr(quarantine, "MOST", 3)
    kept = Quarantine()
    for number in range(5):
        kept.crashed(f"m{number}", b"/a", b"1", "SIGSEGV", float(number))
    assert kept.models == {"m2", "m3", "m4"}


# --- a whole router ---------------------------------------------------------------------------------------------------


async def crashed(home: House, body: dict[str, Any] = POISON) -> None:
    """Send a request that crashes its model, and load the model again."""
    answer = await home.client.post(CHAT, json=body)
    assert answer.json()["error"]["reason"] == "model_crashed"
    assert answer.headers["x-should-retry"] == "false"
    await home.client.post("/models/load", json={"model": body["model"], "wait": True})
    assert body["model"] in home.node.supervisor.children


@anyio
async def test_what_crashed_a_model_alone_is_refused_at_every_door(tmp_path: Path) -> None:
    add_model(tmp_path / "models", "m")
    async with house(tmp_path, preset="[m]\nalias = mm\n") as home:
        await crashed(home)
        pid = home.node.supervisor.children["m"].pid
        raw = json.dumps(POISON).encode()
        same = httpx_body(POISON)
        refused = await home.client.post(CHAT, content=same)
        assert refused.status_code == 422
        error = refused.json()["error"]
        assert (error["reason"], error["type"], error["code"]) == ("request_quarantined", "invalid_request_error", 422)
        assert "when that crashed (SIGSEGV)" in error["message"]
        assert refused.headers["x-should-retry"] == "false"
        fast = await (await home.knock()).ask(CHAT, same)
        assert fast.status == 422
        # Another body, and the same one elsewhere, are other requests.
        assert raw != same
        other = await (await home.knock()).ask(CHAT, {"model": "m", "n": 1})
        assert other.status == 200
        elsewhere = await home.client.post("/tokenize", content=httpx_body({"model": "m", "content": "x"}))
        assert elsewhere.status_code == 200
        assert home.node.supervisor.children["m"].pid == pid
        told = (await home.client.get("/lr/why", params={"model": "mm"})).json()
        (held,) = told["quarantined"]
        assert (held["path"], held["crash"]) == (CHAT, "SIGSEGV")
        assert 590.0 < held["seconds_left"] <= HELD_FOR
        await home.client.post("/models/unload", json={"model": "m", "wait": True})
        # It loads nothing either.
        assert (await home.client.post(CHAT, content=same)).status_code == 422
        assert "m" not in home.node.supervisor.children
        await home.node.look_again()
        assert (await home.client.post(CHAT, content=same)).status_code == 502


def httpx_body(body: object) -> bytes:
    """The bytes that httpx makes of `json=`."""
    return json.dumps(body, separators=(",", ":")).encode()


@anyio
async def test_a_changed_model_lets_it_in_again(tmp_path: Path) -> None:
    add_model(tmp_path / "models", "m")
    async with house(tmp_path, preset="[m]\nctx-size = 256\n") as home:
        await crashed(home)
        (tmp_path / "preset.ini").write_text("[m]\nctx-size = 512\n", encoding="utf-8")
        await home.node.shelf.look(force=True)
        assert not home.node.reception.quarantine.models


@anyio
async def test_beside_others_nobody_is_blamed(tmp_path: Path) -> None:
    add_model(tmp_path / "models", "m")
    async with house(tmp_path) as home, asyncio.TaskGroup() as group:
        await home.client.post("/models/load", json={"model": "m", "wait": True})
        child = home.node.supervisor.children["m"]
        slow = group.create_task(home.client.post(CHAT, json={"model": "m", "fake": {"delay": 60}}))
        await until(lambda: child.connections is not None and child.connections.in_flight == 1)
        assert (await home.client.post(CHAT, json=POISON)).status_code == 502
        assert (await slow).status_code == 502
        assert not home.node.reception.quarantine.models


@anyio
@pytest.mark.parametrize(
    "faults",
    [
        ("--fake-crash-signal", "0"),
        ("--fake-crash-signal", "KILL"),
        ("--fake-last-words", "cudaMalloc failed: out of memory"),  # and then SIGSEGV
    ],
)
async def test_an_end_that_is_no_crash_blames_nobody(tmp_path: Path, faults: tuple[str, ...]) -> None:
    add_model(tmp_path / "models", "m")
    async with house(tmp_path, preset=f"[m]\nlr-engine = {engine_with(tmp_path, *faults)}\n") as home:
        assert (await home.client.post(CHAT, json=POISON)).status_code == 502
        assert home.node.chronicle.incidents.of("m")
        assert not home.node.reception.quarantine.models


@anyio
async def test_who_waited_with_the_same_request_is_not_let_in_behind_the_crash(tmp_path: Path) -> None:
    add_model(tmp_path / "models", "m")
    async with house(tmp_path, preset="[m]\nparallel = 1\n") as home:
        await home.client.post("/models/load", json={"model": "m", "wait": True})
        answers = await asyncio.gather(*(home.client.post(CHAT, json=POISON) for _ in range(3)))
        assert sorted(answer.status_code for answer in answers) == [422, 422, 502]
        conversation = await home.client.post(CHAT, json=POISON, headers={"x-conversation-id": "c"})
        assert conversation.status_code == 422
        child = home.node.supervisor.children["m"]
        assert (home.node.supervisor.scheduler.in_flight("m"), child.stopping) == (0, False)
        assert len(home.node.chronicle.incidents.of("m")) == 1


@anyio
async def test_a_stream_that_crashes_in_its_middle_is_known_by_its_body(tmp_path: Path) -> None:
    add_model(tmp_path / "models", "m")
    engine = engine_with(tmp_path, "--fake-crash-after-tokens", "3")
    body = {"model": "m", "stream": True, "pad": "x" * (2 << 20)}
    async with house(tmp_path, preset=f"[m]\nlr-engine = {engine}\n") as home:
        assert "model_crashed" in (await home.client.post(CHAT, json=body)).text
        assert home.node.reception.quarantine.models == {"m"}
        assert (await home.client.post(CHAT, json=body)).status_code == 422


@anyio
async def test_the_body_of_a_long_answer_is_kept_up_to_a_size(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(exchange, "_MOST_KEPT", 1000)
    add_model(tmp_path / "models", "m")
    engine = engine_with(tmp_path, "--fake-crash-after-tokens", "3")
    async with house(tmp_path, preset=f"[m]\nlr-engine = {engine}\n") as home:
        broken = await home.client.post(CHAT, json={"model": "m", "stream": True, "pad": "x" * 1000})
        assert broken.status_code == 200
        assert "model_crashed" in broken.text
        assert home.node.chronicle.incidents.of("m")
        assert not home.node.reception.quarantine.models
