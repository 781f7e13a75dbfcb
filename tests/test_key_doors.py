"""What a key can do at the doors of a whole router: its models and no other, its routes, its limits."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from starlette.routing import Route

from llamarouter.core.key_rules import Right, right_of
from llamarouter.core.keys import Limits
from llamarouter.server.api import control_routes
from llamarouter.server.app import application
from llamarouter.server.guard import Guard
from tests.key_kit import give, secret_of, take, turn
from tests.node_kit import House, add_model, asgi_client, engine_with, house
from tests.test_events_api import reading
from tests.waiting import until

pytestmark = pytest.mark.anyio

CHAT = "/v1/chat/completions"
MINE, OTHERS = "acme/mine", "acme/others"


def two_models(folder: Path) -> None:
    for name in (MINE, OTHERS):
        add_model(folder / "models", name)


async def both(home: House, method: str, path: str, body: Any = None, **headers: str) -> tuple[int, bytes]:
    """What both doors answer; the same."""
    sent = json.dumps(body).encode() if body is not None else b""
    through_app = await home.client.request(method, path, content=sent, headers=headers)
    door = await home.knock()
    lines = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
    door.send(f"{method} {path} HTTP/1.1\r\nhost: h\r\ncontent-length: {len(sent)}\r\n{lines}\r\n".encode() + sent)
    raw = await door.answer(head_only=method == "HEAD")
    door.close()
    assert through_app.status_code == raw.status, (method, path)
    return raw.status, raw.body


def every_route(home: House) -> list[tuple[str, str]]:
    app = application(home.node, trusted=False)
    assert isinstance(app, Guard)
    return [(method, route.path) for route in app._routes for method in sorted(route.methods or ())]


async def test_a_key_that_administers_nothing_comes_through_no_door_to_what_is_not_for_it(tmp_path: Path) -> None:
    two_models(tmp_path)
    user = give(tmp_path, "ann", models=(MINE,))
    async with house(tmp_path) as home:
        table = [each for each in every_route(home) if each[1] != "/models/sse"]
        assert len(table) > 50
        closed = 0
        for method, pattern in table:
            path = pattern.replace("{id:path}", OTHERS).replace("{id_slot}", "0")
            if right_of(method, pattern) in (Right.ADMIN, Right.METRICS):
                status, body = await both(home, method, path, {"model": MINE}, **user)
                assert status == 403, (method, path)
                assert method == "HEAD" or json.loads(body)["error"]["type"] == "permission_error"
                closed += 1
            elif right_of(method, pattern) is Right.USE:
                # What it may use tells it nothing of what it does not have.
                status, body = await both(home, method, path, {"model": OTHERS}, **user)
                assert status in (200, 204, 400, 404) or (status == 403 and path in ("/tools", "/cors-proxy"))
                assert b"acme/others" not in body.replace(b"model 'acme/others' not found", b"")
        assert closed > 15
        assert not home.node.supervisor.children
        assert not home.stopped.is_set()


async def test_a_key_for_metrics_comes_through_no_door_to_anything_else(tmp_path: Path) -> None:
    two_models(tmp_path)
    scraper = give(tmp_path, "prometheus", metrics=True)
    async with house(tmp_path) as home:
        for method, pattern in every_route(home):
            path = pattern.replace("{id:path}", MINE).replace("{id_slot}", "0")
            right = right_of(method, pattern)
            status, body = await both(home, method, path, {"model": MINE}, **scraper)
            if right is Right.METRICS:
                assert status == 200
            elif right is not Right.PUBLIC:
                assert status == 403, (method, path)
                assert MINE.encode() not in body
        # The page of one model is none of it: it is relayed.
        status, _ = await both(home, "GET", f"/metrics?model={MINE}&autoload=true", **scraper)
        assert status == 403
        assert not home.node.supervisor.children
        ops = give(tmp_path, "ops", admin=True)
        home.node.reception.gate.look_again()
        said = (await home.client.get("/lr/keys", headers=ops)).json()["keys"]
        assert {each["name"]: each["metrics"] for each in said} == {"prometheus": True, "ops": False}


async def test_every_route_is_written_down_or_for_administrators(tmp_path: Path) -> None:
    """A new route is closed to those who use models until somebody writes it into the list; this is that list."""
    async with house(tmp_path) as home:
        own = {(method, route.path) for route in control_routes(home.node) for method in route.methods or ()}
        assert {each for each in own if right_of(*each) is Right.USE and each[0] != "HEAD"} == {
            ("GET", "/models"),
            ("GET", "/v1/models"),
            ("GET", "/v1/models/{id:path}"),
            ("GET", "/models/sse"),
            ("GET", "/v1/stream"),
            ("DELETE", "/v1/stream"),
            ("POST", "/v1/streams/lookup"),
            ("GET", "/lr/auth"),
            ("GET", "/tools"),
            ("POST", "/tools"),
            ("GET", "/cors-proxy"),
            ("POST", "/cors-proxy"),
        }
        app = application(home.node, trusted=False)
        assert isinstance(app, Guard)
        assert all(isinstance(route, Route) for route in app._routes)


@pytest.mark.parametrize(
    "target",
    ["/lr%2Fstop", "/%6cr/stop", "/lr/%73top", "/lr/stop?x=1", "/lr/stop;x", "//lr/stop", "/lr//stop"],
)
async def test_no_spelling_of_a_path_opens_it(tmp_path: Path, target: str) -> None:
    user = give(tmp_path, "ann")
    async with house(tmp_path) as home:
        assert (await both(home, "POST", target, **user))[0] in (403, 404)
        assert not home.stopped.is_set()


async def test_an_administrator_comes_everywhere(tmp_path: Path) -> None:
    two_models(tmp_path)
    admin = give(tmp_path, "ops", admin=True)
    async with house(tmp_path) as home:
        for path in ("/models", "/lr/status", "/lr/keys", f"/lr/explain?model={MINE}", "/models?reload=1"):
            assert (await both(home, "GET", path, **admin))[0] == 200
        listed = (await home.client.get("/models", headers=admin)).json()
        assert [each["id"] for each in listed["data"]] == [MINE, OTHERS]
        assert listed["data"][0]["status"]["args"]
        assert listed["data"][0]["lr"]["path"]
        keys = (await home.client.get("/lr/keys", headers=admin)).text
        assert secret_of("ops") not in keys
        assert "sha256" not in keys


async def test_a_key_sees_and_reaches_its_models_and_cannot_tell_the_others_from_nothing(tmp_path: Path) -> None:
    two_models(tmp_path)
    user = give(tmp_path, "ann", models=("acme/m*",))
    preset = f"[{MINE}]\nalias = mine, both\n[{OTHERS}]\nalias = others\n[broken]\nfrobnicate = 1\n"
    async with house(tmp_path, preset=preset) as home:
        for path in ("/models", "/v1/models"):
            status, body = await both(home, "GET", path, **user)
            assert status == 200
            listed = json.loads(body)
            assert [each["id"] for each in listed["data"]] == [MINE]
            assert listed["data"][0]["aliases"] == ["both", "mine"]
            assert listed["warnings"] == []
            assert str(tmp_path).encode() not in body
            assert b"others" not in body
        for name in (OTHERS, "others", OTHERS + ".gguf", "nothing", OTHERS.upper(), "broken"):
            for method, path, asked in (
                ("POST", CHAT, {"model": name}),
                ("POST", "/tokenize", {"model": name, "content": "x"}),
                ("GET", f"/props?model={name}", None),
                ("GET", f"/v1/models/{name}", None),
            ):
                status, body = await both(home, method, path, asked, **user)
                error = json.loads(body)["error"]
                assert (status, error["message"]) == (404, f"model '{name}' not found"), (path, name)
        for name in (MINE, "mine", MINE + ".gguf"):
            assert (await both(home, "POST", "/tokenize", {"model": name, "content": "x"}, **user))[0] == 200
            status, body = await both(home, "GET", f"/v1/models/{name}", **user)
            assert (status, json.loads(body)["id"]) == (200, MINE)
            assert json.loads(body)["status"]["args"] == []
            assert str(tmp_path).encode() not in body
        assert (await both(home, "GET", "/models?reload=1", **user))[0] == 403
        assert (await both(home, "POST", CHAT, {"model": MINE, "messages": []}, **user))[0] == 200
        async with asgi_client(home.admin) as admin:  # warm now, by somebody else
            assert (await admin.post("/tokenize", json={"model": OTHERS, "content": "x"})).status_code == 200
        for _ in range(2):
            assert (await both(home, "POST", "/tokenize", {"model": OTHERS, "content": "x"}, **user))[0] == 404


async def test_a_key_has_its_own_default(tmp_path: Path) -> None:
    two_models(tmp_path)
    user = give(tmp_path, "ann", models=(MINE,), default_model="mine")
    lost = give(tmp_path, "bob", models=(MINE,), default_model=OTHERS)
    plain = give(tmp_path, "eve")
    async with house(tmp_path, "--default-model", OTHERS, preset=f"[{MINE}]\nalias = mine\n") as home:
        for body in ({"model": "gpt-4"}, {"model": OTHERS}, {}, {"model": MINE}):
            for _ in range(2):  # cold, then warm
                status, answer = await both(home, "POST", CHAT, {**body, "messages": []}, **user)
                assert (status, json.loads(answer)["model"]) == (200, MINE), body
        assert (await both(home, "POST", CHAT, {"model": "gpt-4", "messages": []}, **lost))[0] == 404
        assert (await both(home, "POST", CHAT, {"model": "gpt-4", "messages": []}, **plain))[0] == 404
        status, answer = await both(home, "POST", CHAT, {"messages": []}, **plain)
        assert (status, json.loads(answer)["model"]) == (200, OTHERS)


async def test_the_feed_tells_a_key_of_its_models_until_it_is_none(tmp_path: Path) -> None:
    two_models(tmp_path)
    user = give(tmp_path, "ann", models=(MINE,))
    give(tmp_path, "bob")
    async with house(tmp_path) as home, reading(home, "?snapshot=1&ids=1", **user) as feed:
        assert f'"{MINE}"' in await feed.event()
        assert "snapshot_complete" in await feed.event()
        home.node.feed.tell(OTHERS, "status_change", {"status": "unloaded"})
        home.node.feed.tell(MINE, "one")
        seen = await feed.event()
        assert '"one"' in seen
        last = seen.split("\n")[0].removeprefix("id: ")
        home.node.feed.tell(OTHERS, "two")
        home.node.feed.tell("*", "models_reload")
        assert "models_reload" in await feed.event()
        async with reading(home, last_event_id=last, **user) as again:
            assert "models_reload" in await again.event()  # and nothing before
        turn(tmp_path, "ann", (OTHERS,))
        home.node.reception.gate.look_again()
        home.node.feed.tell(MINE, "three")
        home.node.feed.tell(OTHERS, "four")
        assert '"four"' in await feed.event()
        take(tmp_path, "ann")
        home.node.reception.gate.look_again()
        home.node.feed.tell(OTHERS, "five")
        assert not await feed.rest()


async def test_so_many_in_a_minute_at_both_doors_together(tmp_path: Path) -> None:
    two_models(tmp_path)
    user = give(tmp_path, "ann", limits=Limits(rpm=3))
    other = give(tmp_path, "bob")
    async with house(tmp_path) as home:
        for _ in range(3):
            door = await home.knock()
            assert (await door.ask("/tokenize", {"model": MINE, "content": "x"}, **user)).status == 200
        for name in (MINE, OTHERS):  # warm, and cold
            status, body = await both(home, "POST", "/tokenize", {"model": name, "content": "x"}, **user)
            assert (status, json.loads(body)["error"]["reason"]) == (429, "rate_limited")
        refused = await (await home.knock()).ask("/tokenize", {"model": MINE, "content": "x"}, **user)
        assert 1 <= int(refused.headers["retry-after"]) <= 60
        assert (await both(home, "POST", "/tokenize", {"model": MINE, "content": "x"}, **other))[0] == 200
        assert (await both(home, "GET", "/models", **user))[0] == 200


async def test_so_many_at_once_those_who_wait_and_those_who_left_counted_right(tmp_path: Path) -> None:
    two_models(tmp_path)
    user = give(tmp_path, "ann", limits=Limits(concurrent=2))
    async with house(tmp_path, preset=f"[{MINE}]\nparallel = 1\n") as home:
        (access,) = home.node.reception.gate.ring.all()
        meter = access.meter
        assert meter is not None
        slow = {"model": MINE, "stream": True, "fake": {"tokens": 10_000, "delay": 0.01}}
        inside, waiting = await home.knock(), await home.knock()
        for door in (inside, waiting):
            door.send(post_of(slow, **user))
        await until(lambda: meter.inside == 2)
        await until(lambda: home.node.supervisor.scheduler.waiting(MINE) == 1)
        status, body = await both(home, "POST", CHAT, {"model": MINE}, **user)
        assert (status, json.loads(body)["error"]["reason"]) == (429, "rate_limited")
        waiting.close()
        await until(lambda: meter.inside == 1)
        inside.close()
        await until(lambda: meter.inside == 0)
        for wish in ({"model": "nothing"}, {"model": MINE, "messages": []}):
            await both(home, "POST", CHAT, wish, **user)
        assert meter.inside == 0
        assert meter.tokens(home.node.reception.gate.date()) > 0  # also of the answers that were left


def post_of(body: dict[str, Any], **headers: str) -> bytes:
    sent = json.dumps(body).encode()
    lines = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
    return f"POST {CHAT} HTTP/1.1\r\nhost: h\r\ncontent-length: {len(sent)}\r\n{lines}\r\n".encode() + sent


async def test_tokens_are_those_that_the_answer_says_and_are_used_up(tmp_path: Path) -> None:
    two_models(tmp_path)
    user = give(tmp_path, "ann", limits=Limits(tokens_per_day=30))
    async with house(tmp_path) as home:
        gate = home.node.reception.gate
        (access,) = gate.ring.all()
        assert access.meter is not None
        door = await home.knock()
        answer = await door.ask(CHAT, {"model": MINE, "max_tokens": 6}, **user)
        said = answer.json()["usage"]["total_tokens"]
        assert access.meter.tokens(gate.date()) == said > 6
        streamed = await door.ask(CHAT, {"model": MINE, "max_tokens": 20, "stream": True}, **user)
        assert streamed.whole
        assert access.meter.tokens(gate.date()) == said + said - 6 + 20
        refused = await door.ask(CHAT, {"model": MINE}, **user)
        assert (refused.status, refused.json()["error"]["reason"]) == (429, "tokens_used_up")
        assert 1 <= int(refused.headers["retry-after"]) <= 86_400


async def test_what_was_used_of_a_day_is_known_after_a_restart(tmp_path: Path) -> None:
    two_models(tmp_path)
    user = give(tmp_path, "ann", limits=Limits(tokens_per_day=30))
    async with house(tmp_path) as home:
        door = await home.knock()
        assert (await door.ask(CHAT, {"model": MINE, "max_tokens": 40}, **user)).status == 200
        used = home.node.reception.gate.said()[0]["tokens_today"]
    assert (tmp_path / "usage.toml").stat().st_mode & 0o777 == 0o600
    async with house(tmp_path) as home:
        assert home.node.reception.gate.said()[0]["tokens_today"] == used
        assert (await both(home, "POST", CHAT, {"model": MINE}, **user))[0] == 429
    (tmp_path / "usage.toml").write_text("nonsense")
    async with house(tmp_path) as home:
        assert home.node.reception.gate.said()[0]["tokens_today"] == 0


@pytest.mark.parametrize(("option", "own"), [("4", ""), ("100", "lr-queue-per-model = 4\n")])
async def test_one_key_cannot_fill_the_queue_of_a_model(tmp_path: Path, option: str, own: str) -> None:
    two_models(tmp_path)
    user, other = give(tmp_path, "ann"), give(tmp_path, "bob")
    slow = f"lr-engine = {engine_with(tmp_path, '--fake-load-seconds', '600')}"
    async with house(tmp_path, "--queue-per-model", option, preset=f"[{MINE}]\n{own}{slow}\n") as home:
        waiting = [await home.knock() for _ in range(2)]
        for door in waiting:
            door.send(post_of({"model": MINE}, **user))
        await until(lambda: home.node.supervisor.scheduler.waiting(MINE) == 2)
        status, body = await both(home, "POST", CHAT, {"model": MINE}, **user)
        error = json.loads(body)["error"]
        assert (status, error["reason"]) == (429, "queue_full")
        assert "its share of the queue" in error["message"]
        for _ in range(2):
            (door := await home.knock()).send(post_of({"model": MINE}, **other))
            waiting.append(door)
        await until(lambda: home.node.supervisor.scheduler.waiting(MINE) == 4)
        for door in waiting:
            door.close()
        await until(lambda: home.node.supervisor.scheduler.waiting(MINE) == 0)


async def test_a_key_alone_may_fill_it(tmp_path: Path) -> None:
    two_models(tmp_path)
    slow = f"lr-engine = {engine_with(tmp_path, '--fake-load-seconds', '600')}"
    preset = f"[{MINE}]\n{slow}\n"
    async with house(tmp_path, "--queue-per-model", "4", "--api-key", "k", preset=preset) as home:
        waiting = [await home.knock() for _ in range(4)]
        for door in waiting:
            door.send(post_of({"model": MINE}, authorization="Bearer k"))
        await until(lambda: home.node.supervisor.scheduler.waiting(MINE) == 4)
        for door in waiting:
            door.close()


async def test_what_holds_the_memory_is_not_said_to_who_does_not_see_it(tmp_path: Path) -> None:
    two_models(tmp_path)
    user = give(tmp_path, "ann", models=(MINE,))
    preset = f"[{OTHERS}]\nlr-pin = true\n"
    async with house(tmp_path, "--models-max", "1", "--max-wait", "0", preset=preset) as home:
        async with asgi_client(home.admin) as admin:
            assert (await admin.post("/tokenize", json={"model": OTHERS, "content": "x"})).status_code == 200
            said = await admin.post("/tokenize", json={"model": MINE, "content": "x"})
            assert said.status_code == 503
            assert OTHERS in said.text
        status, body = await both(home, "POST", "/tokenize", {"model": MINE, "content": "x"}, **user)
        assert (status, json.loads(body)["error"]["reason"]) == (503, "no_place")
        assert OTHERS.encode() not in body


async def test_a_conversation_stays_with_its_key_when_that_gets_a_new_secret(tmp_path: Path) -> None:
    two_models(tmp_path)
    user, other = give(tmp_path, "ann"), give(tmp_path, "bob")
    async with house(tmp_path) as home:
        body = {"model": MINE, "stream": True, "fake": {"tokens": 2}}
        door = await home.knock()
        door.send(post_of(body, **user, **{"x-conversation-id": "c"}))
        whole = (await door.answer()).body
        stream = "/v1/stream?conv_id=c"
        assert (await home.client.get(stream, headers=user)).content == whole
        assert (await home.client.get(stream, headers=other)).status_code == 404
        take(tmp_path, "ann")
        again = give(tmp_path, "ann")  # made anew: with the same name, and the same time of its making
        home.node.reception.gate.look_again()
        assert (await home.client.get(stream, headers=again)).content == whole


async def test_a_conversation_of_a_default_model_goes_on_counts_and_is_found(tmp_path: Path) -> None:
    two_models(tmp_path)
    user = give(tmp_path, "ann", models=(MINE,), default_model=MINE, limits=Limits(concurrent=1, tokens_per_day=10**6))
    async with house(tmp_path) as home:
        gate = home.node.reception.gate
        (access,) = gate.ring.all()
        meter = access.meter
        assert meter is not None
        named = {**user, "x-conversation-id": "c"}
        first = await home.knock()
        first.send(post_of({"model": "gpt-4", "stream": True, "fake": {"tokens": 2}}, **named))
        whole = (await first.answer()).body
        assert (await home.client.get("/v1/stream?conv_id=c", headers=user)).content == whole
        second = await home.knock()
        second.send(post_of({"model": "gpt-4", "stream": True, "fake": {"tokens": 10_000, "delay": 0.01}}, **named))
        await second.reader.readuntil(b"data: ")
        second.close()
        await until(
            lambda: home.node.traffic.running() and all(each.unattended for each in home.node.traffic.running())
        )
        assert meter.inside == 1  # it goes on without its client
        assert (await both(home, "POST", CHAT, {"model": MINE}, **user))[0] == 429
        before = meter.tokens(gate.date())
        assert (await home.client.delete("/v1/stream?conv_id=c", headers=user)).status_code == 204
        await until(lambda: meter.inside == 0)
        assert meter.tokens(gate.date()) > before


async def test_a_key_in_the_url_opens_nothing(tmp_path: Path) -> None:
    two_models(tmp_path)
    give(tmp_path, "ann")
    async with house(tmp_path) as home:
        for name in ("key", "api_key", "api-key", "access_token", "authorization", "token"):
            assert (await both(home, "GET", f"/models?{name}={secret_of('ann')}"))[0] == 401
            assert (await both(home, "POST", f"/tokenize?{name}={secret_of('ann')}", {"model": MINE}))[0] == 401


async def test_the_key_is_taken_anew_for_each_request_of_a_connection(tmp_path: Path) -> None:
    two_models(tmp_path)
    user = give(tmp_path, "ann")
    give(tmp_path, "bob")
    async with house(tmp_path) as home:
        door = await home.knock()
        for _ in range(3):
            assert (await door.ask("/tokenize", {"model": MINE, "content": "x"}, **user)).status == 200
        take(tmp_path, "ann")
        home.node.reception.gate.look_again()
        assert (await door.ask("/tokenize", {"model": MINE, "content": "x"}, **user)).status == 401
