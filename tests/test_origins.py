"""What a page in somebody's browser may do to a router without keys."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from llamarouter.core.cors import Cors
from llamarouter.core.errors import Forbidden
from llamarouter.core.origins import check_origin
from tests.key_kit import give
from tests.node_kit import add_model, house

HOST = (b"host", b"box.lan:8080")


@pytest.mark.parametrize(
    "origin",
    [
        b"https://evil.example",
        b"null",
        b"",
        b"file://",
        b"http://localhost.evil.example",
        b"http://127.0.0.1.evil.example",
        b"http://localhost@evil.example",
        b"http://box.lan.evil.example",
        b"http://evil.example/127.0.0.1",
        b"http://[::1].evil.example",
        b"http://[::1",
        b"chrome-extension://abc",
        b"http://\xe4",
    ],
)
def test_a_strangers_page_administers_nothing(origin: bytes) -> None:
    for site in ([], [(b"sec-fetch-site", b"cross-site")], [(b"sec-fetch-site", b"same-site")]):
        with pytest.raises(Forbidden):
            check_origin([HOST, (b"origin", origin), *site], Cors())


@pytest.mark.parametrize(
    "origin",
    [b"http://localhost:3000", b"https://127.0.0.1", b"http://[::1]:5", b"http://box.lan:8080", b"https://box.lan"],
)
def test_pages_of_this_machine_and_the_routers_own_are_at_home(origin: bytes) -> None:
    check_origin([HOST, (b"origin", origin)], Cors())


def test_who_is_no_page_and_who_is_named_or_behind_a_proxy_may() -> None:
    check_origin([HOST], Cors())
    ours = (b"origin", b"https://llm.example.org")
    check_origin([(b"host", b"localhost"), ours, (b"sec-fetch-site", b"same-origin")], Cors())
    check_origin([HOST, ours], Cors(origins="https://a.example, https://llm.example.org"))
    with pytest.raises(Forbidden, match="--cors-origins"):
        check_origin([HOST, ours], Cors(origins="localhost"))
    with pytest.raises(Forbidden):
        check_origin([HOST, (b"origin", b"*")], Cors())


ADMINISTERS = (
    ("POST", "/models/load"),
    ("POST", "/models/unload"),
    ("POST", "/models"),
    ("DELETE", "/models?model=m"),
    ("POST", "/props"),
    ("POST", "/lora-adapters"),
    ("POST", "/slots/0?action=save"),
    ("POST", "/lr/stop"),
    ("POST", "/models/reload"),
    ("POST", "/lr/pin"),
    ("GET", "/models?reload=1"),
    ("GET", "/lr/status"),
    ("GET", "/lr/logs?model=m"),
    ("GET", "/slots?model=m"),
    ("GET", "/metrics?model=m"),
)


@pytest.mark.anyio
async def test_at_both_doors_of_a_router_without_keys(tmp_path: Path) -> None:
    add_model(tmp_path / "models", "m")
    sent = json.dumps({"model": "m"}).encode()
    async with house(tmp_path) as home:
        evil = {"origin": "https://evil.example"}
        for method, path in ADMINISTERS:
            answer = await home.client.request(method, path, content=sent, headers=evil)
            assert answer.status_code == 403, (method, path)
            assert answer.headers["access-control-allow-origin"] == "https://evil.example"
            door = await home.knock()
            head = f"{method} {path} HTTP/1.1\r\nhost: h\r\norigin: https://evil.example\r\n"
            door.send(f"{head}content-length: {len(sent)}\r\n\r\n".encode() + sent)
            assert (await door.answer()).status == 403, (method, path)
        assert not home.stopped.is_set()
        assert not home.node.supervisor.children
        for site, status in (("cross-site", 403), ("same-site", 403), ("same-origin", 200), ("none", 200)):
            picture = await home.client.get("/models?reload=1", headers={"sec-fetch-site": site})
            assert picture.status_code == status
        assert (await home.client.get("/models?reload=1")).status_code == 200
        # It may ask, as the reference lets it; and a page of this machine may administer.
        chat = {"model": "m", "messages": []}
        assert (await home.client.post("/v1/chat/completions", json=chat, headers=evil)).status_code == 200
        assert (await home.client.get("/models", headers=evil)).status_code == 200
        here = {"origin": "http://localhost:3000"}
        assert (await home.client.post("/models/unload", json={"model": "m"}, headers=here)).status_code == 200


@pytest.mark.anyio
async def test_a_key_is_no_birthright_of_a_browser(tmp_path: Path) -> None:
    admin = give(tmp_path, "ops", admin=True)
    async with house(tmp_path) as home:
        answer = await home.client.post("/models/reload", headers={**admin, "origin": "https://ui.example"})
        assert answer.status_code == 200
