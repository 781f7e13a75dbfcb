"""What a model is doing while somebody waits for it: loading, and how far; or queued behind others.

    with Watch(server, model, tell): ...      tell("loading 43%") from a thread, until the block ends or `end()`

Asks the router now and then, and never fails: where it cannot be asked, nothing is told.
"""

from __future__ import annotations

from collections.abc import Callable
from threading import Event, Lock, Thread
from types import TracebackType
from urllib.parse import quote

from llamarouter.cli.failures import RouterFailure
from llamarouter.cli.models import Row, row_of
from llamarouter.cli.server_client import ServerClient

LOOK_EVERY_SECONDS = 0.4


class Watch:
    """Tells what a model is doing. After `end()` has returned nothing more is told."""

    def __init__(self, server: ServerClient, model: str, tell: Callable[[str], None]) -> None:
        self._server = server
        self._path = f"/v1/models/{quote(model, safe='', errors='surrogateescape')}"
        self._tell = tell
        self._ended = Event()
        self._telling = Lock()  # a thread of the CLI, not of the router: nobody awaits here

    def __enter__(self) -> Watch:
        Thread(target=self._look, name=f"watch {self._path}", daemon=True).start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.end()

    def end(self) -> None:
        """Stop telling; more than one call is the same as one."""
        with self._telling:
            self._ended.set()

    def _look(self) -> None:
        while not self._ended.wait(LOOK_EVERY_SECONDS):
            try:
                row = row_of(self._server.get(self._path))
            except RouterFailure:
                return
            words = doing_of(row) if row is not None else None
            with self._telling:
                if words and not self._ended.is_set():
                    self._tell(words)


def doing_of(row: Row) -> str | None:
    """What the wait is for, in a few words."""
    if row.state in ("loading", "downloading"):
        return row.shown_state
    if row.waiting and row.state == "unloaded":
        return "waiting for its place in memory"
    if row.waiting:
        return f"waiting for a free slot, {row.waiting} in the queue"
    return None
