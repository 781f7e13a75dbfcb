"""A line for each request, by both doors: who, what, how long, how it ended, and never what was said."""

from __future__ import annotations

import asyncio
import json
import logging
from pathlib import Path
from typing import Any

import msgspec
import pytest

from llamarouter.core.access import OPEN, OPERATOR
from llamarouter.core.keys import Limits
from llamarouter.core.log_line import RequestLine, request_in
from llamarouter.core.routes import RELAYED
from llamarouter.relay.call import Call, Ending
from llamarouter.relay.switchboard import Ask, Outcome
from llamarouter.server.request_log import RequestLog
from tests.key_kit import give
from tests.node_kit import House, add_model, house
from tests.relay_rig import post
from tests.waiting import until

pytestmark = pytest.mark.anyio

CANARY = "CANARY"
CHAT = next(route for route in RELAYED if route.path == "/v1/chat/completions")
TOKENIZE = next(route for route in RELAYED if route.path == "/tokenize")


def lines_of(home: House) -> list[dict[str, Any]]:
    """The requests in the log so far."""
    home.node.traffic.journal.flush()
    said = [json.loads(line) for line in home.node.book.ring.lines()]
    return [line for line in said if line["type"] == "request"]


async def last_line(home: House, **expected: object) -> dict[str, Any]:
    """The line of the last request, which says at least this."""

    def is_there() -> bool:
        lines = lines_of(home)
        return bool(lines) and expected.items() <= lines[-1].items()

    await until(is_there)
    return lines_of(home)[-1]


async def test_each_request_has_its_line_by_both_doors(tmp_path: Path) -> None:
    add_model(tmp_path / "models", "m")
    alice = give(tmp_path, "alice", models=("m",))
    async with house(tmp_path) as home:
        door = await home.knock()
        chat = {"model": "m", "messages": [{"role": "user", "content": CANARY}]}
        for number, ask in enumerate(("door", "asgi")):
            count = len(lines_of(home))
            if ask == "door":
                answer: Any = await door.ask(body=chat, authorization=alice["authorization"], x_request_id=ask)
                status = answer.status
            else:
                answer = await home.client.post(
                    "/v1/chat/completions", json=chat, headers={**alice, "x-request-id": ask}
                )
                status = answer.status_code
            assert status == 200
            assert answer.headers["x-request-id"] == ask
            line = await last_line(home, id=ask)
            assert len(lines_of(home)) == count + 1
            assert (line["key"], line["model"], line["status"]) == ("alice", "m", 200)
            assert (line["method"], line["route"]) == ("POST", "/v1/chat/completions")
            assert (line["outcome"], line["reason"], line["level"]) == ("ok", None, "info")
            assert line["bytes_in"] == len(json.dumps(chat)) if ask == "door" else line["bytes_in"] > 60
            assert line["bytes_out"] == len(answer.body if ask == "door" else answer.content)
            assert line["duration_ms"] >= line["first_byte_ms"] >= line["load_ms"] + line["queue_ms"]
            assert (line["load_ms"] > 0) is (number == 0)
            assert line["generated_tokens"] > 0
            assert line["peer"].startswith("127.0.0.1:")
            assert line["time"] > 1.6e15


REFUSED = [
    ("/v1/chat/completions", {"model": "m"}, {"authorization": "Bearer sk-CANARY"}, 401, "invalid_api_key"),
    ("/lr/stop", {}, None, 403, "forbidden"),
    ("/v1/chat/completions", {"model": "secret"}, None, 404, "model_not_found"),
    ("/nowhere", {}, None, 404, "not_found"),
    ("/health", {}, None, 405, "method_not_allowed"),
    ("/tokenize?model=m&key=CANARY", [], None, 400, "invalid_json"),
]


@pytest.mark.parametrize(("path", "body", "headers", "status", "reason"), REFUSED)
async def test_refusals_have_their_lines(
    tmp_path: Path, path: str, body: Any, headers: dict[str, str] | None, status: int, reason: str
) -> None:
    add_model(tmp_path / "models", "m")
    alice = give(tmp_path, "alice", models=("m",))
    async with house(tmp_path) as home:
        door = await home.knock()
        data = json.dumps(body).encode() if isinstance(body, dict) else b"{CANARY"
        answer = await door.ask(path, data, **(headers or alice), x_request_id="a")
        other = await home.client.post(path, content=data, headers={**(headers or alice), "x-request-id": "b"})
        assert (answer.status, other.status_code) == (status, status)
        await last_line(home, id="b")
        first, second = lines_of(home)
        for id, line in (("a", first), ("b", second)):
            assert (line["id"], line["status"], line["outcome"], line["reason"]) == (id, status, "refused", reason)
            assert line["route"] == path.partition("?")[0]
            assert line["key"] == (None if status == 401 or path == "/health" else "alice")  # nobody has looked there
            assert line["bytes_out"] == len(answer.body)
            assert CANARY not in json.dumps(line)
        assert answer.headers["x-request-id"] == "a"
        assert other.headers["x-request-id"] == "b"


async def test_who_does_too_much_has_a_line_for_it(tmp_path: Path) -> None:
    add_model(tmp_path / "models", "m")
    alice = give(tmp_path, "alice", limits=Limits(rpm=1))
    async with house(tmp_path) as home:
        door = await home.knock()
        statuses = [(await door.ask("/tokenize", {"content": "x"}, **alice)).status for _ in range(2)]
        assert statuses == [200, 429]
        line = await last_line(home, status=429, outcome="refused", reason="rate_limited", key="alice", model="m")
        assert line["generated_tokens"] is None


async def test_what_cannot_be_read_and_wrong_names_have_lines_with_who_came(tmp_path: Path) -> None:
    async with house(tmp_path) as home:
        for data, status, reason in (
            (b"GET /health HTTP/1.1\r\nhost: evil.example\r\n\r\n", 421, "misdirected_request"),
            (b"GET /health HTTP/1.1\r\n\r\n", 400, "bad_request"),
            (b"\x00nonsense\r\n\r\n", 400, "bad_request"),
            (b"POST /models/load HTTP/1.1\r\nhost: h\r\ncontent-length: 9000000\r\n\r\n", 413, "request_too_large"),
        ):
            door = await home.knock()
            door.send(data)
            assert (await door.answer()).status == status
            line = await last_line(home, status=status, reason=reason, outcome="refused")
            assert line["peer"].startswith("127.0.0.1:")


@pytest.mark.parametrize("name", ["x\n2026 I all is well", "\x1b[2J\x9b31m", "\u202egnp", "n" * 500])
async def test_nothing_that_a_client_writes_steers_the_log(tmp_path: Path, name: str) -> None:
    async with house(tmp_path) as home:
        door = await home.knock()
        assert (await door.ask(body={"model": name})).status == 404
        line = await last_line(home, status=404)
        assert line["model"].isprintable()
        assert len(line["model"]) < 300
        text = (await home.client.get("/lr/logs")).text
        assert len(text.splitlines()) == 1
        assert text.rstrip("\n").isprintable()
        path = "/" + "".join(f"%{byte:02x}" for byte in name.encode())
        await home.client.get(path)
        line = await last_line(home, status=404, method="GET")
        assert line["route"].isprintable()
        assert len(line["route"]) < 300


async def test_probes_that_find_all_well_are_no_news(tmp_path: Path) -> None:
    async with house(tmp_path) as home:
        await home.client.get("/health")
        await home.client.get("/readyz")
        assert lines_of(home) == []
        home.node.supervisor.close(0.0)
        await home.client.get("/readyz")
        assert [line["status"] for line in lines_of(home)] == [503]


async def test_without_the_log_of_requests_there_is_none(tmp_path: Path) -> None:
    async with house(tmp_path, "--no-log-requests") as home:
        assert (await home.client.get("/nowhere")).headers["x-request-id"]
        assert lines_of(home) == []
        assert home.node.traffic.journal.readers == [] or len(home.node.traffic.journal.readers) == 1


async def test_the_routers_log_is_read_and_followed(tmp_path: Path) -> None:
    user, admin = give(tmp_path, "alice"), give(tmp_path, "root", admin=True)
    async with house(tmp_path) as home:
        assert (await home.client.get("/lr/logs", headers=user)).status_code == 403
        for number in range(5):
            await home.client.get(f"/nowhere/{number}", headers=user)
        text = (await home.client.get("/lr/logs?n=2", headers=admin)).text
        assert [line.split()[4] for line in text.splitlines()] == ["/nowhere/3", "/nowhere/4"]
        raw = (await home.client.get("/lr/logs?n=1&format=json", headers=admin)).text
        assert json.loads(raw)["route"] == "/lr/logs"
        assert (await home.client.get("/lr/logs?n=x", headers=admin)).status_code == 400
        assert (await home.client.get("/lr/logs?n=0", headers=admin)).text == ""

        reader = await home.knock()
        reader.send(post("/lr/logs?follow=1&n=1", b"", **admin).replace(b"POST", b"GET"))
        async with asyncio.timeout(10):
            await reader.reader.readuntil(b"/lr/logs")
            assert home.node.book.ring.followers == 1
            await home.client.get("/nowhere/else", headers=user)
            await reader.reader.readuntil(b"/nowhere/else")
        reader.close()
        await until(lambda: home.node.book.ring.followers == 0)
        await last_line(home, route="/lr/logs", outcome="client gone", key="root")


async def test_the_log_of_a_model_can_be_had_by_its_end(tmp_path: Path) -> None:
    add_model(tmp_path / "models", "m")
    async with house(tmp_path) as home:
        await home.node.supervisor.load("m")
        whole = (await home.client.get("/lr/logs?model=m")).text.splitlines()
        assert (await home.client.get("/lr/logs?model=m&n=2")).text.splitlines() == whole[-2:]
        said = [json.loads(line) for line in home.node.book.ring.lines()]
        assert [line["type"] for line in said if line["type"] == "model"] == []  # nobody has set up logging here


async def test_what_happens_to_models_is_said_with_its_reason(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    for name in "ab":
        add_model(tmp_path / "models", name)
    async with house(tmp_path, "--models-max", "1") as home:
        await home.node.supervisor.load("a")
        await home.node.supervisor.load("b")
    facts = [getattr(record, "facts", None) for record in caplog.records]
    events = [(each["model"], each["event"], each.get("reason")) for each in facts if each]
    assert events[:6] == [
        ("a", "loading", None),
        ("a", "ready", None),
        ("a", "stopping", "evicted"),
        ("a", "gone", None),
        ("b", "loading", None),
        ("b", "ready", None),
    ]
    assert facts[2] == {
        "type": "model",
        "model": "a",
        "event": "stopping",
        "reason": "evicted",
        "for": "b",
        "lacks": "place",
    }
    assert "stopping a (evicted: b needs its place)" in caplog.messages


# --- what a line is made of -------------------------------------------------------------------------------------------


def line_for(call: Call, least: int = 0) -> RequestLine | None:
    lines: list[bytes] = []
    RequestLog(lines.extend, lambda: 0.0, lambda ask: None, least=least).take([call])
    return request_in(lines[0]) if lines else None


def call_with(**changes: Any) -> Call:
    call = Call(b"a", 1.0, ("::1", 5), b"POST", "/v1/chat/completions", ended=3.5, status=200)
    for name, value in changes.items():
        setattr(call, name, value)
    return call


SAID = b'{"usage":{"prompt_tokens":3,"completion_tokens":4,"prompt_tokens_details":{"cached_tokens":2}}}'


@pytest.mark.parametrize(
    ("outcome", "route", "tokens"),
    [
        (Outcome(200, True, False, SAID), CHAT, (3, 2, 4, False)),
        (Outcome(200, True, False, SAID), TOKENIZE, (None, None, None, False)),
        (Outcome(400, True, False, SAID), CHAT, (None, None, None, False)),
        (Outcome(0, False, True, b""), CHAT, (10, 0, 0, True)),
        (Outcome(200, False, False, b"data: x", events=5), CHAT, (10, 0, 5, True)),
        (None, CHAT, (None, None, None, False)),
    ],
)
def test_tokens_are_those_that_were_computed(outcome: Outcome | None, route: Any, tokens: tuple[object, ...]) -> None:
    line = line_for(call_with(outcome=outcome, ask=Ask("m", route, 40)))
    assert line is not None
    assert (line.prompt_tokens, line.cached_tokens, line.generated_tokens, line.tokens_estimated) == tokens
    assert line.model == "m"
    assert line.peer == "[::1]:5"
    assert (line.duration_ms, line.first_byte_ms) == (2500, None)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({}, ("info", "ok", None)),
        ({"status": 400, "outcome": Outcome(400, True, False, b"")}, ("info", "refused", "by_its_model")),
        ({"status": 500, "outcome": Outcome(500, True, False, b"")}, ("warn", "failed", "by_its_model")),
        ({"ending": Ending.TRUNCATED, "reason": "model_crashed"}, ("warn", "truncated", "model_crashed")),
        ({"ending": Ending.CLIENT_GONE}, ("info", "client gone", None)),
        ({"path": "/health"}, ("debug", "ok", None)),
        ({"path": "/lr/status", "method": b"GET", "access": OPERATOR}, ("debug", "ok", None)),  # lr top
        ({"path": "/models", "method": b"GET", "access": OPEN}, ("info", "ok", None)),
        ({"path": "/models", "method": b"POST", "access": OPERATOR}, ("info", "ok", None)),
        ({"path": "/health", "status": 421, "ending": Ending.REFUSED}, ("info", "refused", None)),
    ],
)
def test_how_it_ended_and_how_much_it_matters(changes: dict[str, Any], said: tuple[str, str, str | None]) -> None:
    line = line_for(call_with(**changes))
    assert line is not None
    assert (line.level, line.outcome, line.reason) == said
    shown = line_for(call_with(**changes), least=logging.WARNING)
    assert (shown is not None) is (said[0] == "warn")


def usual(number: int, **changes: Any) -> Call:
    """One of many that are alike, in other numbers."""
    since = 100.0 + number * 0.013
    said = Outcome(200, True, False, b'{"usage":{"prompt_tokens":%d,"completion_tokens":4}}' % (7 + number))
    facts = {"since": since, "first": since + 0.0021 * number, "ended": since + 0.031 * number, "model": "m"}
    numbers = {"id": b"a-%x" % number, "bytes_in": 40 + number, "bytes_out": number, "queue": number / 7, "load": 0.0}
    return call_with(**{**facts, **numbers, "outcome": said, "ask": Ask("m", CHAT, 40), **changes})


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"ask": Ask("m", TOKENIZE, 40)},
        {"outcome": Outcome(200, True, False, b"data: x", events=5)},
        {"path": 'a%d"time":0,"id":"",%b', "model": '50%,"id":"","time":0,'},
        {"access": OPERATOR},
        {"peer": None},
        {"method": b"GET", "path": "/metrics"},
        {"status": 400, "outcome": Outcome(400, True, False, b"")},
        {"status": 500, "outcome": Outcome(500, True, False, b"")},
    ],
)
def test_lines_of_requests_that_are_alike_are_what_each_would_be_alone(changes: dict[str, Any]) -> None:
    together: list[bytes] = []
    log = RequestLog(together.extend, lambda: 0.0, lambda ask: None, least=0)
    log.take([usual(number, **changes) for number in range(5)])
    for number, line in enumerate(together):
        call = usual(number, **changes)
        said = request_in(line)
        alone = request_in(log._whole(call, 0.0) or b"")
        since_first = (said.time - request_in(together[0]).time) / 1e6
        assert since_first == pytest.approx(call.ended - usual(0, **changes).ended, abs=2e-6)
        assert msgspec.structs.replace(said, time=alone.time) == alone
        assert list(json.loads(line)) == list(json.loads(log._whole(call, 0.0) or b""))
    assert len(together) == 5


def test_who_comes_once_costs_no_pattern_and_has_the_same_line() -> None:
    """A client that connects anew for each request is another one each time: a pattern is worth it the second time."""
    lines: list[bytes] = []
    log = RequestLog(lines.extend, lambda: 0.0, lambda ask: None, least=logging.INFO)
    log.take([usual(number, peer=("10.0.0.1", 1024 + number)) for number in range(50)])
    assert not any(log._patterns.values())
    assert [request_in(line).peer for line in lines] == [f"10.0.0.1:{1024 + number}" for number in range(50)]
    log.take([usual(number, peer=("10.0.0.1", 1024)) for number in range(50)])
    assert sum(map(bool, log._patterns.values())) == 2  # of those that have waited, and of the one that has not
    assert len(lines) == 100
