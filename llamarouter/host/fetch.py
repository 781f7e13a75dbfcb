"""Fetch one model from the Hub into a cache: `python -m llamarouter.host.fetch SPEC --cache DIR`.

    plan --> space? --> each file: fetch, verify --> link under the revision --> list the revision

A process of its own, so that it can be killed at any moment (every step is atomic, a partial file is kept) and so that
huggingface_hub stays out of the router. Events go to stdout, one JSON object a line (`core.fetch_events`); the token
comes from `HF_TOKEN` or huggingface's own file and is never written anywhere. Exit codes: `EXIT_CODES`.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from types import TracebackType

from msgspec.structs import replace

from llamarouter.core.fetch_events import EXIT_CODES, Failed, Fetched, FetchError, FetchEvent, Noted, encode_event
from llamarouter.core.hub_names import parse_spec
from llamarouter.host.download import STALL_SECONDS, Downloader, growing_pause
from llamarouter.host.hub import (
    FetchPlan,
    cache_is_writable,
    check_space,
    endpoint_of,
    one_line,
    plan_fetch,
    stored_token,
)
from llamarouter.host.hub_store import link_into_snapshot, locked, publish


def fetch(
    spec: str,
    cache: str,
    tell: Callable[[FetchEvent], None],
    environ: Mapping[str, str],
    *,
    endpoint: str | None = None,
    offline: bool = False,
    projector: bool = True,
    stall: float = STALL_SECONDS,
    pause: Callable[[int], float] = growing_pause,
) -> Fetched:
    """Have a model's files in the hub cache `cache`; `tell` hears the plan and the progress, not the end.

    Raises `FetchError` for whatever goes wrong.
    """
    wanted = replace(parse_spec(spec), projector=projector)
    if offline:
        raise FetchError("offline", f"--offline: {wanted} is not fetched")
    where = (endpoint or endpoint_of(environ)).rstrip("/")
    _check_endpoint(where)
    cache_is_writable(cache)
    # Read when the library is imported: it would look for torch and ask the Hub for a list of coding agents, to say in
    # its user agent beside what it runs.
    os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
    token = stored_token()
    plan = plan_fetch(wanted, os.path.abspath(cache), where, token)
    tell(plan.announced())
    check_space(plan)
    downloader = Downloader(where, token, tell, stall=stall, pause=pause)
    try:
        for file in plan.files:
            if not file.cached:
                downloader.fetch(file, plan.folder)
    finally:
        downloader.close()
    return _published(plan, tell)


def _check_endpoint(where: str) -> None:
    """Raise `FetchError` unless it is an address that may be shown, as it is in messages and lists."""
    if "@" in where:
        message = "MODEL_ENDPOINT or HF_ENDPOINT: a user or password does not belong into the address: set HF_TOKEN"
        raise FetchError("bad_request", message)
    if not where.startswith(("http://", "https://")):
        raise FetchError("bad_request", f"MODEL_ENDPOINT or HF_ENDPOINT: {where!r} does not begin with https://")


def _published(plan: FetchPlan, tell: Callable[[FetchEvent], None]) -> Fetched:
    """Link the files and list the revision: from here on the model is in the cache."""
    try:
        with locked(plan.folder, "lr-publish", lambda: None):
            places = [link_into_snapshot(plan.folder, plan.commit, file.path, file.etag) for file in plan.files]
            hidden = publish(plan.folder, plan.commit, plan.contents)
    except OSError as error:
        raise FetchError("not_writable", f"cannot list {plan.id} in {plan.folder}: {one_line(error)}") from error
    if ":" not in plan.id:
        tell(Noted("its name has no quant, so it is not listed; serve it by `model = PATH` in a preset"))
    for path in hidden:
        tell(Noted(f"the repository has a newer {path}: the old one is no longer listed, pull it again", path))
    return Fetched(plan.id, plan.repo, plan.commit, [str(place) for place in places])


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m llamarouter.host.fetch", description=__doc__)
    parser.add_argument("spec")
    parser.add_argument("--cache", required=True)
    parser.add_argument("--endpoint")
    parser.add_argument("--offline", action="store_true")
    parser.add_argument("--no-projector", action="store_true")
    parser.add_argument("--stall", type=float, default=STALL_SECONDS, help="seconds without a byte before a new try")
    parser.add_argument("--umask", type=lambda text: int(text, 8), help="of the files; octal")
    given = parser.parse_args(arguments)
    if given.umask is not None:
        os.umask(given.umask)
    sys.excepthook = _tell_unexpected
    try:
        end = fetch(
            given.spec,
            given.cache,
            _tell,
            os.environ,
            endpoint=given.endpoint,
            offline=given.offline,
            projector=not given.no_projector,
            stall=given.stall,
        )
    except FetchError as error:
        return _fail(error.reason, error.message)
    except KeyboardInterrupt:
        return _fail("interrupted", "interrupted; what is here is kept, the same command goes on from there")
    _tell(end)
    return 0


def _tell(event: FetchEvent) -> None:
    try:
        sys.stdout.buffer.write(encode_event(event))
        sys.stdout.buffer.flush()
    except BrokenPipeError:
        # Nobody listens any more: whoever started this is gone. The partial file is in order at any time.
        os._exit(1)


def _fail(reason: str, message: str) -> int:
    _tell(Failed(reason, message))
    return EXIT_CODES[reason]


def _tell_unexpected(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    """What nobody foresaw is an event too: `sys.excepthook`, so that the interpreter still ends with code 1."""
    _tell(Failed("internal_error", f"{kind.__name__}: {one_line(error)}"))
    sys.__excepthook__(kind, error, trace)


if __name__ == "__main__":
    sys.exit(main())
