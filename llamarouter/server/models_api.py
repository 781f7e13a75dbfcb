"""The endpoints about models: listing, loading, unloading, fetching and deleting them.

Each handler asks, tells, and answers; it raises and never catches. Shapes and words are llama-server's.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from llamarouter.core.access import OPEN
from llamarouter.core.changes import Changes
from llamarouter.core.errors import BadRequest, Draining, FeatureDisabled, ModelNotFound, ReloadRefused, UsageError
from llamarouter.core.key_rules import needs_admin
from llamarouter.core.origins import check_change
from llamarouter.server.answers import Json, access_of, object_of, success
from llamarouter.server.listing import ModelList, describe, for_users, listed
from llamarouter.server.node import Node


class ModelsApi:
    """The handlers of `/models` and what is below it."""

    def __init__(self, node: Node) -> None:
        self._node = node
        self._list = ModelList(node.supervisor, node.downloads, node.created)

    async def list(self, request: Request) -> Response:
        shelf, access = self._node.shelf, access_of(request)
        if request.query_params.get("reload"):
            if not access.admin:
                raise needs_admin()
            if access is OPEN:
                check_change(request.scope["headers"], self._node.settings.cors)
            await _unrefused(self._node.look_again())
        else:
            await shelf.look()
        return Json(self._list.of(shelf.inventory, access))

    async def one(self, request: Request) -> Response:
        node, asked, access = self._node, request.path_params["id"], access_of(request)
        coming = next((each for each in listed(node.shelf.catalog, node.downloads) if each.id == asked), None)
        if coming is None or not access.sees(coming.id):
            coming = await node.reception.find(asked, access)
        described = describe(coming, node.shelf.inventory, node.supervisor, node.downloads, node.created)
        return Json(described if access.admin else for_users(described))

    async def load(self, request: Request) -> Response:
        body = await object_of(request)
        if self._node.supervisor.closing:
            raise Draining("the router is shutting down", retry_after=5)
        entry = await self._node.shelf.find(_model_of(body))
        model = entry.model.id
        self._node.reception.check(entry)
        child = self._node.supervisor.children.get(model)
        if child is not None and not child.stopping and not body.get("wait"):
            raise BadRequest("model is already running")
        await self._loaded(model, wait=bool(body.get("wait")))
        return success()

    async def _loaded(self, model: str, *, wait: bool) -> None:
        """Begin a load; return when it has a process (`wait`: when it is over), or raise why it has none."""
        spawned: asyncio.Future[None] = asyncio.get_running_loop().create_future()

        def begun() -> None:
            if not spawned.done():
                spawned.set_result(None)

        loading = self._node.begin(self._node.reception.load(model, begun))
        await asyncio.wait([loading] if wait else [loading, spawned], return_when=asyncio.FIRST_COMPLETED)
        if loading.done():
            await loading

    async def unload(self, request: Request) -> Response:
        body = await object_of(request)
        node = self._node
        asked = body.get("model")
        if not isinstance(asked, str):
            raise BadRequest("model is not found")
        if await node.stop_download(asked):
            return success()
        entry = node.shelf.catalog.resolve(asked)
        if entry is None:
            raise BadRequest("model is not found")
        model = entry.model.id
        if model not in node.supervisor.children and not node.supervisor.is_wanted(model):
            raise BadRequest("model is not running")
        node.supervisor.unload(model, 0.0 if body.get("force") else node.settings.drain_timeout)
        if body.get("wait"):
            await node.supervisor.lives.until_gone(model)
        return success()

    async def download(self, request: Request) -> Response:
        spec = (await object_of(request)).get("model")
        if not isinstance(spec, str) or not spec:
            raise BadRequest("model must be a non-empty string")
        catalog = self._node.shelf.catalog
        if self._node.settings.one_model is not None and catalog.resolve(spec) is None:
            # It would come, and never be listed.
            raise FeatureDisabled("this router serves only what its command line names: start it without -m and -hf")
        self._node.downloads.begin(spec, catalog)
        return success()

    async def remove(self, request: Request) -> Response:
        asked = request.query_params.get("model")
        if not asked:
            raise BadRequest("model must be a non-empty string")
        node = self._node
        if await node.stop_download(asked):
            if node.shelf.catalog.resolve(asked) is None:
                node.feed.tell(asked, "model_remove")
            return success()
        if await node.forget_download(asked):
            return success()
        entry = await node.shelf.find(asked)
        await node.remove(entry, force=request.query_params.get("force") in ("1", "true"))
        return success()

    async def reload(self, request: Request) -> Response:
        running = tuple(self._node.supervisor.children)
        changes = await _unrefused(self._node.read_again())
        return success(
            models=len(self._node.shelf.catalog.entries),
            added=changes.added,
            changed=changes.changed,
            removed=changes.removed,
            unloading=[model for model in changes.stale if model in running],
            warnings=[{"where": each.where, "reason": each.reason} for each in changes.warnings],
        )


async def _unrefused(look: Awaitable[Changes]) -> Changes:
    try:
        return await look
    except (UsageError, OSError) as error:
        raise ReloadRefused(f"reload refused, everything stays as it was: {error}") from error


def _model_of(body: dict[str, Any]) -> str:
    model = body.get("model")
    if not isinstance(model, str) or not model:
        raise ModelNotFound('the body names no model: {"model": "ID"} is needed')
    return model
