"""`lr pull`: a model from Hugging Face into the cache, by the running router or by itself."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import click

from llamarouter.cli.failures import RouterFailure, one_line
from llamarouter.cli.parameters import json_option, server_options
from llamarouter.cli.server_client import ServerClient, events_of, find_server

if TYPE_CHECKING:
    from llamarouter.cli.pull_display import Display
    from llamarouter.core.fetch_events import FetchEvent
    from llamarouter.core.hub_names import Wanted

ALREADY = "already exists"  # in the router's message, which is the reference's
NOT_LISTED = "feature_disabled"  # the reason of a router that serves one model


@click.command()
@click.argument("model", metavar="USER/MODEL[:QUANT]")
@server_options
@json_option
def pull(model: str, url: str | None, port: int | None, as_json: bool) -> int:
    """Fetch a model from Hugging Face.

    Without a quant it is Q4_K_M, else Q8_0, else the first there is. All shards and the projector of a model that
    sees come along. Interrupted, the same command goes on where it stopped; every file is checked by its hash.

    A running router fetches it into its own cache and has it at once; without one, it goes where `lr serve` and
    llama-server look: LLAMA_CACHE, HF_HUB_CACHE, HF_HOME/hub, else ~/.cache/huggingface/hub. HF_TOKEN opens gated
    and private repositories, HF_ENDPOINT names a mirror.

    \b
      lr pull ggml-org/gemma-3-4b-it-GGUF:Q4_K_M
      lr pull user/model/folder/file-Q6_K.gguf

    Exit codes: 0 done, 1 failed, 2 wrong usage, 3 no such model or quant, 4 gated or not allowed, 5 no space,
    6 wrong bytes came, 7 no network, 130 interrupted.
    """
    from llamarouter.cli.pull_display import display_for
    from llamarouter.core.fetch_events import EXIT_CODES, Failed, FetchError
    from llamarouter.core.hub_names import parse_spec

    with display_for(as_json) as display:
        try:
            wanted = parse_spec(model)
            server = find_server(url, port)
            if server is None:
                _by_itself(model, display)
            else:
                _through(server, model, wanted, display)
        except FetchError as error:
            display.tell(Failed(error.reason, error.message))
            return EXIT_CODES[error.reason]
    return 0


def _by_itself(model: str, display: Display) -> None:
    from llamarouter.core.fetch_events import FetchError
    from llamarouter.host.discovery import places_of
    from llamarouter.host.fetch import fetch

    try:
        display.tell(fetch(model, places_of(os.environ, None).hub_cache, display.tell, os.environ))
    except KeyboardInterrupt:
        message = f"interrupted; what is here is kept, `lr pull {one_line(model)}` goes on from there"
        raise FetchError("interrupted", message) from None


def _through(server: ServerClient, model: str, wanted: Wanted, display: Display) -> None:
    """Have the router fetch it, and watch. Raises `FetchError` when that fails.

    A router of one model refuses what it would not list: then it is fetched here, for the next one.
    """
    from llamarouter.core.fetch_events import Noted

    try:
        _watched(server, model, wanted, display)
    except RouterFailure as error:
        if error.reason != NOT_LISTED or not server.address.is_here:
            raise
        where = server.address.shown
        display.tell(Noted(f"{where} serves only what its command line names: it will not list {model}"))
        _by_itself(model, display)


def _watched(server: ServerClient, model: str, wanted: Wanted, display: Display) -> None:
    from llamarouter.core.fetch_events import Fetched, FetchError, Noted

    cache = one_line(server.get("/lr/status").get("hub_cache") or "its own cache")
    # The feed is opened before the download is asked for, so that no event of it is missed.
    with server.stream("GET", "/models/sse") as lines:
        try:
            server.post("/models", {"model": model})
        except RouterFailure as error:
            if ALREADY not in error.message:
                raise
            if not _is_downloading(server, wanted):
                display.tell(Fetched(model, wanted.repo, "", []))
                return
        display.tell(Noted(f"{server.address.shown} fetches it into {cache}"))
        try:
            for event in _events_about(lines, model, wanted):
                display.tell(event)
                if isinstance(event, Fetched):
                    return
        except KeyboardInterrupt:
            message = f"no longer watching; the router goes on fetching (`lr rm {one_line(model)}` stops it)"
            raise FetchError("interrupted", message) from None
    raise RouterFailure(0, f"{server.address.shown} hung up before the download ended", "disconnected")


def _is_downloading(server: ServerClient, wanted: Wanted) -> bool:
    data = server.get("/models").get("data") or []
    return any(
        str(item.get("id")).partition(":")[0] == wanted.repo
        and (item.get("status") or {}).get("value") == "downloading"
        for item in data
        if isinstance(item, dict)
    )


def _events_about(lines: Iterator[str], model: str, wanted: Wanted) -> Iterator[FetchEvent]:
    """The feed's events about one download; ends with `Fetched`, raises `FetchError` for a failure."""
    from llamarouter.core.fetch_events import Fetched, FetchError, Progressed

    for raw in events_of(lines):
        if raw.comment:
            continue
        try:
            event: Any = json.loads(raw.data)
        except ValueError:
            continue
        # A name without a quant is told under the quant that it turns out to be.
        if not isinstance(event, dict) or not _is_about(str(event.get("model")), model, wanted):
            continue
        data = event.get("data") or {}
        match event.get("event"):
            case "download_progress":
                for url, state in (data.get("progress") or {}).items():
                    path = url.partition("/resolve/")[2].partition("/")[2] or url
                    yield Progressed(path, url, int(state.get("done") or 0), int(state.get("total") or 0))
            case "download_finished":
                yield Fetched(str(event["model"]), wanted.repo, "", [])
            case "download_failed":
                message = data.get("message") or "the download failed or was stopped; the router's log says why"
                raise FetchError(_known(data.get("reason")), one_line(message))


def _known(reason: object) -> str:
    from llamarouter.core.fetch_events import EXIT_CODES

    return reason if isinstance(reason, str) and reason in EXIT_CODES else "internal_error"


def _is_about(name: str, model: str, wanted: Wanted) -> bool:
    if name == model:
        return True
    return name.partition(":")[0] == wanted.repo and (wanted.tag is None or name.upper().endswith(wanted.tag.upper()))
