"""The control endpoints: each handler asks, tells, and answers; it raises and never catches.

Bodies are JSON objects; the answers have the shapes of llama-server's router where it has the route, and live
under `/lr/` where it has none.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import msgspec
from starlette.requests import ClientDisconnect, Request
from starlette.responses import PlainTextResponse, Response, StreamingResponse
from starlette.routing import Route

from llamarouter.core.catalog import Catalog
from llamarouter.core.errors import (
    BadRequest,
    Draining,
    FeatureDisabled,
    InvalidJson,
    JsonTooDeep,
    MissingModel,
    ModelNotFound,
    NotFound,
    ReloadRefused,
    RequestTooLarge,
    UsageError,
)
from llamarouter.core.explain import as_llama_server_ini
from llamarouter.server.listing import describe, list_models
from llamarouter.server.node import Node
from llamarouter.server.streams import Streams

_MAX_BODY = 1 << 20  # bytes; what is asked for here fits into a line

_JSON = msgspec.json.Encoder()


class Json(Response):
    """A JSON answer, encoded by msgspec."""

    media_type = "application/json; charset=utf-8"

    def render(self, content: Any) -> bytes:
        return _JSON.encode(content)


def control_routes(node: Node) -> list[Route]:
    """Every route that the router answers itself."""
    api, streams = _Api(node), Streams(node.supervisor)
    return [
        Route("/health", api.health, methods=["GET"]),
        Route("/v1/health", api.health, methods=["GET"]),
        Route("/livez", api.health, methods=["GET"]),
        Route("/readyz", api.ready, methods=["GET"]),
        Route("/models", api.models, methods=["GET"]),
        Route("/models", api.download, methods=["POST"]),
        Route("/models", api.remove, methods=["DELETE"]),
        Route("/v1/models", api.models, methods=["GET"]),
        Route("/models/load", api.load, methods=["POST"]),
        Route("/models/unload", api.unload, methods=["POST"]),
        Route("/models/sse", api.events, methods=["GET"]),
        Route("/v1/models/{id:path}", api.model, methods=["GET"]),
        Route("/v1/stream", streams.cancel, methods=["DELETE"]),
        Route("/v1/streams/lookup", streams.lookup, methods=["POST"]),
        Route("/tools", api.disabled, methods=["GET", "POST"]),
        Route("/cors-proxy", api.disabled, methods=["GET", "POST"]),
        Route("/lr/status", api.status, methods=["GET"]),
        Route("/lr/logs", api.logs, methods=["GET"]),
        Route("/lr/explain", api.explain, methods=["GET"]),
        Route("/lr/stop", api.stop, methods=["POST"]),
    ]


class _Api:
    def __init__(self, node: Node) -> None:
        self._node = node

    # --- state ------------------------------------------------------------------------------------------------------

    async def health(self, request: Request) -> Response:
        return Json({"status": "ok"})

    async def ready(self, request: Request) -> Response:
        if self._node.supervisor.closing:
            raise Draining("the router is shutting down", retry_after=5)
        return Json({"status": "ok"})

    async def status(self, request: Request) -> Response:
        return Json(self._node.status())

    # --- models -----------------------------------------------------------------------------------------------------

    async def models(self, request: Request) -> Response:
        shelf = self._node.shelf
        if request.query_params.get("reload"):
            await self._reload()
        else:
            await shelf.look()
        node = self._node
        return Json(list_models(shelf.inventory, node.supervisor, node.downloads, node.created))

    async def model(self, request: Request) -> Response:
        node = self._node
        entry = await node.shelf.find(request.path_params["id"])
        return Json(describe(entry, node.shelf.inventory, node.supervisor, node.downloads, node.created))

    async def load(self, request: Request) -> Response:
        body = await _object(request)
        if self._node.supervisor.closing:
            raise Draining("the router is shutting down", retry_after=5)
        entry = await self._node.shelf.find(_model_of(body))
        model = entry.model.id
        self._node.reception.check(entry)
        child = self._node.supervisor.children.get(model)
        if child is not None and not child.stopping and not body.get("wait"):
            raise BadRequest("model is already running")
        loading = self._node.begin(self._node.reception.load(model))
        if body.get("wait"):
            await asyncio.shield(loading)
        return Json({"success": True})

    async def unload(self, request: Request) -> Response:
        body = await _object(request)
        node = self._node
        asked = _model_of(body)
        if await self._download_stopped(asked):
            return Json({"success": True})
        entry = node.shelf.catalog.resolve(asked)
        if entry is None:
            raise BadRequest("model is not found")
        model = entry.model.id
        if model not in node.supervisor.children:
            raise BadRequest("model is not running")
        node.supervisor.unload(model, 0.0 if body.get("force") else node.settings.drain_timeout)
        if body.get("wait"):
            await node.supervisor.until_gone(model)
        return Json({"success": True})

    async def download(self, request: Request) -> Response:
        spec = (await _object(request)).get("model")
        if not isinstance(spec, str) or not spec:
            raise BadRequest("model must be a non-empty string")
        self._node.downloads.begin(spec, self._node.shelf.catalog)
        return Json({"success": True})

    async def remove(self, request: Request) -> Response:
        asked = request.query_params.get("model")
        if not asked:
            raise BadRequest("model must be a non-empty string")
        node = self._node
        if await self._download_stopped(asked):
            return Json({"success": True})
        entry = await node.shelf.find(asked)
        await node.remove(entry, force=request.query_params.get("force") in ("1", "true"))
        return Json({"success": True})

    async def _download_stopped(self, asked: str) -> bool:
        entry = self._node.shelf.catalog.resolve(asked)
        return await self._node.downloads.cancel(entry.model.id if entry is not None else asked)

    async def events(self, request: Request) -> Response:
        return _stream(request, self._node.feed.read(), "text/event-stream")

    async def disabled(self, request: Request) -> Response:
        raise FeatureDisabled("this feature is disabled")

    # --- ours -------------------------------------------------------------------------------------------------------

    async def logs(self, request: Request) -> Response:
        node = self._node
        entry = await node.shelf.find(request.query_params.get("model", ""))
        ring = node.supervisor.rings.get(entry.model.id)
        if request.query_params.get("follow"):
            follow = node.supervisor.ring_of(entry.model.id).subscribe()
            return _stream(request, _lines(follow), "text/plain; charset=utf-8")
        if ring is None:
            raise NotFound(f"model '{entry.model.id}' has no log yet: it was not started")
        return PlainTextResponse("".join(f"{line}\n" for line in ring.lines()))

    async def explain(self, request: Request) -> Response:
        node = self._node
        asked = request.query_params.get("model")
        entry = await node.shelf.find(asked) if asked is not None else None
        if request.query_params.get("format") == "llama-server":
            catalog = node.shelf.catalog if entry is None else Catalog([entry])
            return PlainTextResponse(as_llama_server_ini(catalog))
        if entry is None:
            raise MissingModel("which model? ?model=ID is needed")
        return Json(node.explain(entry))

    async def stop(self, request: Request) -> Response:
        self._node.stop()
        return Json({"success": True})

    async def _reload(self) -> None:
        try:
            await self._node.look_again()
        except (UsageError, OSError) as error:
            raise ReloadRefused(f"reload refused, everything stays as it was: {error}") from error


def _stream(request: Request, parts: AsyncIterator[bytes], media_type: str) -> Response:
    """An answer without an end; a HEAD would wait for it, and gets the headers alone."""
    headers = {"cache-control": "no-cache"}
    if request.method == "HEAD":
        return Response(media_type=media_type, headers=headers)
    return StreamingResponse(parts, media_type=media_type, headers=headers)


async def _object(request: Request) -> dict[str, Any]:
    data = bytearray()
    try:
        async for part in request.stream():
            data += part
            if len(data) > _MAX_BODY:
                raise RequestTooLarge("the body of the request is larger than 1 MiB")
    except ClientDisconnect as error:
        raise BadRequest("the client left before its request was whole") from error
    try:
        body = msgspec.json.decode(data)
    except RecursionError as error:
        raise JsonTooDeep("the JSON of the body is nested too deep") from error
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise InvalidJson(f"the body is not JSON: {error}") from error
    if not isinstance(body, dict):
        raise InvalidJson("the body is not a JSON object")
    return body


def _model_of(body: dict[str, Any]) -> str:
    model = body.get("model")
    if not isinstance(model, str) or not model:
        raise ModelNotFound('the body names no model: {"model": "ID"} is needed')
    return model


async def _lines(lines: AsyncIterator[str]) -> AsyncIterator[bytes]:
    async for line in lines:
        yield line.encode() + b"\n"
