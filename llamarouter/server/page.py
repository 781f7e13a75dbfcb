"""The page at `/`: llama-server's own web UI, taken from a child or from `--path DIR`.

An engine that carries the UI serves it from every child. The first child that is ready is asked for the page and
for all that the page names; the assets are kept (gzip, as they came) in the state folder under the engine's name, so
that the page is there before any model is, the next time. Assets are public; everything that they call is not.
"""

from __future__ import annotations

import asyncio
import gzip
import hashlib
import os
import re
import zlib
from pathlib import Path

import msgspec
from starlette.requests import Request
from starlette.responses import HTMLResponse, Response
from starlette.staticfiles import StaticFiles
from starlette.types import Receive, Scope, Send

from llamarouter.core.child_protocol import Address
from llamarouter.core.errors import NotFound, UsageError
from llamarouter.host.engine import Engine
from llamarouter.host.probe import ProbeError, get
from llamarouter.host.state import write_atomically

# Not named by the page, but asked for by the browser or by the page's script.
_EXTRAS = ("sw.js", "manifest.webmanifest", "build.json", "_app/version.json", "favicon.ico", "favicon.svg")
_NAMED = re.compile(rb"""(?:href|src)="\.?/?([\w./-]+\.(?:js|css|svg|png|ico|webmanifest))\"""")
# The service worker lists what it will want to have: {"url":"./..."} or 'url: "..."'.
_PRECACHED = re.compile(rb"""["']?url["']?\s*:\s*["']\.?/?([\w./-]+)["']""")
_KEPT_HEADERS = ("content-type", "etag", "cache-control")
_MOST_ASSETS = 200

_WAITING = """<!doctype html><meta charset="utf-8"><title>llamarouter</title>
<meta http-equiv="refresh" content="2"><link rel="icon" href="data:,">
<style>body{font:16px system-ui;margin:4em auto;max-width:36em}</style>
<h1>llamarouter</h1><p>%s</p><p><a href="models">The models of this router</a> as JSON.</p>"""


class Asset(msgspec.Struct, frozen=True, array_like=True):
    """One file of the page; `body` is compressed with gzip."""

    headers: dict[str, str]
    body: bytes


class PageStore:
    """The assets of one engine's page, in memory and in a file of the state folder."""

    def __init__(self, engine: Engine, state: str | None) -> None:
        digest = hashlib.sha256(f"{engine.command[-1]} {engine.build} {engine.help_text}".encode()).hexdigest()[:16]
        self._file = Path(state, f"page-{digest}.msgpack") if state is not None else None
        self.assets: dict[str, Asset] = _read(self._file) if self._file is not None else {}
        self.absent = False  # the engine was asked, and carries no page
        self._taking = False

    async def take(self, address: Address, api_key: str | None) -> None:
        """Ask a ready child for the page and all that it names, unless it is here already.

        A child that goes in the middle of it, or says what is no page, leaves everything as it was: the next one is
        asked.
        """
        if self.assets or self.absent or self._taking:
            return
        self._taking = True
        try:
            assets = await self._asked(address, api_key)
        except (ProbeError, OSError, EOFError, zlib.error):
            return
        finally:
            self._taking = False
        if assets and self._file is not None:
            await asyncio.to_thread(self._keep, self._file, assets)
        self.assets = assets or await asyncio.to_thread(self._of_another_engine)
        self.absent = not self.assets

    def _of_another_engine(self) -> dict[str, Asset]:
        """The page that another engine of this user once carried: it speaks to any llama-server."""
        if self._file is None:
            return {}
        kept = sorted(self._file.parent.glob("page-*.msgpack"), key=lambda file: file.stat().st_mtime, reverse=True)
        return next((assets for file in kept if (assets := _read(file))), {})

    @staticmethod
    def _keep(file: Path, assets: dict[str, Asset]) -> None:
        try:
            write_atomically(file, msgspec.msgpack.encode(assets))
        except OSError:
            return  # the page is served from memory; it will be taken again after a restart

    async def _asked(self, address: Address, api_key: str | None) -> dict[str, Asset]:
        """All of the page; nothing where there is none."""
        index = await self._ask(address, api_key, "")
        if index is None:
            return {}
        assets = {"": index}
        wanted = [*_names(_NAMED, gzip.decompress(index.body)), *_EXTRAS]
        for name in wanted:
            if name in assets or len(assets) >= _MOST_ASSETS:
                continue
            asset = await self._ask(address, api_key, name)
            if asset is not None:
                assets[name] = asset
                if name == "sw.js":
                    wanted.extend(_names(_PRECACHED, gzip.decompress(asset.body)))
        return assets

    @staticmethod
    async def _ask(address: Address, api_key: str | None, name: str) -> Asset | None:
        answer = await get(address, f"/{name}", api_key=api_key, seconds=5.0, accept_encoding="gzip")
        if answer.status != 200:
            return None
        body = answer.body
        if answer.headers.get("content-encoding") != "gzip":
            body = await asyncio.to_thread(gzip.compress, body)
        return Asset({name: answer.headers[name] for name in _KEPT_HEADERS if name in answer.headers}, body)


def _read(file: Path) -> dict[str, Asset]:
    try:
        return msgspec.msgpack.decode(file.read_bytes(), type=dict[str, Asset])
    except (OSError, msgspec.DecodeError):
        return {}


def _names(pattern: re.Pattern[bytes], text: bytes) -> list[str]:
    return [name.decode() for name in pattern.findall(text)]


class Page:
    """Serves the page, from a folder of the operator's or from the store. Raises `UsageError` without that folder."""

    def __init__(self, store: PageStore, *, enabled: bool, folder: str | None) -> None:
        self._store = store
        self._enabled = enabled
        if folder is not None and enabled and not os.path.isdir(folder):
            raise UsageError(f"--path {folder}: there is no such folder")
        self._static = StaticFiles(directory=folder, html=True) if folder is not None and enabled else None

    def is_asset(self, path: str) -> bool:
        """Whether a path is an asset: assets are public."""
        name = path.lstrip("/")
        if self._static is not None:
            return self._in_folder(name)
        return self._enabled and (name in self._store.assets or name == "index.html")

    def _in_folder(self, name: str) -> bool:
        assert self._static is not None
        try:
            return os.path.isfile(self._static.lookup_path(name)[0])
        except (OSError, ValueError):  # a path that no file can have
            return False

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """What answers when no route does: an asset, or 404."""
        request = Request(scope)
        response = await self._serve(request)
        await response(scope, receive, send)

    async def _serve(self, request: Request) -> Response:
        name = request.url.path.lstrip("/")
        if not self._enabled or request.method not in ("GET", "HEAD"):
            raise NotFound("File Not Found")
        if self._static is not None:
            return await self._static.get_response(name or "index.html", request.scope)
        name = "" if name == "index.html" else name
        asset = self._store.assets.get(name)
        if asset is not None:
            return _answer(asset, request)
        if name == "" and not self._store.assets:
            return self._waiting()
        raise NotFound("File Not Found")

    def _waiting(self) -> Response:
        if self._store.absent:
            raise NotFound("this engine carries no web page; --path DIR serves one")
        return HTMLResponse(
            _WAITING % "The page comes with the first model that is loaded; this one looks again by itself."
        )


def _answer(asset: Asset, request: Request) -> Response:
    headers = dict(asset.headers)
    headers["vary"] = "Accept-Encoding"
    if "text/html" in headers.get("content-type", ""):
        headers |= {"cross-origin-embedder-policy": "require-corp", "cross-origin-opener-policy": "same-origin"}
    etag = headers.get("etag")
    if etag is not None and request.headers.get("if-none-match") == etag:
        return Response(status_code=304, headers=headers)
    if "gzip" in request.headers.get("accept-encoding", ""):
        return Response(asset.body, headers={**headers, "content-encoding": "gzip"})
    return Response(gzip.decompress(asset.body), headers=headers)
