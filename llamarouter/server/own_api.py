"""The endpoints that llama-server does not have: what `lr` shows and asks of a running router, below `/lr/`."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from typing import Any

from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response

from llamarouter.core.catalog import Catalog
from llamarouter.core.errors import BadRequest, FeatureDisabled, MissingModel, NotFound
from llamarouter.core.explain import as_llama_server_ini
from llamarouter.core.log_line import text_of_json
from llamarouter.server.answers import Json, access_of, object_of, streamed, success
from llamarouter.server.memory import Memory
from llamarouter.server.node import Node
from llamarouter.server.why import why, why_gone

_WHICH = "which model? ?model=ID is needed"


class OwnApi:
    """The handlers of `/lr/`."""

    def __init__(self, node: Node) -> None:
        self._node = node

    async def auth(self, request: Request) -> Response:
        """Who comes here was let in; by which key is for the proxy's log."""
        access = access_of(request)
        return Response(headers={"x-lr-key": access.id} if access.id else None)

    async def status(self, request: Request) -> Response:
        return Json(self._node.status())

    async def logs(self, request: Request) -> Response:
        """`?model=`: of whom, else the router itself; `?n=`: the last so many lines; `?follow=1`: and those to come;
        `?format=json`: those of the router as they are kept.
        """
        node, query = self._node, request.query_params
        last, follow = _last(query.get("n")), bool(query.get("follow"))
        if not (asked := query.get("model")):
            as_json = query.get("format") == "json"
            node.traffic.journal.flush()
            ring, shape = node.book.ring, (lambda line: line) if as_json else text_of_json
        else:
            model = (await node.shelf.find(asked)).model.id
            if not follow and model not in node.supervisor.lives.rings:
                raise NotFound(f"model '{model}' has no log yet: it was not started")
            ring, shape = node.supervisor.lives.ring_of(model), lambda line: line
        if follow:
            return streamed(request, _lines(ring.subscribe(last or 0), shape), "text/plain; charset=utf-8")
        lines = ring.lines()
        kept = lines if last is None else lines[len(lines) - min(last, len(lines)) :]
        return PlainTextResponse("".join(f"{shape(line)}\n" for line in kept))

    async def explain(self, request: Request) -> Response:
        node = self._node
        asked = request.query_params.get("model")
        entry = await node.shelf.find(asked) if asked is not None else None
        if request.query_params.get("format") == "llama-server":
            catalog = node.shelf.catalog if entry is None else Catalog([entry])
            return PlainTextResponse(as_llama_server_ini(catalog))
        if entry is None:
            raise MissingModel(_WHICH)
        return Json(node.explain(entry))

    async def pin(self, request: Request) -> Response:
        body = await object_of(request)
        pinned = body.get("pinned", True)
        if not isinstance(pinned, bool | None):
            raise BadRequest("pinned must be true, false, or null for what the preset says")
        return await self._pin(body, pinned)

    async def unpin(self, request: Request) -> Response:
        return await self._pin(await object_of(request), False)

    async def _pin(self, body: dict[str, Any], pinned: bool | None) -> Response:
        node, asked = self._node, body.get("model")
        if not isinstance(asked, str) or not asked:
            raise MissingModel('which model? {"model": "ID"} is needed')
        model = (await node.shelf.find(asked)).id
        node.pin(model, pinned)
        scheduler = node.supervisor.scheduler
        loaded = model in node.supervisor.children
        doubts = [str(doubt) for doubt in await node.doubts_of_pins()] if pinned else []
        return success(model=model, pinned=scheduler.policy_of(model).pinned, loaded=loaded, warnings=doubts)

    async def why(self, request: Request) -> Response:
        asked = request.query_params.get("model")
        if not asked:
            raise MissingModel(_WHICH)
        # What has failed and is not listed any more is remembered under the name that it had.
        gone = self._node.shelf.catalog.resolve(asked) is None and self._node.chronicle.incidents.of(asked)
        return Json(why_gone(self._node, asked) if gone else why(self._node, await self._node.shelf.find(asked)))

    async def plan(self, request: Request) -> Response:
        node, body = self._node, await object_of(request)
        asked = body.get("model")
        if not isinstance(asked, str) or not asked:
            raise MissingModel('which model? {"model": ID} is needed')
        return Json(await _memory(node).plan(await node.shelf.find(asked), node.explain))

    async def devices(self, request: Request) -> Response:
        return Json(await _memory(self._node).state())

    async def keys(self, request: Request) -> Response:
        gate = self._node.reception.gate
        gate.look_again()  # `lr key` asks when it has changed them
        return Json({"keys": gate.said()})

    async def stop(self, request: Request) -> Response:
        self._node.stop()
        return success()


def _memory(node: Node) -> Memory:
    if node.memory is None:
        raise FeatureDisabled("this router does not look at the memory (--no-memory-check)")
    return node.memory


async def _lines(lines: AsyncIterator[str], shape: Callable[[str], str]) -> AsyncIterator[bytes]:
    async for line in lines:
        yield shape(line).encode() + b"\n"


def _last(said: str | None) -> int | None:
    """How many lines of what is kept are wanted."""
    if said is None:
        return None
    if not (said.isascii() and said.isdigit() and len(said) < 10):
        raise BadRequest("n: a number of lines is needed")
    return int(said)
