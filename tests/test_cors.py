"""CORS: which origins are told that they may read an answer, case by case as llama-server's router has them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from llamarouter.core.cors import Cors
from tests.key_kit import give
from tests.node_kit import add_model, house
from tests.relay_rig import post

PAGE = b"https://page.example"
VARY = (b"vary", b"Origin")


def allowed(value: bytes) -> tuple[bytes, bytes]:
    return (b"access-control-allow-origin", value)


@pytest.mark.parametrize(
    ("cors", "origin", "headers"),
    [
        (Cors(), PAGE, [allowed(PAGE), VARY]),
        (Cors(), b"null", [allowed(b"null"), VARY]),
        (Cors(), None, []),
        (Cors(credentials=False), PAGE, [allowed(b"*")]),
        (Cors(credentials=False), None, [allowed(b"*")]),
        (Cors(origins="https://one.example"), PAGE, [allowed(b"https://one.example")]),
        (Cors(origins="https://one.example"), None, [allowed(b"https://one.example")]),
        (Cors(origins="http://a, https://page.example"), PAGE, [allowed(PAGE), VARY]),
        (Cors(origins="http://a,http://b"), PAGE, [VARY]),
        (Cors(origins="http://a,http://b"), b"http://a,http://b", [VARY]),
        (Cors(origins="http://a,http://b"), None, []),
        (Cors(), b"", [VARY]),
        (Cors(origins="localhost", credentials=False), b"http://localhost", [allowed(b"http://localhost"), VARY]),
        (Cors(origins="localhost"), None, []),
    ],
)
def test_who_may_read(cors: Cors, origin: bytes | None, headers: list[tuple[bytes, bytes]]) -> None:
    assert cors.headers_for(origin) == headers


@pytest.mark.parametrize(
    ("origin", "is_here"),
    [
        (b"http://localhost", True),
        (b"http://localhost:9", True),
        (b"https://127.0.0.1:8443", True),
        (b"http://[::1]:3", True),
        (b"http://localhost.evil.example", False),
        (b"http://evil.example/localhost", False),
        (b"http://evil.example?http://localhost", False),
        (b"http://127.0.0.1.evil.example", False),
        (b"http://localhost@evil.example", False),
        (b"http://localhost:9\n", False),
        (b"http://LOCALHOST", False),
        (b"file://localhost", False),
        (b"null", False),
        (b"", False),
        (b"http://192.168.0.1", False),
    ],
)
def test_only_this_machines_pages_with_localhost(origin: bytes, is_here: bool) -> None:
    assert Cors(origins="localhost").headers_for(origin) == ([allowed(origin), VARY] if is_here else [VARY])


def test_the_relay_writes_the_same_as_lines() -> None:
    written = Cors().lines_for([(b"host", b"h"), (b"origin", PAGE)])
    assert written == b"access-control-allow-origin: https://page.example\r\nvary: Origin\r\n"
    assert Cors().lines_for([(b"host", b"h")]) == b""


def test_with_keys_whoever_may_read_comes_without_credentials() -> None:
    assert Cors().with_keys().headers_for(PAGE) == [allowed(b"*")]
    assert Cors().with_keys().headers_for(None) == []
    assert not Cors(origins="*", credentials=True).with_keys().credentials
    assert Cors(origins="localhost").with_keys() == Cors(origins="localhost")
    assert Cors(origins="https://a,https://b").with_keys().credentials


@pytest.mark.anyio
async def test_no_credentials_from_everywhere_once_there_are_keys(tmp_path: Path) -> None:
    add_model(tmp_path / "models", "m")
    async with house(tmp_path, "--cors-credentials") as home:
        door = await home.knock()

        async def said(path: str, **more: Any) -> tuple[str, str, str | None]:
            page = {"origin": "http://page.example", **more}
            door.send(post("/nowhere", b"", **page).replace(b"POST", b"OPTIONS", 1))
            preflight = (await door.answer()).headers
            relayed = await door.ask(path, {"content": "x"}, **page)
            assert relayed.status == 200
            seen = relayed.headers["access-control-allow-origin"]
            return preflight["access-control-allow-origin"], preflight["access-control-allow-credentials"], seen

        assert await said("/tokenize") == ("http://page.example", "true", "http://page.example")
        key = give(tmp_path, "ann")
        home.node.reception.gate.look_again()
        secret = key["authorization"].removeprefix("Bearer ")
        assert await said("/tokenize", x_api_key=secret) == ("*", "false", "*")


FLAGS = ("--cors-origins", "http://only.example", "--cors-methods", "GET", "--cors-headers", "x-a", "--api-key", "k")


@pytest.mark.anyio
async def test_what_the_operator_decided_is_said_through_both_doors(tmp_path: Path) -> None:
    add_model(tmp_path / "models", "m")
    async with house(tmp_path, *FLAGS, "--no-cors-credentials") as home:
        door = await home.knock()
        wire: dict[str, Any] = {"x_api_key": "k", "origin": "http://other.example"}
        for _ in range(3):  # cold: Starlette's route; warm: the fast lane; its head again
            relayed = await door.ask("/tokenize", {"content": "x"}, **wire)
            assert relayed.status == 200
            assert relayed.headers["access-control-allow-origin"] == "http://only.example"
            assert "vary" not in relayed.headers
        plain = await home.client.get("/models", headers={"x-api-key": "k"})
        refused = await home.client.get("/models")
        assert (plain.status_code, refused.status_code) == (200, 401)
        for answer in (plain, refused):
            assert answer.headers["access-control-allow-origin"] == "http://only.example"
        door.send(post("/nowhere", b"", origin="http://other.example").replace(b"POST", b"OPTIONS", 1))
        preflight = await door.answer()
        assert (preflight.status, preflight.body) == (200, b"")
        assert {name: value for name, value in preflight.headers.items() if name.startswith("access-control")} == {
            "access-control-allow-origin": "http://only.example",
            "access-control-allow-credentials": "false",
            "access-control-allow-methods": "GET",
            "access-control-allow-headers": "x-a",
        }
