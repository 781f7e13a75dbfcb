"""`--api-prefix`: everything below it through both doors, nothing beside it, and no child hears of it."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.node_kit import House, add_model, asgi_client, house
from tests.relay_rig import post

pytestmark = pytest.mark.anyio

KEY = {"x-api-key": "k"}


async def status_at_the_door(home: House, method: str, path: str, *lines: str) -> int:
    door = await home.knock()
    more = "".join(f"{line}\r\n" for line in lines)
    door.send(f"{method} {path} HTTP/1.1\r\nhost: h\r\ncontent-length: 0\r\n{more}\r\n".encode())
    return (await door.answer(head_only=method == "HEAD")).status


async def test_every_path_begins_with_it_and_none_is_there_without(tmp_path: Path) -> None:
    add_model(tmp_path / "models", "m")
    async with house(tmp_path, "--api-prefix", "/a/b", "--api-key", "k") as home:
        for path in ("/health", "/models", "/v1/models", "/props", "/lr/status", "/v1/models/m"):
            assert (await home.client.get(f"/a/b{path}", headers=KEY)).status_code == 200, path
            assert await status_at_the_door(home, "HEAD", f"/a/b{path}", "x-api-key: k") == 200, path
        beside = (
            "/health",
            "/models",
            "/a",
            "/a/bc/health",
            "/a/b%2fhealth",
            "/%61/b/health",
            "/a/b2",
            "/",
            "/A/b/props",
        )
        for path in beside:
            door = await home.knock()
            door.send(f"GET {path} HTTP/1.1\r\nhost: h\r\nx-api-key: k\r\n\r\n".encode())
            answer = await door.answer()
            assert (answer.status, answer.json()["error"]["message"]) == (404, "File Not Found"), path
            assert (await home.client.get(path)).status_code == 401, path  # who has no key learns nothing


async def test_what_is_public_stays_so(tmp_path: Path) -> None:
    site = tmp_path / "site"
    site.mkdir()
    (site / "index.html").write_text("mine")
    (site / "a.js").write_text("js")
    async with house(tmp_path, "--api-prefix", "/p", "--api-key", "k", "--path", str(site)) as home:
        for path, text in (
            ("/p/health", '{"status":"ok"}'),
            ("/p/", "mine"),
            ("/p/index.html", "mine"),
            ("/p/a.js", "js"),
        ):
            answer = await home.client.get(path)
            assert (answer.status_code, answer.text) == (200, text), path
        for path in ("/p/models", "/p/props", "/p/v1/models/m", "/p/nowhere", "/a.js"):
            assert (await home.client.get(path)).status_code == 401, path
        options = await home.client.options("/p/models", headers={"origin": "http://x"})
        assert (options.status_code, options.headers["access-control-allow-origin"]) == (200, "*")


async def test_the_prefix_alone_leads_to_the_page(tmp_path: Path) -> None:
    async with house(tmp_path, "--api-prefix", "/p", "--api-key", "k") as home:
        answer = await home.client.get("/p?x=%20y", follow_redirects=False)
        assert (answer.status_code, answer.headers["location"]) == (308, "/p/?x=%20y")
        assert (await home.client.get("/p?x")).status_code == 308


async def test_relayed_requests_reach_the_child_without_it(tmp_path: Path) -> None:
    add_model(tmp_path / "models", "m")
    async with house(tmp_path, "--api-prefix", "/p") as home:
        door = await home.knock()
        large = {"content": "x" * (2 << 20)}  # too large for the fast lane
        for path, body in (
            ("/tokenize", {}),
            ("/tokenize?autoload=true", {}),
            ("/slots/0?action=save", {}),
            ("/tokenize", large),
        ):
            for _ in range(3):  # cold or warm, parsed or recognised
                answer = await door.ask(f"/p{path}", {"fake": {"echo": True}, **body})
                assert (answer.status, answer.json()["first"]) == (200, f"POST {path} HTTP/1.1"), path
        door.send(b'GET /p/slots?model=m HTTP/1.1\r\nhost: h\r\nx-fake: {"echo": true}\r\n\r\n')
        assert (await door.answer()).json()["first"] == "GET /slots?model=m HTTP/1.1"
        for path in ("/tokenize", "/p/p/tokenize", "/p//tokenize"):
            door.send(post(path, {"content": "a"}))
            assert (await door.answer()).status == 404, path
        launch = home.node.shelf.entry("m").launch
        assert launch is not None
        assert not [word for word in launch.argv() if "/p" in word and str(tmp_path) not in word]


async def test_an_answer_is_taken_up_again_below_it(tmp_path: Path) -> None:
    add_model(tmp_path / "models", "m")
    async with house(tmp_path, "--api-prefix", "/p") as home:
        door = await home.knock()
        body = {"stream": True, "fake": {"tokens": 3}}
        whole = (await door.ask("/p/v1/chat/completions", body, x_conversation_id="c")).body
        assert whole.endswith(b"data: [DONE]\n\n")
        door.send(b"GET /p/v1/stream?conv_id=c HTTP/1.1\r\nhost: h\r\n\r\n")
        again = await door.answer()
        assert (again.status, again.body) == (200, whole)
        found = await home.client.post("/p/v1/streams/lookup", json={"conversation_ids": ["c"]})
        assert [each["conversation_id"] for each in found.json()] == ["c"]
        assert (await home.client.delete("/p/v1/stream?conv_id=c")).status_code == 204
        assert (await home.client.get("/p/v1/stream?conv_id=c")).status_code == 404


async def test_the_admin_socket_has_no_prefix(tmp_path: Path) -> None:
    async with house(tmp_path, "--api-prefix", "/p", "--api-key", "k") as home, asgi_client(home.admin) as admin:
        assert (await admin.get("/lr/status")).status_code == 200
