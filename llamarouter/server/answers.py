"""How the control endpoints read a request and write an answer."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import msgspec
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response, StreamingResponse

from llamarouter.core.access import OPEN, Access
from llamarouter.core.errors import (
    BadRequest,
    InvalidJson,
    JsonTooDeep,
    RequestTooLarge,
    RouterError,
    body_of,
    headers_of,
)
from llamarouter.relay.body_budget import BodyBudget

_MAX_BODY = 1 << 20  # bytes; what is asked for here fits into a line

_JSON = msgspec.json.Encoder()


ACCESS = "llamarouter.access"  # where a scope says whose request it is
BODIES = "llamarouter.bodies"  # where it has the `BodyBudget` of all that are read


def access_of(request: Request) -> Access:
    """Whose request it is. Where nobody has looked at keys, somebody's who has none."""
    access: Access = request.scope.get(ACCESS, OPEN)
    return access


class Json(Response):
    """A JSON answer, encoded by msgspec."""

    media_type = "application/json; charset=utf-8"

    def render(self, content: Any) -> bytes:
        return _JSON.encode(content)


def success(**more: object) -> Response:
    """What llama-server's router says when a wish was taken up; `more`: what only ours says."""
    return Json({"success": True, **more})


def streamed(request: Request, parts: AsyncIterator[bytes], media_type: str) -> Response:
    """An answer without an end; a HEAD would wait for it, and gets the headers alone."""
    # nginx would keep it back otherwise. The type is said as it is: an event stream is UTF-8 without a word about it.
    headers = {"content-type": media_type, "cache-control": "no-cache", "x-accel-buffering": "no"}
    if request.method == "HEAD":
        return Response(headers=headers)
    return StreamingResponse(parts, headers=headers)


async def object_of(request: Request) -> dict[str, Any]:
    """The JSON object that the body of a request is; empty where it is another JSON value, as in llama-server.

    Raises `BadRequest` and its kin.
    """
    data = bytearray()
    announced = request.headers.get("content-length", "")
    if announced.isdecimal() and int(announced[:20]) > _MAX_BODY:
        raise _too_large()
    bodies: BodyBudget = request.scope.get(BODIES) or BodyBudget()
    try:
        with bodies.reading() as reading:
            async for part in request.stream():
                data += part
                if len(data) > _MAX_BODY:
                    raise _too_large()
                reading.take(len(part))
    except ClientDisconnect as error:
        raise BadRequest("the client left before its request was whole") from error
    try:
        body = msgspec.json.decode(data)
    except RecursionError as error:
        raise JsonTooDeep("the JSON of the body is nested too deep") from error
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise InvalidJson(f"the body is not JSON: {error}") from error
    return body if isinstance(body, dict) else {}


def _too_large() -> RequestTooLarge:
    return RequestTooLarge("the body of the request is larger than 1 MiB")


def answer(error: RouterError) -> Response:
    """The answer that an error is."""
    response = Response(body_of(error), error.status)
    response.raw_headers = [*headers_of(error), (b"content-length", str(len(response.body)).encode())]
    if isinstance(error, RequestTooLarge):  # the rest of it is not waited for
        response.raw_headers.append((b"connection", b"close"))
    return response
