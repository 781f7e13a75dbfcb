"""`GET /models` parsed into rows, once, for every command that shows or names models.

Only `id` is taken for granted: llama-server's own router answers the same question with fewer words, and is understood.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

from llamarouter.cli.failures import RouterFailure
from llamarouter.cli.server_client import ServerClient
from llamarouter.core.naming import nearest

RUNNING = ("loading", "loaded", "sleeping", "downloading")


class Failure(NamedTuple):
    """How the last load or run of a model went wrong."""

    reason: str
    message: str
    seconds_ago: float | None


class Row(NamedTuple):
    """One model as it is shown. Sizes are bytes, times seconds, contexts tokens; None: not known."""

    id: str
    state: str  # unloaded, loading, loaded, sleeping, downloading
    source: str = "-"
    aliases: tuple[str, ...] = ()
    size: int | None = None
    quant: str | None = None
    parameters: int | None = None
    context: int | None = None  # what it was trained for, or is set to
    path: str | None = None
    problem: str | None = None  # why it cannot be started
    pid: int | None = None
    uptime: float | None = None
    in_flight: int | None = None
    waiting: int | None = None
    slots: int | None = None
    tokens_per_second: float | None = None
    n_ctx: int | None = None  # what it really has, in this process
    layers_offloaded: int | None = None
    layers: int | None = None
    last_used: float | None = None  # seconds ago
    progress: float | None = None  # of a load or a download, 0 to 1
    failure: Failure | None = None
    cooldown: float | None = None  # seconds until it may be tried again
    load_on_startup: bool = False
    pinned: bool = False
    priority: int = 0
    ttl: float | None = None  # seconds of idleness after which its process ends
    expires_in: float | None = None  # seconds until then, while it is idle
    memory: Mapping[str, int] | None = None  # what it takes, bytes by device
    memory_is: str | None = None  # measured, estimated
    place: str | None = None  # on which devices its process is
    held: Mapping[str, int] | None = None  # what that holds, bytes by device
    shortfalls: tuple[str, ...] = ()  # what it came up with less of than it was to have
    stopped: str | None = None  # why the router stopped it: expired, evicted, unloaded
    stopped_ago: float | None = None  # seconds
    stopped_for: str | None = None  # evicted: for which model
    stopped_lacks: str | None = None  # what that one lacked: place, memory

    @property
    def shown_state(self) -> str:
        if self.problem:
            return "unusable"
        if self.state == "unloaded" and self.failure:
            return "failed"
        if self.progress is not None and self.state in ("loading", "downloading"):
            return f"{self.state} {self.progress:.0%}"
        return self.state


class Listing(NamedTuple):
    """All models and everything that was left out, with its reason."""

    rows: tuple[Row, ...]
    warnings: tuple[tuple[str, str], ...] = ()  # where, why

    def row_of(self, asked: str) -> Row | None:
        return next((row for row in self.rows if asked == row.id or asked in row.aliases), None)


def rows_from(server: ServerClient) -> Listing:
    """Ask the router for its models."""
    body = server.get("/models")
    data = body.get("data") if isinstance(body, dict) else None
    if not isinstance(data, list):
        raise RouterFailure(0, f"{server.address.shown} does not answer as a router does", "not_a_router")
    rows = tuple(row for item in data if (row := row_of(item)) is not None)
    warnings = tuple((str(each.get("where")), str(each.get("reason"))) for each in body.get("warnings") or ())
    return Listing(rows, warnings)


def names_in(listing: Listing) -> list[str]:
    """Every id and alias."""
    return [name for row in listing.rows for name in (row.id, *row.aliases)]


def explained(error: RouterFailure, server: ServerClient, asked: Iterable[str]) -> RouterFailure:
    """An unknown model's error with the nearest real name; any other as it is."""
    if error.status not in (400, 404) or "not found" not in error.message.lower() or error.reason == "not_a_router":
        return error
    names = names_in(rows_from(server))
    unknown = [name for name in asked if name not in names]
    if not unknown:
        return error
    hint = nearest(unknown[0], names) or ("; `lr ls` lists them" if names else "; there are none yet (`lr pull`)")
    return RouterFailure(error.status, f"there is no model {unknown[0]!r}{hint}", "model_not_found")


def json_of(row: Row) -> dict[str, object]:
    failure = None if row.failure is None else row.failure._asdict()
    return {**row._asdict(), "failure": failure}


def row_of(item: object) -> Row | None:
    """One model of the router's answer; None where it is none."""
    if not isinstance(item, dict) or not item.get("id"):
        return None
    more: Mapping[str, Any] = item.get("lr") or {}
    meta: Mapping[str, Any] = item.get("meta") or {}
    status: Mapping[str, Any] = item.get("status") or {}
    return Row(
        id=str(item["id"]),
        state=str(status.get("value") or "unloaded"),
        source=str(item.get("source") or "-"),
        aliases=tuple(str(alias) for alias in item.get("aliases") or ()),
        size=more.get("size") or meta.get("size"),
        quant=more.get("quant") or meta.get("ftype"),
        parameters=more.get("n_params") or meta.get("n_params"),
        context=more.get("context") or meta.get("n_ctx_train"),
        path=more.get("path"),
        problem=more.get("problem"),
        pid=more.get("pid"),
        uptime=more.get("uptime"),
        in_flight=more.get("in_flight"),
        waiting=more.get("waiting"),
        slots=more.get("slots"),
        tokens_per_second=more.get("tokens_per_second"),
        n_ctx=more.get("n_ctx") or meta.get("n_ctx"),
        layers_offloaded=more.get("layers_offloaded"),
        layers=more.get("layers"),
        last_used=more.get("last_used"),
        progress=_progress_of(more.get("progress", status.get("progress"))),
        failure=_failure_of(more.get("failure"), status),
        cooldown=more.get("cooldown"),
        load_on_startup=bool(more.get("load_on_startup")),
        pinned=bool(more.get("pinned")),
        priority=more.get("priority") or 0,
        ttl=more.get("ttl"),
        expires_in=more.get("expires_in"),
        **_memory_of(more.get("memory")),
        place=more.get("place"),
        held=more.get("held"),
        shortfalls=tuple(str(each) for each in more.get("shortfalls") or ()),
        stopped=(more.get("stopped") or {}).get("reason"),
        stopped_ago=(more.get("stopped") or {}).get("seconds_ago"),
        stopped_for=(more.get("stopped") or {}).get("for"),
        stopped_lacks=(more.get("stopped") or {}).get("lacks"),
    )


def _memory_of(value: object) -> dict[str, Any]:
    """What a model takes, and whether somebody has looked."""
    if not isinstance(value, dict) or not isinstance(value.get("needs"), dict):
        return {}
    return {"memory": value["needs"], "memory_is": "measured" if value.get("source") == "measured" else "estimated"}


def _progress_of(value: object) -> float | None:
    """A share, or llama-server's `{"stages": [...], "current": ..., "value": share}`."""
    if isinstance(value, dict):
        value = value.get("value")
    return float(value) if isinstance(value, int | float) else None


def _failure_of(failure: Mapping[str, Any] | None, status: Mapping[str, Any]) -> Failure | None:
    if failure:
        return Failure(
            reason=str(failure.get("reason")),
            message=str(failure.get("message") or failure.get("reason")),
            seconds_ago=failure.get("seconds_ago"),
        )
    if status.get("failed"):
        return Failure(reason="exited", message=f"exit code {status.get('exit_code')}", seconds_ago=None)
    return None
