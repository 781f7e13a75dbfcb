"""The control endpoints, as a table: every path that the router answers itself, and who does.

The paths are llama-server's where its router has the route, and lie below `/lr/` where it has none.
"""

from __future__ import annotations

from collections.abc import Mapping

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from llamarouter.core.errors import Draining, FeatureDisabled
from llamarouter.core.key_rules import AUTH
from llamarouter.relay.replay import ReplayEndpoint
from llamarouter.server.answers import Json
from llamarouter.server.events_api import EventsApi
from llamarouter.server.models_api import ModelsApi
from llamarouter.server.node import Node
from llamarouter.server.own_api import OwnApi


def control_routes(node: Node) -> list[Route]:
    """Every route that the router answers itself."""
    models, events, own, streams = ModelsApi(node), EventsApi(node), OwnApi(node), node.streams

    async def ready(request: Request) -> Response:
        if node.supervisor.closing:
            raise Draining("the router is shutting down", retry_after=5)
        return Json({"status": "ok"})

    return [
        Route("/health", _health, methods=["GET"]),
        Route("/v1/health", _health, methods=["GET"]),
        Route("/livez", _health, methods=["GET"]),
        Route("/readyz", ready, methods=["GET"]),
        Route("/models", models.list, methods=["GET"]),
        Route("/models", models.download, methods=["POST"]),
        Route("/models", models.remove, methods=["DELETE"]),
        Route("/v1/models", models.list, methods=["GET"]),
        Route("/models/load", models.load, methods=["POST"]),
        Route("/models/unload", models.unload, methods=["POST"]),
        Route("/models/reload", models.reload, methods=["POST"]),
        Route("/models/sse", events.read, methods=["GET"]),
        Route("/v1/models/{id:path}", models.one, methods=["GET"]),
        Route("/v1/stream", ReplayEndpoint(streams, node.traffic), methods=["GET"]),
        Route("/v1/stream", streams.cancel, methods=["DELETE"]),
        Route("/v1/streams/lookup", streams.lookup, methods=["POST"]),
        Route("/tools", _disabled, methods=["GET", "POST"]),
        Route("/cors-proxy", _disabled, methods=["GET", "POST"]),
        *_predict(node.environ),
        Route(AUTH, own.auth, methods=["GET"]),
        Route("/lr/status", own.status, methods=["GET"]),
        Route("/lr/logs", own.logs, methods=["GET"]),
        Route("/lr/explain", own.explain, methods=["GET"]),
        Route("/lr/pin", own.pin, methods=["POST"]),
        Route("/lr/unpin", own.unpin, methods=["POST"]),
        Route("/lr/why", own.why, methods=["GET"]),
        Route("/lr/plan", own.plan, methods=["POST"]),
        Route("/lr/devices", own.devices, methods=["GET"]),
        Route("/lr/keys", own.keys, methods=["GET"]),
        Route("/lr/stop", own.stop, methods=["POST"]),
    ]


def _predict(environ: Mapping[str, str]) -> list[Route]:
    """The route of Vertex AI, which llama-server has where the platform's variables ask for it: it is not built."""
    if environ.get("AIP_MODE") != "PREDICTION":
        return []
    path = environ.get("AIP_PREDICT_ROUTE") or "/predict"
    return [Route(path, _disabled, methods=["POST"])] if path.startswith("/") else []


async def _health(request: Request) -> Response:
    return Json({"status": "ok"})


async def _disabled(request: Request) -> Response:
    raise FeatureDisabled("this feature is disabled")
