"""The page at `/`: llama-server's own web UI, taken from a child, or what lies in `--path DIR`.

An engine that carries the UI serves it from every child. The first child that is ready is asked for it (`PageStore`),
so that it is there before any model is, the next time. Assets are public; everything that they call is not. They are
stored compressed and sent as the client takes them. Where the engine's page is not served, `/sw.js` is a worker that
takes the one away which a browser may still have of it.
"""

from __future__ import annotations

import asyncio
import gzip

from starlette.requests import Request
from starlette.responses import HTMLResponse, Response
from starlette.types import Receive, Scope, Send

from llamarouter.core.child_protocol import Address
from llamarouter.core.errors import NotFound
from llamarouter.core.page_rules import INDEX, ISOLATION, REVALIDATE, WORKER_THAT_LEAVES, is_known, takes_gzip
from llamarouter.server.page_folder import PageFolder
from llamarouter.server.page_store import Asset, PageStore

_WORKER = "sw.js"

_WAITING = """<!doctype html><meta charset="utf-8"><title>llamarouter</title>
<meta http-equiv="refresh" content="2"><link rel="icon" href="data:,">
<style>body{font:16px system-ui;margin:4em auto;max-width:36em}</style>
<h1>llamarouter</h1><p>%s</p><p><a href="models">The models of this router</a> as JSON.</p>"""


class Page:
    """Serves the page, from a folder of the operator's or from the store."""

    def __init__(self, store: PageStore, *, enabled: bool, folder: PageFolder | None) -> None:
        self._store = store
        self._enabled = enabled
        self._folder = folder

    @property
    def comes_from_children(self) -> bool:
        """Whether it is the engine's own."""
        return self._enabled and self._folder is None

    async def take(self, address: Address, api_key: str | None) -> None:
        """Ask a ready child for it, unless it is here already."""
        await self._store.take(address, api_key)

    def is_asset(self, path: str) -> bool:
        """Whether a path is an asset: assets are public."""
        name = path.removeprefix("/")
        if self._folder is not None:
            return name == _WORKER or self._folder.is_public(name)
        return name == _WORKER if not self._enabled else name in self._store.assets or name == INDEX

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """What answers when no route does: an asset, or 404."""
        request = Request(scope)
        response = await self._serve(request)
        await response(scope, receive, send)

    async def _serve(self, request: Request) -> Response:
        name = request.scope["path"].removeprefix("/")
        if request.method not in ("GET", "HEAD"):
            raise NotFound("File Not Found")
        if name == _WORKER and (not self._enabled or (self._folder is not None and not self._folder.has(name))):
            headers = {"cache-control": REVALIDATE, "content-type": "application/javascript"}
            return Response(WORKER_THAT_LEAVES, headers=headers)
        if self._folder is not None:
            return await self._folder.answer(name, request)
        if not self._enabled:
            raise NotFound("File Not Found")
        name = "" if name == INDEX else name
        asset = self._store.assets.get(name)
        if asset is not None:
            return await _answer(asset, name, request)
        if name == "" and not self._store.assets:
            return self._waiting()
        raise NotFound("File Not Found")

    def _waiting(self) -> Response:
        if self._store.absent:
            raise NotFound("this engine carries no web page; --path DIR serves one")
        return HTMLResponse(
            _WAITING % "The page comes with the first model that is loaded; this one looks again by itself."
        )


async def _answer(asset: Asset, name: str, request: Request) -> Response:
    headers = {"cache-control": REVALIDATE, **asset.headers, "vary": "Accept-Encoding"}
    if name == "":
        headers |= ISOLATION
    if is_known(request.headers.get("if-none-match"), headers.get("etag")):
        headers.pop("content-type", None)
        return Response(status_code=304, headers=headers)
    if takes_gzip(request.headers.get("accept-encoding")):
        return Response(asset.body, headers={**headers, "content-encoding": "gzip"})
    return Response(await asyncio.to_thread(gzip.decompress, asset.body), headers=headers)
