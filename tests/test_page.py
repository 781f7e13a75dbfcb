"""The page: taken whole from a child or not at all, kept, public, and answered as browsers ask for it."""

from __future__ import annotations

import asyncio
import gzip
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import pytest
from starlette.applications import Starlette

from llamarouter.core.errors import RouterError, UsageError
from llamarouter.core.page_rules import content_type_of, takes_gzip
from llamarouter.server.answers import answer
from llamarouter.server.page import Page
from llamarouter.server.page_folder import PageFolder
from llamarouter.server.page_store import PageStore
from tests.node_kit import ENGINE, add_model, asgi_client, house

pytestmark = pytest.mark.anyio

FILES = {
    "/": b'<link href="./app.css"><script src="/app.js"></script>',
    "/app.css": b"body {}",
    "/app.js": b"let x",
    "/sw.js": b'[{"url":"./deep/more.js"}]',
    "/deep/more.js": b"let y",
    "/favicon.svg": b"<svg/>",
}
Answer = Callable[[str, int], bytes]


def whole(path: str, number: int) -> bytes:
    if path not in FILES:
        return b"HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\n\r\n"
    kind = b"text/html" if path == "/" else b"text/plain"
    body = gzip.compress(FILES[path])
    return (
        b'HTTP/1.1 200 OK\r\ncontent-encoding: gzip\r\netag: "v1"\r\ncontent-type: %b\r\ncontent-length: %d\r\n\r\n%b'
        % (kind, len(body), body)
    )


@asynccontextmanager
async def child(answer: Answer) -> AsyncIterator[tuple[tuple[str, int], list[str]]]:
    """A server of one answer a connection; an empty answer hangs up."""
    asked: list[str] = []

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        path = head.split(b" ")[1].decode()
        asked.append(path)
        writer.write(answer(path, len(asked)))
        await writer.drain()
        writer.close()
        await writer.wait_closed()

    server = await asyncio.start_server(handle, "127.0.0.1", 0)
    try:
        yield server.sockets[0].getsockname()[:2], asked
    finally:
        server.close()


async def test_all_that_the_page_names_is_taken_once_and_kept_for_the_next_start(tmp_path: Path) -> None:
    store = PageStore(ENGINE, str(tmp_path))
    async with child(whole) as (address, asked):
        async with asyncio.TaskGroup() as group:
            for _ in range(3):
                group.create_task(store.take(address, None))
        await store.take(address, None)
    assert asked.count("/") == 1
    assert set(store.assets) == {"", "app.css", "app.js", "sw.js", "deep/more.js", "favicon.svg"}
    assert PageStore(ENGINE, str(tmp_path)).assets == store.assets
    other = replace(ENGINE, build="b2")
    assert PageStore(other, str(tmp_path)).assets == {}


def kept_in(folder: Path) -> list[Path]:
    return list(folder.glob("page-*"))


@pytest.mark.parametrize(
    "answer",
    [
        pytest.param(lambda path, number: whole(path, number) if number < 3 else b"", id="hangs-up-midway"),
        pytest.param(lambda path, number: b"", id="hangs-up-at-once"),
        pytest.param(
            lambda path, number: b"HTTP/1.1 200 OK\r\ncontent-encoding: gzip\r\ncontent-length: 5\r\n\r\nplain",
            id="is-not-what-it-says",
        ),
        pytest.param(
            lambda path, number: (
                b"HTTP/1.1 200 OK\r\ncontent-encoding: gzip\r\ncontent-length: 30\r\n\r\n"
                + gzip.compress(b"x" * 99)[:15]
                + b"\0" * 15
            ),
            id="is-spoilt",
        ),
    ],
)
async def test_a_child_that_fails_midway_leaves_no_half_page_and_the_next_is_asked(
    tmp_path: Path, answer: Answer
) -> None:
    store = PageStore(ENGINE, str(tmp_path))
    async with child(answer) as (address, _):
        await store.take(address, None)
    assert not store.assets
    assert not store.absent
    assert not kept_in(tmp_path)
    async with child(whole) as (address, _):
        await store.take(address, None)
    assert store.assets


async def test_an_engine_without_a_page_is_asked_once_and_said_to_have_none(tmp_path: Path) -> None:
    store = PageStore(ENGINE, None)
    app = Starlette(exception_handlers={RouterError: lambda request, error: answer(error)})
    app.router.default = Page(store, enabled=True, folder=None)
    async with child(lambda path, number: whole("/nothing", number)) as (address, asked):
        await store.take(address, None)
        await store.take(address, None)
    assert asked == ["/"]
    assert store.absent
    async with asgi_client(app) as client:
        missing = await client.get("/")
    assert (missing.status_code, "--path DIR" in missing.json()["error"]["message"]) == (404, True)


async def test_an_engine_without_a_page_gets_the_one_that_another_engine_left(tmp_path: Path) -> None:
    async with child(whole) as (address, _):
        await PageStore(replace(ENGINE, build="with a page"), str(tmp_path)).take(address, None)
    (tmp_path / "page-newer-but-spoilt.msgpack").write_bytes(b"\xc1")
    async with child(lambda path, number: whole("/none", number)) as (address, asked):
        store = PageStore(replace(ENGINE, build="without"), str(tmp_path))
        assert store.assets == {}
        await store.take(address, None)
        assert asked == ["/"]
    assert not store.absent
    assert gzip.decompress(store.assets["app.js"].body) == FILES["/app.js"]


async def test_a_spoilt_file_of_the_state_folder_is_taken_anew(tmp_path: Path) -> None:
    store = PageStore(ENGINE, str(tmp_path))
    async with child(whole) as (address, _):
        await store.take(address, None)
    kept_in(tmp_path)[0].write_bytes(b"\xc1 nonsense")
    assert PageStore(ENGINE, str(tmp_path)).assets == {}


async def test_assets_are_public_compressed_or_not_and_known_by_their_etag(tmp_path: Path) -> None:
    store = PageStore(ENGINE, str(tmp_path))
    async with child(whole) as (address, _):
        await store.take(address, None)
    async with house(tmp_path, "--api-key", "k") as home:
        for path, text in (("/", FILES["/"]), ("/index.html", FILES["/"]), ("/deep/more.js", FILES["/deep/more.js"])):
            for accept in ("gzip", "identity"):
                answer = await home.client.get(path, headers={"accept-encoding": accept})
                assert (answer.status_code, answer.content) == (200, text), (path, accept)
                assert answer.headers.get("content-encoding", "identity") == accept
                assert answer.headers["vary"] == "Accept-Encoding"
            for known in ('"v1"', 'W/"v1"', '"v0", "v1"', "*"):
                same = await home.client.get(path, headers={"if-none-match": known})
                assert (same.status_code, same.content, same.headers["etag"]) == (304, b"", '"v1"')
        page = await home.client.get("/")
        assert page.headers["cross-origin-embedder-policy"] == "require-corp"
        assert (await home.client.get("/app.js/")).status_code == 401
        assert (await home.client.post("/app.js")).status_code == 404


async def test_a_folder_of_the_operators_is_served_and_nothing_outside_of_it(tmp_path: Path) -> None:
    site = tmp_path / "site"
    (site / "sub").mkdir(parents=True)
    (site / "index.html").write_text("mine")
    (site / "sub" / "a.js").write_text("js")
    (tmp_path / "secret.txt").write_text("SECRET")
    (site / "link.txt").symlink_to(tmp_path / "secret.txt")
    async with house(tmp_path, "--path", str(site), "--api-key", "k") as home:
        for path, text in (("/", "mine"), ("/index.html", "mine"), ("/sub/a.js", "js")):
            answer = await home.client.get(path)
            assert (answer.status_code, answer.text) == (200, text), path
        for path in ("/../secret.txt", "/%2e%2e/secret.txt", "/link.txt", "//etc/passwd", "/sub/../../secret.txt",
                     "/a%00b", "/" + "x" * 5000, "/sub"):  # fmt: skip
            door = await home.knock()
            door.send(f"GET {path} HTTP/1.1\r\nhost: h\r\n\r\n".encode())
            raw = await door.answer()
            assert raw.status == 401, path
            door = await home.knock()
            door.send(f"GET {path} HTTP/1.1\r\nhost: h\r\nx-api-key: k\r\n\r\n".encode())
            raw = await door.answer()
            assert raw.status == 404, path
            assert b"SECRET" not in raw.body


def site_of(tmp_path: Path, *names: str) -> str:
    """A folder with these files, each of its own name as text."""
    site = tmp_path / "site"
    for name in names:
        (site / name).parent.mkdir(parents=True, exist_ok=True)
        (site / name).write_text(name)
    return str(site)


async def test_hidden_files_are_for_who_has_a_key(tmp_path: Path) -> None:
    site = tmp_path / "site"
    (site / ".git").mkdir(parents=True)
    (site / ".git" / "config").write_text("x")
    (site / ".env").write_text("x")
    async with house(tmp_path, "--path", str(site), "--api-key", "k") as home:
        for path in ("/.env", "/.git/config", "/%2egit/config", "/a/../.env"):
            assert (await home.client.get(path)).status_code == 401, path
        assert (await home.client.get("/.env", headers={"x-api-key": "k"})).text == "x"


async def test_a_file_that_is_called_like_a_route_opens_it_to_nobody(tmp_path: Path) -> None:
    site = tmp_path / "site"
    for name in ("models/index.html", "v1/models/m", "slots/0", "lr/status", "health.html", "props", "metrics"):
        (site / name).parent.mkdir(parents=True, exist_ok=True)
        (site / name).write_text("page")
    async with house(tmp_path, "--path", str(site), "--api-key", "k") as home:
        for path in ("/models", "/%6dodels", "/v1/models/m", "/lr/status", "/props", "/metrics"):
            assert (await home.client.get(path)).status_code == 401, path
        for path in ("/models", "/slots/0", "/props"):
            assert (await home.client.post(path, json={"model": "m"})).status_code == 401, path
        for path in ("/models/", "/models/index.html", "/health.html"):
            assert (await home.client.get(path)).text == "page", path


async def test_a_build_of_llama_servers_page_is_served_by_its_rules(tmp_path: Path) -> None:
    js, fixed, app = "_app/immutable/bundle.C9.js", "public, max-age=31536000, immutable", "application/javascript"
    rules = {
        "index.html": ("no-cache", "text/html; charset=utf-8"),
        "sw.js": ("no-cache", app),
        "manifest.webmanifest": ("no-cache", "application/manifest+json"),
        "_app/version.json": ("no-cache", "application/json"),
        "favicon.svg": ("no-cache", "image/svg+xml"),
        js: (fixed, app),
    }
    site = site_of(tmp_path, *rules)
    async with house(tmp_path, "--path", site, "--api-key", "k", "--api-prefix", "/p") as home:
        for name, (cache, kind) in rules.items():
            for path in (name, "") if name == "index.html" else (name,):
                answer = await home.client.get(f"/p/{path}")
                assert (answer.status_code, answer.text) == (200, name), path
                assert (answer.headers["cache-control"], answer.headers["content-type"]) == (cache, kind), path
                isolated = (
                    answer.headers.get("cross-origin-embedder-policy"),
                    answer.headers.get("cross-origin-opener-policy"),
                )
                assert isolated == (("require-corp", "same-origin") if name == "index.html" else (None, None)), path
                etag = answer.headers["etag"]
                for known in (etag, f"W/{etag}", f'"other", {etag}', "*"):
                    same = await home.client.get(f"/p/{path}", headers={"if-none-match": known})
                    assert (same.status_code, same.content, same.headers["cache-control"]) == (304, b"", cache), known
                other = await home.client.get(f"/p/{path}", headers={"if-none-match": '"other"'})
                assert other.status_code == 200
                door = await home.knock()
                door.send(f"HEAD /p/{path} HTTP/1.1\r\nhost: h\r\n\r\n".encode())
                head = await door.answer(head_only=True)
                assert (head.status, head.headers["content-length"]) == (200, str(len(name)))
        assert (await home.client.post("/p/sw.js", headers={"x-api-key": "k"})).status_code == 404


async def test_a_page_of_the_operators_own_is_not_cut_off_from_the_rest_of_the_web(tmp_path: Path) -> None:
    site = site_of(tmp_path, "index.html", "docs/index.html", "empty/x.txt", "a b/index.html")
    async with house(tmp_path, "--path", site) as home:
        page = await home.client.get("/")
        assert "cross-origin-embedder-policy" not in page.headers
        assert (await home.client.get("/docs/")).text == "docs/index.html"
        for path, to in (("/docs", "./docs/"), ("/a%20b", "./a%20b/")):
            moved = await home.client.get(path)
            assert (moved.status_code, moved.headers["location"]) == (301, to)
        for path in ("/empty", "/empty/", "/index.html/", "/nowhere/"):
            assert (await home.client.get(path)).status_code == 404, path


@pytest.mark.parametrize("flags", [("--no-ui",), ("--webui", "--path", "SITE"), ("--no-webui", "--path", "nowhere")])
async def test_where_the_engines_page_is_not_served_a_browsers_worker_of_it_goes(
    tmp_path: Path, flags: tuple[str, ...]
) -> None:
    site = site_of(tmp_path, "index.html")
    argv = [site if word == "SITE" else word for word in flags]
    async with house(tmp_path, *argv, "--api-key", "k") as home:
        worker = await home.client.get("/sw.js")
        assert worker.status_code == 200
        assert worker.headers["cache-control"] == "no-cache"
        assert worker.headers["content-type"] == "application/javascript"
        assert "self.registration.unregister()" in worker.text
        assert (await home.client.post("/sw.js", headers={"x-api-key": "k"})).status_code == 404


async def test_no_ui_means_none(tmp_path: Path) -> None:
    async with house(tmp_path, "--no-ui") as home:
        for path in ("/", "/index.html", "/app.js"):
            assert (await home.client.get(path)).status_code == 404


async def test_what_the_page_is_told_stands_in_props(tmp_path: Path) -> None:
    add_model(tmp_path / "models", "m")
    async with house(tmp_path, environ={"LLAMA_ARG_UI_CONFIG": '{"theme": "dark", "n": [1]}'}) as home:
        assert (await home.client.get("/props?autoload=false")).json()["ui_settings"] == {"theme": "dark", "n": [1]}
        launch = home.node.shelf.entry("m").launch
        assert launch is not None
        assert "dark" not in " ".join(launch.argv())


@pytest.mark.parametrize(
    ("header", "taken"),
    [
        ("gzip", True),
        ("GZIP;q=0.5", True),
        ("br, gzip, deflate", True),
        ("*", True),
        ("gzip;q=0", False),
        ("gzip; q=0.000", False),
        ("br", False),
        ("identity", False),
        ("", False),
        (None, False),
    ],
)
def test_who_takes_gzip(header: str | None, taken: bool) -> None:
    assert takes_gzip(header) is taken


def test_what_the_systems_table_may_not_know_has_its_type() -> None:
    assert content_type_of("_app/APP.JS") == content_type_of("x.mjs") == "application/javascript"
    assert content_type_of("manifest.webmanifest") == "application/manifest+json"
    assert content_type_of("js") is content_type_of("a.b/c") is None


def test_a_folder_that_is_not_there_ends_the_start(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"--path .*: there is no such folder"):
        PageFolder(str(tmp_path / "nowhere"))
