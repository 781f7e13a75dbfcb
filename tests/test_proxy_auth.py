"""`GET /lr/auth` says to a proxy what the router itself would say to the request that the proxy holds back."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.key_kit import give, take
from tests.node_kit import House, house
from tests.test_key_doors import both, every_route

pytestmark = pytest.mark.anyio


async def asked(home: House, method: str | None, uri: str | None, prefix: str = "", **key: str) -> int:
    """The status of both doors."""
    headers = dict(key)
    if method is not None:
        headers["X-Original-Method"] = method
    if uri is not None:
        headers["X-Original-URI"] = uri
    status, _ = await both(home, "GET", f"{prefix}/lr/auth", **headers)
    return status


async def test_every_route_is_judged_as_at_the_door_itself(tmp_path: Path) -> None:
    user, admin = give(tmp_path, "ann", models=("a",)), give(tmp_path, "ops", admin=True)
    async with house(tmp_path) as home:
        judged = set()
        for method, pattern in every_route(home):
            path = pattern.replace("{id:path}", "x/y").replace("{id_slot}", "0")
            if path == "/models/sse":
                continue  # an answer without an end
            for key in ({}, user):
                told = await asked(home, method, path, **key)
                itself = (
                    told if (told == 200 and not key) else (await both(home, method, path, {"model": "b"}, **key))[0]
                )
                assert told in (200, 401, 403), (method, path)
                # A feature that is not built is forbidden to everybody.
                forbidden = itself == 403 and path not in ("/tools", "/cors-proxy")
                assert (told == 401) == (itself == 401), (method, path)
                assert (told == 403) == forbidden, (method, path)
                judged.add((told, bool(key)))
            assert await asked(home, method, path, **admin) == 200, (method, path)
        assert judged == {(200, False), (401, False), (200, True), (403, True)}
        assert not home.stopped.is_set()


@pytest.mark.parametrize(
    ("method", "uri", "status"),
    [
        (None, None, 200),
        ("POST", None, 200),
        (None, "/v1/models", 200),
        ("POST", "/v1/chat/completions?x=%2F..%2Flr%2Fstop", 200),
        ("GET", "/nothing/of/ours", 200),  # the router answers it with 404
        ("POST", "/models/load", 403),
        ("HEAD", "/lr/status", 403),
        ("POST", "/lr%2Fstop", 403),
        ("POST", "/%6cr/stop", 403),
        ("POST", "/lr/stop?model=a", 403),
        ("OPTIONS", "/lr/stop", 200),
        ("POST", "//lr/stop", 403),
        ("POST", "/lr//stop", 403),
        ("POST", "/lr/./stop", 403),
        ("POST", "/v1/../lr/stop", 403),
        ("POST", "/v1/%2e%2E/lr/stop", 403),
        ("POST", "/lr%2f%2fstop", 403),
        ("POST", "/lr/stop/.", 403),
        ("POST", "/lr/stop#x", 403),
        ("GET", "/v1/models/a..b/.c/...", 200),
        ("GET", "http://elsewhere/v1/models", 403),
        ("GET", "", 403),
    ],
)
async def test_a_key_that_uses_models(tmp_path: Path, method: str | None, uri: str | None, status: int) -> None:
    user = give(tmp_path, "ann")
    async with house(tmp_path) as home:
        assert await asked(home, method, uri, **user) == status
        without = await asked(home, method, uri)
        assert without == (200 if method == "OPTIONS" else 401)


async def test_whose_key_it_is_is_said_and_one_that_was_taken_away_is_none(tmp_path: Path) -> None:
    user = give(tmp_path, "ann")
    async with house(tmp_path) as home:
        answer = await home.client.get("/lr/auth", headers=user)
        assert (answer.status_code, answer.content, answer.headers["x-lr-key"]) == (200, b"", "ann")
        give(tmp_path, "other")
        take(tmp_path, "ann")
        home.node.reception.gate.look_again()
        refused = await home.client.get("/lr/auth", headers=user)
        assert refused.status_code == 401
        assert "x-lr-key" not in refused.headers


async def test_who_names_the_request_twice_is_refused(tmp_path: Path) -> None:
    user = give(tmp_path, "ann")
    async with house(tmp_path) as home:
        twice = [*user.items(), ("x-original-uri", "/v1/models"), ("x-original-uri", "/lr/stop")]
        twice.append(("x-original-method", "GET"))
        assert (await home.client.get("/lr/auth", headers=twice)).status_code == 403


async def test_without_keys_everybody_may(tmp_path: Path) -> None:
    async with house(tmp_path) as home:
        assert await asked(home, "POST", "/lr/stop") == 200
        assert "x-lr-key" not in (await home.client.get("/lr/auth")).headers
        assert not home.stopped.is_set()


async def test_behind_a_prefix_the_request_is_named_as_it_came(tmp_path: Path) -> None:
    user = give(tmp_path, "ann")
    async with house(tmp_path, "--api-prefix", "/llm") as home:
        assert await asked(home, "GET", "/llm/v1/models", "/llm", **user) == 200
        assert await asked(home, "POST", "/llm/lr/stop", "/llm", **user) == 403
        assert await asked(home, "GET", "/v1/models", "/llm", **user) == 403
        assert await asked(home, "POST", "/llm/../llm/lr/stop", "/llm", **user) == 403
        assert await asked(home, "POST", "/llm//lr/stop", "/llm", **user) == 403
