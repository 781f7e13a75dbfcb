"""Every failure a client can see, as a tree: status, type and reason sit on the class.

    RouterError
    |- BadRequest 400         InvalidJson DuplicateKey JsonTooDeep NotLoaded MissingModel (UnnamedModel)
    |                         RemoteMediaForbidden
    |- InvalidApiKey 401      Forbidden 403 (FeatureDisabled)    NotFound 404 (ModelNotFound)
    |- MethodNotAllowed 405   RequestTimeout 408   Conflict 409   RequestTooLarge 413   UriTooLong 414
    |- Misdirected 421        RequestQuarantined 422
    |- TooMany 429 (QueueFull RateLimited TokensUsedUp)    HeadersTooLarge 431
    |- Internal 500 (ModelInvalid EngineUnavailable ReloadRefused)    ModelCrashed 502
    |- Unavailable 503        Cooldown InsufficientMemory NoPlace Draining QueueTimeout ModelUnloaded
    |                         Downloading Offline Overloaded
    |- LoadTimeout 504        UpstreamTimeout 504    VersionNotSupported 505
    `- NoSpace 507            ModelTooLarge 507

The body is llama-server's own shape with two words more: `param` (always null, as OpenAI's clients expect)
and `reason`, which a program can compare. `UsageError` is not among them: it ends `lr` with exit code 2.
"""

from __future__ import annotations

import math
from typing import ClassVar, Self


class UsageError(Exception):
    """What the operator wrote cannot be done: one line (what, where, what would be right), exit code 2."""


class RouterError(Exception):
    """A refusal or a failure with everything a client needs to act on it."""

    status: ClassVar[int] = 500
    type: ClassVar[str] = "server_error"
    reason: ClassVar[str] = "internal_error"
    # None: nothing is said to the client about trying again.
    should_retry: ClassVar[bool | None] = None

    def __init__(self, message: str, *, retry_after: float | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.retry_after = retry_after  # seconds
        self.more: tuple[tuple[bytes, bytes], ...] = ()  # headers for one client

    def having(self, *headers: tuple[bytes, bytes]) -> Self:
        """The same with more headers: an error may be told to several."""
        twin = type(self).__new__(type(self), *self.args)
        twin.__dict__.update(self.__dict__, more=headers)
        return twin


class BadRequest(RouterError):
    status = 400
    type = "invalid_request_error"
    reason = "bad_request"


class InvalidJson(BadRequest):
    reason = "invalid_json"


class DuplicateKey(BadRequest):
    reason = "duplicate_key"


class JsonTooDeep(BadRequest):
    reason = "json_too_deep"


class RemoteMediaForbidden(BadRequest):
    """A model's process would fetch what the request names by its address."""

    reason = "remote_media_forbidden"


class MissingModel(BadRequest):
    reason = "missing_model"


class UnnamedModel(MissingModel):
    """Nothing is named at all, so a default may answer (a name that is no string is wrong all the same)."""


class NotLoaded(BadRequest):
    """The model is not loaded and nothing may load it (`--no-models-autoload`, `?autoload=false`)."""

    reason = "model_not_loaded"


class InvalidApiKey(RouterError):
    status = 401
    type = "authentication_error"
    reason = "invalid_api_key"


class Forbidden(RouterError):
    status = 403
    type = "permission_error"
    reason = "forbidden"


class FeatureDisabled(Forbidden):
    type = "feature_disabled"
    reason = "feature_disabled"


class NotFound(RouterError):
    status = 404
    type = "not_found_error"
    reason = "not_found"


class ModelNotFound(NotFound):
    reason = "model_not_found"


class MethodNotAllowed(RouterError):
    status = 405
    type = "invalid_request_error"
    reason = "method_not_allowed"

    def __init__(self, message: str, *, allow: tuple[str, ...]) -> None:
        super().__init__(message)
        self.allow = allow


class RequestTimeout(RouterError):
    status = 408
    type = "invalid_request_error"
    reason = "request_timeout"


class Conflict(RouterError):
    status = 409
    type = "invalid_request_error"
    reason = "conflict"


class RequestTooLarge(RouterError):
    status = 413
    type = "invalid_request_error"
    reason = "request_too_large"


class UriTooLong(RouterError):
    status = 414
    type = "invalid_request_error"
    reason = "uri_too_long"


class HeadersTooLarge(RouterError):
    status = 431
    type = "invalid_request_error"
    reason = "headers_too_large"


class Misdirected(RouterError):
    """The request is for a name that this router does not go by."""

    status = 421
    type = "invalid_request_error"
    reason = "misdirected_request"


class RequestQuarantined(RouterError):
    """The request crashed its model, alone: the same again would do the same."""

    status = 422
    type = "invalid_request_error"
    reason = "request_quarantined"
    should_retry = False


class TooMany(RouterError):
    """More than there is room for, or than the key may have: `retry_after` says when."""

    status = 429
    type = "rate_limit_error"
    reason = "too_many_requests"


class QueueFull(TooMany):
    reason = "queue_full"


class RateLimited(TooMany):
    """The key has done what it may do for now: too much in a minute, or at once."""

    reason = "rate_limited"

    def __init__(self, message: str, retry_after: float) -> None:
        super().__init__(message, retry_after=math.ceil(retry_after))  # who came a moment too early would come in vain


class TokensUsedUp(RateLimited):
    reason = "tokens_used_up"


class Internal(RouterError):
    """A failure that would happen again: trying again is pointless."""

    should_retry = False


class ModelInvalid(Internal):
    """The model cannot be loaded, for a cause that lies in its file or its options."""

    reason = "model_invalid"


class EngineUnavailable(Internal):
    reason = "engine_unavailable"


class ReloadRefused(Internal):
    """The presets or folders cannot be read; everything stays as it was."""

    reason = "reload_refused"


class ModelCrashed(RouterError):
    status = 502
    reason = "model_crashed"
    should_retry = False


class Unavailable(RouterError):
    """Not now: `retry_after` says when."""

    status = 503
    type = "unavailable_error"
    reason = "unavailable"


class Cooldown(Unavailable):
    reason = "model_cooldown"


class InsufficientMemory(Unavailable):
    reason = "insufficient_memory"


class NoPlace(Unavailable):
    """Models that are pinned hold every place."""

    reason = "no_place"


class Draining(Unavailable):
    reason = "draining"


class QueueTimeout(Unavailable):
    reason = "queue_timeout"


class ModelUnloaded(Unavailable):
    """Somebody unloaded the model while this request waited for it."""

    reason = "model_unloaded"


class Downloading(Unavailable):
    """The model's files are still being fetched."""

    reason = "model_downloading"


class Offline(Unavailable):
    """The router was told to stay off the network (`--offline`): trying again is pointless."""

    reason = "offline"
    should_retry = False


class Overloaded(Unavailable):
    """There are more connections than there may be."""

    reason = "overloaded"


class VersionNotSupported(RouterError):
    status = 505
    type = "invalid_request_error"
    reason = "version_not_supported"
    should_retry = False


class LoadTimeout(RouterError):
    status = 504
    reason = "load_timeout"
    should_retry = False


class UpstreamTimeout(RouterError):
    status = 504
    reason = "upstream_timeout"
    should_retry = False


class NoSpace(RouterError):
    status = 507
    reason = "insufficient_storage"
    should_retry = False


class ModelTooLarge(RouterError):
    """It cannot be loaded here even if nothing else were."""

    status = 507
    reason = "insufficient_memory"
    should_retry = False


def payload_of(error: RouterError) -> dict[str, object]:
    """The `error` object of a body or of an event in a stream."""
    return {
        "code": error.status,
        "message": error.message,
        "type": error.type,
        "param": None,
        "reason": error.reason,
    }


def body_of(error: RouterError) -> bytes:
    """The JSON body of an error answer."""
    # Not at the top: the command line knows these errors too, and starts a tenth faster without the encoder.
    import msgspec

    return msgspec.json.encode({"error": payload_of(error)})


def headers_of(error: RouterError) -> list[tuple[bytes, bytes]]:
    """The headers that belong to an error besides its length (names in lower case)."""
    headers = [(b"content-type", b"application/json; charset=utf-8")]
    if error.retry_after is not None:
        seconds = max(1, math.ceil(error.retry_after))  # who came a moment too early would come in vain
        headers.append((b"retry-after", str(seconds).encode()))
    if error.should_retry is False:
        headers.append((b"x-should-retry", b"false"))
    if isinstance(error, MethodNotAllowed):
        headers.append((b"allow", ", ".join(error.allow).encode()))
    if isinstance(error, InvalidApiKey):
        headers.append((b"www-authenticate", b"Bearer"))
    return [*headers, *error.more]
