"""Answers that are taken up again: the routes of the router, over fake children that keep what they have said."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest

from llamarouter.core.residents import Phase
from tests.node_kit import House, add_model, asgi_client, engine_with, house
from tests.relay_rig import Answer, Client, post
from tests.waiting import until

pytestmark = pytest.mark.anyio

CHAT = "/v1/chat/completions"


def ini(folder: Path, **models: str) -> str:
    """A preset: each model with these `key = value` lines."""
    sections = []
    for name, lines in models.items():
        add_model(folder / "models", name)
        sections.append(f"[{name}]\n{lines}\n")
    return "\n".join(sections)


def faulty(folder: Path, *flags: str) -> str:
    """A line of a preset: its engine is a fake llama-server with these faults."""
    return f"lr-engine = {engine_with(folder, *flags)}"


async def begin(home: House, conversation: str = "c", model: str = "m", key: str = "", **fake: Any) -> Client:
    """A streamed answer that belongs to a conversation, asked for by a client that listens."""
    client = await home.knock()
    body = {"model": model, "stream": True, "fake": {"tokens": 3, **fake}}
    more = {"authorization": f"Bearer {key}"} if key else {}
    client.send(post(CHAT, body, x_conversation_id=conversation, **more))
    return client


async def raw(home: House, method: str, target: str, **headers: str) -> Answer:
    """One request through the door."""
    client = await home.knock()
    lines = "".join(f"{name.replace('_', '-')}: {value}\r\n" for name, value in headers.items())
    client.send(f"{method} {target} HTTP/1.1\r\nhost: h\r\n{lines}\r\n".encode())
    return await client.answer(head_only=method == "HEAD")


async def look_up(home: House, *conversations: object, **headers: str) -> Any:
    answer = await home.client.post(
        "/v1/streams/lookup", json={"conversation_ids": list(conversations)}, headers=headers
    )
    assert answer.status_code == 200
    return answer.json()


def in_flight(home: House, model: str = "m") -> int:
    return home.node.supervisor.scheduler.in_flight(model)


async def until_inside(home: House, model: str = "m") -> None:
    await until(lambda: in_flight(home, model) == 1)


async def test_a_finished_answer_is_read_again_from_any_offset(tmp_path: Path) -> None:
    preset = ini(tmp_path, m="alias = other/name")
    async with house(tmp_path, preset=preset) as home:
        name = "c::other/name"
        whole = (await (await begin(home, name, "other/name")).answer()).body
        assert whole.endswith(b"data: [DONE]\n\n")
        again = await raw(home, "GET", "/v1/stream?conv_id=c%3A%3Aother%2Fname")
        assert (again.status, again.body) == (200, whole)
        assert again.headers["content-type"] == "text/event-stream"
        rest = await raw(home, "GET", "/v1/stream?conv_id=c%3A%3Aother%2Fname&from=10")
        assert rest.body == whole[10:]
        through_asgi = await home.client.get("/v1/stream", params={"conv_id": name, "from": "10"})
        assert through_asgi.content == whole[10:]
        assert in_flight(home) == 0


async def test_what_the_router_said_during_the_wait_counts_for_who_comes_back(tmp_path: Path) -> None:
    preset = ini(tmp_path, m=faulty(tmp_path, "--fake-load-seconds", "0.4"))
    async with house(tmp_path, "--wait-comment", "0.05", preset=preset) as home:
        whole = (await (await begin(home)).answer()).body
        comments = whole[: whole.index(b"data: ")]
        assert comments.count(b": position 1 in the queue of model m: the model is loading") >= 2
        assert whole.endswith(b"data: [DONE]\n\n")
        assert (await raw(home, "GET", "/v1/stream?conv_id=c")).body == whole
        for at in (0, 7, len(comments) - 1, len(comments), len(comments) + 5):
            rest = await raw(home, "GET", f"/v1/stream?conv_id=c&from={at}")
            assert (rest.body, rest.whole) == (whole[at:], True), at
        wrong = await raw(home, "GET", "/v1/stream?conv_id=c&from=x")
        assert wrong.status == 400


async def test_who_left_while_he_waited_counts_what_was_said_to_him(tmp_path: Path) -> None:
    preset = ini(tmp_path, m=faulty(tmp_path, "--fake-load-seconds", "0.4"))
    async with house(tmp_path, "--wait-comment", "0.05", preset=preset) as home:
        client = await begin(home)
        said = (await client.reader.readuntil(b"\n\n")).rpartition(b"\r\n")[2]
        client.close()
        await until(lambda: home.node.supervisor.scheduler.phase_of("m") is Phase.READY)
        await until(lambda: in_flight(home) == 0)
        whole = (await raw(home, "GET", "/v1/stream?conv_id=c")).body
        assert whole.startswith(said)
        rest = await raw(home, "GET", f"/v1/stream?conv_id=c&from={len(said)}")
        assert rest.body == whole[len(said) :]
        assert b"data: [DONE]" in rest.body


async def test_a_client_comes_back_to_an_answer_that_goes_on(tmp_path: Path) -> None:
    async with house(tmp_path, preset=ini(tmp_path, m="")) as home:
        client = await begin(home, tokens=40, delay=0.02)
        seen = await client.reader.readuntil(b"m-2 ")
        client.close()
        again = await raw(home, "GET", "/v1/stream?conv_id=c")
        assert again.whole
        assert again.body.count(b"data: ") == 42
        assert again.body.endswith(b"data: [DONE]\n\n")
        assert b"m-39 " in again.body
        assert b"m-0 " in seen
        await until(lambda: in_flight(home) == 0)


async def test_the_place_is_held_until_the_answers_end_though_nobody_listens(tmp_path: Path) -> None:
    async with house(tmp_path, preset=ini(tmp_path, m="parallel = 1")) as home:
        client = await begin(home, tokens=20, delay=0.02)
        await client.reader.readuntil(b"m-0 ")
        client.close()
        other = await begin(home, "d", tokens=1)
        await until(lambda: home.node.supervisor.scheduler.waiting("m") == 1)
        assert in_flight(home) == 1
        assert (await other.answer()).whole
        stats = await home.client.get("/slots", params={"model": "m"}, headers={"x-fake": '{"echo": 1}'})
        assert stats.status_code == 200
        assert (await raw(home, "GET", "/v1/stream?conv_id=c")).body.count(b"data: ") == 22


async def test_what_is_not_there_and_what_is_wrong(tmp_path: Path) -> None:
    async with house(tmp_path, preset=ini(tmp_path, m="")) as home:
        missing = await raw(home, "GET", "/v1/stream")
        assert (missing.status, missing.json()["error"]["message"]) == (400, "Missing conversation id in path")
        unknown = await raw(home, "GET", "/v1/stream?conv_id=c")
        assert (unknown.status, unknown.json()["error"]["type"]) == (404, "not_found_error")
        await (await begin(home)).answer()
        wrong = await raw(home, "GET", "/v1/stream?conv_id=c&from=x%0d%0a")
        assert (wrong.status, wrong.json()["error"]["message"]) == (400, "Invalid 'from' offset")
        assert (await home.client.delete("/v1/stream")).status_code == 400


async def test_an_owner_that_loads_asks_to_come_again(tmp_path: Path) -> None:
    async with house(tmp_path, preset=ini(tmp_path, m=faulty(tmp_path, "--fake-load-seconds", "0.5"))) as home:
        client = await begin(home)
        await until(lambda: home.node.supervisor.scheduler.phase_of("m") is Phase.STARTING)
        client.close()
        early = await raw(home, "GET", "/v1/stream?conv_id=c")
        assert (early.status, early.headers["retry-after"]) == (503, "2")
        assert early.json()["error"]["message"] == "Stream owner model is loading, retry later"
        assert early.json()["error"]["type"] == "unavailable_error"
        assert await look_up(home, "c") == []
        await until(lambda: home.node.supervisor.scheduler.phase_of("m") is Phase.READY)
        await until(lambda: in_flight(home) == 0)
        assert (await raw(home, "GET", "/v1/stream?conv_id=c")).body.endswith(b"[DONE]\n\n")


async def test_a_request_that_waits_for_a_slot_says_so(tmp_path: Path) -> None:
    async with house(tmp_path, preset=ini(tmp_path, m="parallel = 1")) as home:
        first = await begin(home, "first", tokens=1000, delay=0.02)
        await first.reader.readuntil(b"m-0 ")
        await begin(home, "second")
        await until(lambda: home.node.supervisor.scheduler.waiting("m") == 1)
        early = await raw(home, "GET", "/v1/stream?conv_id=second")
        assert early.status == 503
        assert "waits for its turn" in early.json()["error"]["message"]
        await home.client.delete("/v1/stream?conv_id=first")


async def test_a_stop_cancels_a_request_in_the_load_wait(tmp_path: Path) -> None:
    async with house(tmp_path, preset=ini(tmp_path, m=faulty(tmp_path, "--fake-load-seconds", "0.5"))) as home:
        client = await begin(home)
        await until(lambda: home.node.supervisor.scheduler.phase_of("m") is Phase.STARTING)
        assert (await home.client.delete("/v1/stream", params={"conv_id": "c"})).status_code == 204
        answer = await client.answer()
        assert answer.status == 400
        assert answer.json()["error"]["message"] == "request cancelled by a stop while the model was loading"
        assert (await raw(home, "GET", "/v1/stream?conv_id=c")).status == 404
        await until(lambda: home.node.supervisor.scheduler.phase_of("m") is Phase.READY)
        connections = home.node.supervisor.children["m"].connections
        assert connections is not None
        assert connections.opened == 0  # it never came there


@pytest.mark.parametrize("leaves", [False, True])
async def test_a_stop_ends_an_answer_and_forgets_it(tmp_path: Path, leaves: bool) -> None:
    async with house(tmp_path, preset=ini(tmp_path, m="")) as home:
        client = await begin(home, tokens=10_000, delay=0.01)
        await client.reader.readuntil(b"m-2 ")
        if leaves:
            client.close()
        gone = await raw(home, "DELETE", "/v1/stream?conv_id=c")
        assert gone.status == 204
        await until(lambda: in_flight(home) == 0)
        if not leaves:
            assert b"[DONE]" not in await client.reader.readuntil(b"0\r\n\r\n")
        assert (await raw(home, "GET", "/v1/stream?conv_id=c")).status == 404
        assert (await raw(home, "DELETE", "/v1/stream?conv_id=c")).status == 204
        assert await look_up(home, "c") == []


async def test_a_stop_before_the_first_token_is_heard(tmp_path: Path) -> None:
    async with house(tmp_path, preset=ini(tmp_path, m="")) as home:
        await (await begin(home, "warm")).answer()
        client = await begin(home, wedge=True, framing="none")
        await until_inside(home)
        body = {"model": "m", "fake": {"wedge": True}}
        whole = await home.knock()
        whole.send(post(CHAT, body, x_conversation_id="whole"))
        await until(lambda: in_flight(home) == 2)
        await home.client.delete("/v1/stream?conv_id=whole")
        answer = await whole.answer()
        assert (answer.status, answer.json()["error"]["message"]) == (400, "request cancelled by a stop")
        await home.client.delete("/v1/stream?conv_id=c")
        await until(lambda: in_flight(home) == 0)
        client.close()


async def test_a_stop_ends_an_answer_that_is_not_streamed(tmp_path: Path) -> None:
    """Of such an answer a child heeds nothing but the end of its connection."""
    async with house(tmp_path, preset=ini(tmp_path, m="")) as home:
        client = await home.knock()
        client.send(post(CHAT, {"model": "m", "fake": {"tokens": 1_000_000, "delay": 0.01}}, x_conversation_id="c"))
        await until_inside(home)
        assert (await raw(home, "DELETE", "/v1/stream?conv_id=c")).status == 204
        assert (await client.answer()).json()["error"]["message"] == "request cancelled by a stop"
        await until(lambda: in_flight(home) == 0)
        processing = [True]
        while any(processing):
            processing = [slot["is_processing"] for slot in (await home.client.get("/slots?model=m")).json()]


async def test_a_stop_of_a_finished_answer_frees_what_the_child_keeps(tmp_path: Path) -> None:
    async with house(tmp_path, preset=ini(tmp_path, m="")) as home:
        await (await begin(home)).answer()
        assert [entry["conversation_id"] for entry in await look_up(home, "c")] == ["c"]
        await home.client.delete("/v1/stream?conv_id=c")
        await (await begin(home, "c::x")).answer()
        # The child is asked for `c::x` only; had it kept `c`, it would say so when that is asked for again.
        await (await begin(home, "c")).answer()
        assert len(await look_up(home, "c")) == 2


async def test_a_lookup_is_merged_over_the_owners(tmp_path: Path) -> None:
    preset = ini(tmp_path, m="", n="", idle="")
    async with house(tmp_path, preset=preset) as home:
        for conversation, model in (("one::m", "m"), ("two::n", "n"), ("three::n", "n")):
            await (await begin(home, conversation, model)).answer()
        found = await look_up(home, "one::m", "three::n", "two::n", "unknown", "one::m", "", 5)
        assert sorted(entry["conversation_id"] for entry in found) == ["one::m", "three::n", "two::n"]
        assert all(entry["is_done"] and entry["total_bytes"] > 0 for entry in found)
        assert "idle" not in home.node.supervisor.children


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b"{}", b'{"conversation_ids": 5}', b"\xff", b"[" * 5000])
async def test_a_bad_lookup_finds_nothing(tmp_path: Path, body: bytes) -> None:
    async with house(tmp_path) as home:
        answer = await home.client.post("/v1/streams/lookup", content=body)
        assert (answer.status_code, answer.content) in ((200, b"[]"), (400, answer.content))
        assert answer.status_code == 200 or body.startswith(b"[[")


async def test_one_key_neither_reads_nor_stops_nor_finds_what_belongs_to_another(tmp_path: Path) -> None:
    async with house(tmp_path, "--api-key", "one,two", preset=ini(tmp_path, m="")) as home:
        mine = await begin(home, key="one", tokens=10_000, delay=0.01)
        await mine.reader.readuntil(b"m-0 ")
        theirs = {"authorization": "Bearer two"}
        assert (await raw(home, "GET", "/v1/stream?conv_id=c", **theirs)).status == 404
        assert await look_up(home, "c", **theirs) == []
        assert (await raw(home, "DELETE", "/v1/stream?conv_id=c", **theirs)).status == 204
        # The same id with the other key is another conversation.
        other = await begin(home, key="two", tokens=2)
        assert (await other.answer()).whole
        assert in_flight(home) == 1
        assert [entry["conversation_id"] for entry in await look_up(home, "c", **theirs)] == ["c"]
        own = {"x-api-key": "one"}
        assert [(entry["conversation_id"], entry["is_done"]) for entry in await look_up(home, "c", **own)] == [
            ("c", False)
        ]
        assert (await raw(home, "DELETE", "/v1/stream?conv_id=c", **own)).status == 204
        await until(lambda: in_flight(home) == 0)
        for target in ("/v1/stream?conv_id=c", "/v1/streams/lookup"):
            assert (await raw(home, "GET", target)).status == 401


async def test_no_id_of_a_client_reaches_the_child_unmarked(tmp_path: Path) -> None:
    async with house(tmp_path, "--api-key", "one", preset=ini(tmp_path, m="")) as home:
        headers = {"authorization": "Bearer one", "x-conversation-id": "c", "x-fake": '{"echo": 1}'}
        for path in (CHAT, "/tokenize"):
            answer = await home.client.post(path, json={"model": "m"}, headers=headers)
            seen = dict(answer.json()["headers"])["x-conversation-id"]
            assert seen.endswith("c")
            assert len(seen) == 25
        async with asgi_client(home.admin) as admin:
            answer = await admin.post(
                CHAT, json={"model": "m"}, headers={"x-conversation-id": "c", "x-fake": headers["x-fake"]}
            )
            assert dict(answer.json()["headers"])["x-conversation-id"] == "c"


async def test_a_second_request_takes_the_place_of_the_first(tmp_path: Path) -> None:
    async with house(tmp_path, preset=ini(tmp_path, m="parallel = 1")) as home:
        first = await begin(home, tokens=100_000, delay=0.01)
        await first.reader.readuntil(b"m-0 ")
        first.close()
        second = await begin(home, tokens=2)
        answer = await second.answer()
        assert answer.whole
        assert b"[DONE]" in answer.body
        assert (await raw(home, "GET", "/v1/stream?conv_id=c")).body == answer.body


async def test_a_second_request_answers_for_one_that_waits(tmp_path: Path) -> None:
    async with house(tmp_path, preset=ini(tmp_path, m=faulty(tmp_path, "--fake-load-seconds", "0.3"))) as home:
        first = await begin(home)
        await until(lambda: home.node.supervisor.scheduler.phase_of("m") is Phase.STARTING)
        second = await begin(home)
        assert (await first.answer()).status == 400
        assert (await second.answer()).whole


async def test_the_same_conversation_in_another_model_leaves_the_first_alone(tmp_path: Path) -> None:
    async with house(tmp_path, preset=ini(tmp_path, m="", n="")) as home:
        first = await begin(home, tokens=20, delay=0.02)
        await first.reader.readuntil(b"m-0 ")
        second = await begin(home, model="n")
        assert (await second.answer()).whole
        assert b"m-19 " in await first.reader.readuntil(b"[DONE]")
        assert b"n-0 " in (await raw(home, "GET", "/v1/stream?conv_id=c")).body


async def test_nobodys_answer_in_another_model_is_stopped(tmp_path: Path) -> None:
    """Nobody could take it up again, nor stop it: the conversation has another answer now."""
    async with house(tmp_path, preset=ini(tmp_path, m="", n="")) as home:
        first = await begin(home, tokens=1_000_000, delay=0.01)
        await first.reader.readuntil(b"m-0 ")
        first.close()
        await until(lambda: all(exchange.unattended for exchange in home.node.traffic.running()))
        assert (await (await begin(home, model="n")).answer()).whole
        await until(lambda: in_flight(home) == 0)


async def test_an_answer_of_a_model_that_has_just_come_is_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody knew the model when the request came; there it is, and so can its answer be stopped."""
    monkeypatch.setattr("llamarouter.server.shelf._LOOK_INTERVAL", 0.0)
    async with house(tmp_path) as home:
        add_model(home.models, "m")
        client = await begin(home, tokens=1_000_000, delay=0.01)
        await client.reader.readuntil(b"m-0 ")
        client.close()
        await until(lambda: all(exchange.unattended for exchange in home.node.traffic.running()))
        assert [entry["conversation_id"] for entry in await look_up(home, "c")] == ["c"]
        assert (await raw(home, "DELETE", "/v1/stream?conv_id=c")).status == 204
        await until(lambda: in_flight(home) == 0)


async def test_what_is_refused_takes_no_answers_place(tmp_path: Path) -> None:
    async with house(tmp_path, preset=ini(tmp_path, m="")) as home:
        whole = (await (await begin(home)).answer()).body
        assert (await (await begin(home, model="unknown")).answer()).status == 404
        assert (await raw(home, "GET", "/v1/stream?conv_id=c")).body == whole


async def test_below_a_prefix_it_is_all_the_same(tmp_path: Path) -> None:
    async with house(tmp_path, "--api-prefix", "/p", preset=ini(tmp_path, m="")) as home:
        client = await home.knock()
        body = {"model": "m", "stream": True, "fake": {"tokens": 3}}
        client.send(post(f"/p{CHAT}", body, x_conversation_id="c"))
        whole = (await client.answer()).body
        assert (await raw(home, "GET", "/p/v1/stream?conv_id=c")).body == whole
        assert (await home.client.get("/p/v1/stream?conv_id=c&from=1")).content == whole[1:]
        found = await home.client.post("/p/v1/streams/lookup", json={"conversation_ids": ["c"]})
        assert len(found.json()) == 1
        assert (await raw(home, "DELETE", "/p/v1/stream?conv_id=c")).status == 204
        assert (await raw(home, "GET", "/p/v1/stream?conv_id=c")).status == 404


async def test_the_answers_of_a_child_that_is_gone_are_gone(tmp_path: Path) -> None:
    async with house(tmp_path, preset=ini(tmp_path, m="")) as home:
        await (await begin(home)).answer()
        home.node.supervisor.unload("m", 0.0)
        await home.node.supervisor.lives.until_gone("m")
        assert (await raw(home, "GET", "/v1/stream?conv_id=c")).status == 404
        await (await begin(home, "d")).answer()
        assert (await raw(home, "GET", "/v1/stream?conv_id=c")).status == 404
        assert await look_up(home, "c", "d") != []
        assert (await raw(home, "DELETE", "/v1/stream?conv_id=c")).status == 204


@pytest.mark.parametrize("why", ["unloaded", "closing"])
async def test_a_model_that_is_to_go_lets_its_running_answer_be_taken_up_again(tmp_path: Path, why: str) -> None:
    async with house(tmp_path, preset=ini(tmp_path, m="")) as home:
        client = await begin(home, tokens=60, delay=0.02)
        await client.reader.readuntil(b"m-0 ")
        client.close()
        if why == "closing":
            home.node.supervisor.close(30.0)
        else:
            home.node.supervisor.unload("m", 30.0)
        again = await raw(home, "GET", "/v1/stream?conv_id=c")
        assert again.status == 200
        assert b"m-40 " in again.body
        await home.node.supervisor.lives.until_gone("m")


async def test_a_reader_that_leaves_ends_its_reading_and_nothing_else(tmp_path: Path) -> None:
    async with house(tmp_path, preset=ini(tmp_path, m="")) as home:
        client = await begin(home, tokens=10_000, delay=0.01)
        await client.reader.readuntil(b"m-0 ")
        reader = await home.knock()
        reader.send(b"GET /v1/stream?conv_id=c HTTP/1.1\r\nhost: h\r\n\r\n")
        await reader.reader.readuntil(b"m-5 ")
        assert in_flight(home) == 2
        reader.close()
        await until(lambda: in_flight(home) == 1)
        await client.reader.readuntil(b"m-50 ")
        await home.client.delete("/v1/stream?conv_id=c")


async def test_a_crash_is_told_to_who_reads_again(tmp_path: Path) -> None:
    async with house(tmp_path, preset=ini(tmp_path, m=faulty(tmp_path, "--fake-crash-after-tokens", "5"))) as home:
        client = await begin(home, tokens=100, delay=0.05)
        await client.reader.readuntil(b"m-0 ")
        client.close()
        again = await raw(home, "GET", "/v1/stream?conv_id=c")
        assert not again.whole
        assert json.loads(again.events()[-1].removeprefix(b"data: "))["error"]["reason"] == "model_crashed"
        await until(lambda: not home.node.supervisor.children)
        assert (await raw(home, "GET", "/v1/stream?conv_id=c")).status == 404


async def test_a_head_of_a_stream_has_no_body(tmp_path: Path) -> None:
    async with house(tmp_path, preset=ini(tmp_path, m="")) as home:
        await (await begin(home)).answer()
        head = await raw(home, "HEAD", "/v1/stream?conv_id=c")
        assert (head.status, head.body) == (200, b"")
        await until(lambda: in_flight(home) == 0)


async def test_leaving_and_stopping_in_turn_leaves_nothing_behind(tmp_path: Path) -> None:
    async with house(tmp_path, preset=ini(tmp_path, m="parallel = 1")) as home:
        for turn in range(6):
            client = await begin(home, f"c{turn % 2}", tokens=50, delay=0.01)
            await client.reader.readuntil(b"m-0 ")
            client.close()
        await asyncio.gather(*(home.client.delete(f"/v1/stream?conv_id=c{n}") for n in range(2)))
        await until(lambda: in_flight(home) == 0 and home.node.traffic.count == 0)
