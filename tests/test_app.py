"""The application: who may come in, what each path answers through both doors, and the shapes of refusals."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from starlette.routing import Route

from llamarouter.core.routes import RELAYED
from llamarouter.server.api import control_routes
from llamarouter.server.guard import PUBLIC
from tests.node_kit import House, add_model, asgi_client, house
from tests.waiting import until

pytestmark = pytest.mark.anyio

KEY = "sk-right"
ORIGIN = {"origin": "http://page.example"}
# Written here a second time on purpose: a route that opens itself must change a test.
OPEN_PATHS = {"/", "/health", "/v1/health", "/livez", "/readyz"}


def every_route(home: House) -> Iterator[tuple[str, str]]:
    """Method and path of everything that is routed, with a value for each parameter."""
    table = [(row.method, row.path) for row in RELAYED]
    for route in control_routes(home.node):
        assert isinstance(route, Route)
        table += [(method, route.path) for method in sorted(route.methods or ())]
    for method, path in table:
        yield method, path.replace("{id:path}", "m").replace("{id_slot}", "0")


def head(method: str, path: str, **headers: str) -> bytes:
    lines = "".join(f"{name.replace('_', '-')}: {value}\r\n" for name, value in headers.items())
    return f"{method} {path} HTTP/1.1\r\nhost: h\r\ncontent-length: 0\r\n{lines}\r\n".encode()


async def test_every_route_but_the_public_list_is_closed_without_a_key_through_both_doors(tmp_path: Path) -> None:
    add_model(tmp_path / "models", "m")
    async with house(tmp_path, "--api-key", KEY) as home:
        routes = [*every_route(home), ("GET", "/nowhere"), ("POST", "/nowhere"), ("GET", "/sw.js"), ("PUT", "/models")]
        assert len(routes) > 50
        door = await home.knock()
        for method, path in routes:
            public = path in OPEN_PATHS
            for wrong in ({}, {"authorization": "Bearer sk-wrong"}, {"x-api-key": ""}):
                answer = await home.client.request(method, path, headers=wrong)
                assert (answer.status_code != 401) is public, (method, path, wrong, answer.status_code)
                if not public and method != "HEAD":
                    assert answer.json()["error"]["reason"] == "invalid_api_key"
            door.send(head(method, path))
            raw = await door.answer(head_only=method == "HEAD")
            assert (raw.status != 401) is public, (method, path, raw.status)
            if raw.headers.get("connection") == "close":
                door = await home.knock()
        assert not home.node.supervisor.children
    assert PUBLIC == OPEN_PATHS


async def test_the_fast_lane_asks_for_the_key_also_when_the_model_is_warm(tmp_path: Path) -> None:
    add_model(tmp_path / "models", "m")
    async with house(tmp_path, "--api-key", KEY) as home:
        door = await home.knock()
        for _ in range(2):  # cold, then warm
            assert (await door.ask("/tokenize", {"content": "x"}, authorization=f"Bearer {KEY}")).status == 200
        for wrong in ("", "Bearer sk-wrong", "Bearer", f"Bearer {KEY}x", f"Basic {KEY}"):
            refused = await (await home.knock()).ask("/tokenize", {"content": "x"}, authorization=wrong)
            assert (refused.status, refused.json()["error"]["reason"]) == (401, "invalid_api_key"), wrong
        for right in (f"Bearer {KEY}", f"bearer {KEY}", KEY):
            assert (await (await home.knock()).ask("/tokenize", {"content": "x"}, authorization=right)).status == 200
        assert (await (await home.knock()).ask("/tokenize", {"content": "x"}, x_api_key=KEY)).status == 200


async def test_the_admin_socket_asks_for_no_key(tmp_path: Path) -> None:
    add_model(tmp_path / "models", "m")
    async with house(tmp_path, "--api-key", KEY) as home, asgi_client(home.admin) as admin:
        assert (await admin.get("/models")).status_code == 200
        relayed = {"model": "m", "content": "x"}  # `lr run` and `lr compare` come this way, too
        assert (await admin.post("/tokenize", json=relayed)).status_code == 200
        assert (await home.client.post("/tokenize", json=relayed)).status_code == 401
        assert (await home.client.get("/models")).status_code == 401
        assert (await home.client.get("/models", headers={"x-api-key": KEY})).status_code == 200


async def test_what_is_not_there_and_what_is_not_allowed_have_the_shape_of_errors(tmp_path: Path) -> None:
    cases = [
        ("GET", "/nowhere", 404, "not_found", None),
        ("POST", "/nowhere", 404, "not_found", None),
        ("GET", "/models/", 404, "not_found", None),
        ("GET", "/v1/models/nobody", 404, "model_not_found", None),
        ("GET", "/v1/chat/completions", 405, "method_not_allowed", "POST"),
        ("DELETE", "/health", 405, "method_not_allowed", "GET, HEAD"),
        ("PATCH", "/models", 405, "method_not_allowed", "DELETE, GET, HEAD, POST"),
        ("PUT", "/props", 405, "method_not_allowed", "GET, HEAD, POST"),
        ("POST", "/models/sse", 405, "method_not_allowed", "GET, HEAD"),
    ]
    async with house(tmp_path) as home:
        for method, path, status, reason, allow in cases:
            answer = await home.client.request(method, path)
            door = await home.knock()
            door.send(head(method, path))
            raw = await door.answer()
            for got, headers, body in (
                (answer.status_code, answer.headers, answer.json()),
                (raw.status, raw.headers, raw.json()),
            ):
                error = body["error"]
                assert (got, error["code"], error["reason"]) == (status, status, reason), (method, path)
                assert set(error) == {"code", "message", "type", "param", "reason"}
                assert headers.get("allow") == allow, (method, path)
                assert allow is None or error["message"] == f"{method} is not allowed here; allowed: {allow}"
                assert headers["content-type"].startswith("application/json")


async def test_head_is_a_get_without_a_body(tmp_path: Path) -> None:
    async with house(tmp_path) as home:
        for path in ("/health", "/readyz", "/models", "/v1/models", "/props", "/lr/status", "/"):
            whole = await home.client.get(path)
            door = await home.knock()
            door.send(head("HEAD", path) + head("GET", path))
            first, second = await door.answer(head_only=True), await door.answer()
            assert first.status == second.status == whole.status_code == 200, path
            assert first.headers["content-type"] == second.headers["content-type"]
            assert second.body


async def test_options_is_answered_everywhere_without_a_key(tmp_path: Path) -> None:
    async with house(tmp_path, "--api-key", KEY) as home:
        for path in ("/models", "/v1/chat/completions", "/nowhere"):
            preflight = {**ORIGIN, "access-control-request-method": "POST"}
            answer = await home.client.options(path, headers=preflight)
            door = await home.knock()
            door.send(head("OPTIONS", path, **preflight))
            raw = await door.answer()
            for status, headers in ((answer.status_code, answer.headers), (raw.status, raw.headers)):
                assert status == 200, path
                assert headers["access-control-allow-origin"] == "*"
                assert "POST" in headers["access-control-allow-methods"]
                assert headers["access-control-allow-headers"] == "*"
                assert headers["access-control-allow-credentials"] == "false"  # there are keys
                assert headers["content-type"].startswith("text/html")


async def test_every_kind_of_answer_carries_cors_headers_through_both_doors(tmp_path: Path) -> None:
    add_model(tmp_path / "models", "m")
    body = json.dumps({"model": "m", "content": "x"})
    asks: list[tuple[str, str, str, int]] = [
        ("GET", "/models", "", 200),
        ("GET", "/nowhere", "", 404),
        ("PUT", "/models", "", 405),
        ("POST", "/tokenize", "{", 400),
        ("POST", "/tokenize", body, 200),  # cold: Starlette's route
        ("POST", "/tokenize", body, 200),  # warm: the fast lane
        ("POST", "/tokenize", '{"model": "nobody"}', 404),
    ]
    origins = f"http://another.example,{ORIGIN['origin']}"
    async with house(tmp_path, "--api-key", KEY, "--cors-origins", origins) as home:
        door = await home.knock()
        for method, path, content, status in asks:
            headers: dict[str, Any] = {**ORIGIN, "x-api-key": KEY}
            answer = await home.client.request(method, path, content=content, headers=headers)
            door.send(
                f"{method} {path} HTTP/1.1\r\nhost: h\r\norigin: {ORIGIN['origin']}\r\nx-api-key: {KEY}\r\n"
                f"content-length: {len(content)}\r\n\r\n{content}".encode()
            )
            raw = await door.answer()
            for got, names in ((answer.status_code, answer.headers), (raw.status, raw.headers)):
                assert got == status, (method, path, content)
                assert names["access-control-allow-origin"] == ORIGIN["origin"], (method, path, content)
                assert "origin" in names["vary"].lower()
            if raw.headers.get("connection") == "close":
                door = await home.knock()
        without = await home.client.get("/models", headers={"x-api-key": KEY})
        assert "access-control-allow-origin" not in without.headers
        refused = await home.client.get("/models", headers=ORIGIN)
        assert (refused.status_code, refused.headers["access-control-allow-origin"]) == (401, ORIGIN["origin"])


async def test_props_is_the_routers_own_unless_it_names_a_model(tmp_path: Path) -> None:
    add_model(tmp_path / "models", "m")
    async with house(tmp_path) as home:
        assert (await home.client.get("/props")).json()["role"] == "router"
        assert (await home.client.get("/props?model=nobody")).status_code == 404
        assert (await home.client.get("/props?model=m")).json().get("role") != "router"


async def test_bodies_of_control_routes_are_bounded_and_must_be_objects(tmp_path: Path) -> None:
    cases = [
        (b"", 400, "invalid_json"),
        (b"{", 400, "invalid_json"),
        (b"[]", 404, "model_not_found"),
        (b"\xff\xfe", 400, "invalid_json"),
        (b"[" * 100_000, 400, "json_too_deep"),
        (b'{"model": "' + b"x" * (1 << 20) + b'"}', 413, "request_too_large"),
        (b"{}", 404, "model_not_found"),
        (b'{"model": 3}', 404, "model_not_found"),
        (b'{"model": "nobody"}', 404, "model_not_found"),
    ]
    async with house(tmp_path) as home:
        for content, status, reason in cases:
            answer = await home.client.post("/models/load", content=content)
            assert (answer.status_code, answer.json()["error"]["reason"]) == (status, reason), content[:20]
            assert "recursion" not in answer.text
        for content in (b"{}", b'{"model": ""}', b'{"model": 3}', b'{"model": "no repository"}'):
            answer = await home.client.post("/models", content=content)
            assert (answer.status_code, answer.json()["error"]["reason"]) == (400, "bad_request")
        assert (await home.client.delete("/models")).status_code == 400


async def test_bodies_of_control_routes_count_among_those_that_are_read(tmp_path: Path) -> None:
    async with house(tmp_path, "--queue-bytes", "1M") as home:
        bodies = home.node.traffic.bodies
        slow, other = await home.knock(), await home.knock()
        head = b"POST /v1/streams/lookup HTTP/1.1\r\nhost: h\r\ncontent-length: 900000\r\n\r\n"
        slow.send(head + b" " * 600_000)
        await until(lambda: bodies.used == 600_000)
        other.send(head + b" " * 600_000)
        refused = await other.answer()
        assert (refused.status, refused.json()["error"]["reason"]) == (429, "queue_full")
        slow.send(b'{"conversation_ids": []}'.rjust(300_000))
        assert (await slow.answer()).json() == []
        assert bodies.used == 0


async def test_a_router_that_is_leaving_says_so_and_starts_nothing(tmp_path: Path) -> None:
    add_model(tmp_path / "models", "m")
    async with house(tmp_path, preset="[h]\nhf-repo = user/repo:Q4_K_M\n") as home:
        assert (await home.client.post("/lr/stop")).json() == {"success": True}
        assert home.stopped.is_set()
        home.node.downloads.end()
        home.node.supervisor.close(0.0)
        assert (await home.client.get("/health")).status_code == 200
        asks = [
            ("GET", "/readyz", None),
            ("POST", "/models/load", {"model": "m"}),
            ("POST", "/models", {"model": "user/other"}),
            ("POST", "/tokenize", {"model": "m", "content": "x"}),
            ("POST", "/tokenize", {"model": "h", "content": "x"}),
        ]
        for method, path, body in asks:
            answer = await home.client.request(method, path, json=body)
            assert (answer.status_code, answer.json()["error"]["reason"]) == (503, "draining"), (path, body)
            assert int(answer.headers["retry-after"]) > 0
        assert (await home.client.get("/lr/status")).json()["draining"] is True


async def test_head_of_an_endless_stream_ends(tmp_path: Path) -> None:
    add_model(tmp_path / "models", "m")
    async with house(tmp_path) as home:
        for path in ("/models/sse", "/lr/logs?model=m&follow=1"):
            door = await home.knock()
            door.send(head("HEAD", path) + head("GET", "/health"))
            first = await door.answer(head_only=True)
            assert first.status == 200
            assert first.headers["content-type"].startswith("text/")
            assert first.headers["x-accel-buffering"] == "no"
            assert (await door.answer()).json() == {"status": "ok"}


async def test_a_client_that_leaves_in_its_body_is_no_failure_of_the_router(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with house(tmp_path) as home:
        door = await home.knock()
        door.send(b"POST /models/load HTTP/1.1\r\nhost: h\r\ncontent-length: 100\r\n\r\n{")
        assert (await home.client.get("/health")).status_code == 200
        door.close()
        await (await home.knock()).ask("/tokenize", {"model": "nobody"})
    assert not [record for record in caplog.records if record.exc_info]


async def test_a_model_that_is_on_its_way_out_may_be_loaded_again(tmp_path: Path) -> None:
    add_model(tmp_path / "models", "m")
    async with house(tmp_path) as home:
        assert (await home.client.post("/models/load", json={"model": "m", "wait": True})).status_code == 200
        again = await home.client.post("/models/load", json={"model": "m"})
        assert (again.status_code, again.json()["error"]["message"]) == (400, "model is already running")
        first = home.node.supervisor.children["m"]
        assert (await home.client.post("/models/unload", json={"model": "m"})).status_code == 200
        assert first.stopping
        assert (await home.client.post("/models/load", json={"model": "m"})).json() == {"success": True}
        waited = await home.client.post("/models/load", json={"model": "m", "wait": True})
        assert waited.json() == {"success": True}
        assert home.node.supervisor.children["m"] is not first


@pytest.mark.parametrize("closing", ["HTTP/1.0\r\n", "HTTP/1.1\r\nconnection: close\r\n"])
@pytest.mark.parametrize(
    ("method", "path", "status"), [("POST", "/models/load", 401), ("POST", "/v1/nowhere", 401), ("PUT", "/health", 405)]
)
async def test_a_refusal_that_comes_before_the_body_is_read_by_who_still_sends_it(
    tmp_path: Path, closing: str, method: str, path: str, status: int
) -> None:
    """A connection that is closed with unread bytes is reset, and what it had to say may be lost with it."""
    piece = b"x" * 65536
    async with house(tmp_path, "--api-key", KEY) as home:
        door = await home.knock()
        length = 100 * len(piece)
        door.send(f"{method} {path} {closing}host: h\r\ncontent-length: {length}\r\n\r\n".encode())
        for _ in range(100):
            door.send(piece)
            await door.writer.drain()
        answer = await door.answer()
        assert (answer.status, answer.headers["connection"], answer.whole) == (status, "close", True)
        assert await door.at_end() == b""
