"""`lr top`: models, queues, devices and what happened last, live in a terminal.

    the router's feed --wakes--> the loop: a key, a record, or a second --> ask /models, /lr/devices --> draw

At most two pictures a second, whatever happens; keys are answered with the next one. Loads and the like run in threads
of their own, for they may wait long.
"""

from __future__ import annotations

import os
import re
import select
import signal
import sys
import termios
import threading
import time
import tty
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import datetime
from types import FrameType
from typing import TYPE_CHECKING

import click

from llamarouter.cli.events import record_of, words_of
from llamarouter.cli.failures import CommandFailed
from llamarouter.cli.models import rows_from
from llamarouter.cli.output import is_colourful
from llamarouter.cli.parameters import server_options
from llamarouter.cli.ps import devices_from
from llamarouter.cli.server_client import ServerClient, events_of, need_server

if TYPE_CHECKING:
    from rich.console import Console

    from llamarouter.cli.top_frame import Scene

_LEAST_APART = 0.5  # seconds between two pictures
_MOST_APART = 1.0
_FEED_AGAIN = 2.0
_WIDTH_OF_A_PIPE = 120
_KEY = re.compile(r"\x1b[\[O].|.", re.DOTALL)
_UP, _DOWN = ("\x1b[A", "\x1bOA", "k"), ("\x1b[B", "\x1bOB", "j")


@click.command()
@click.option("--once", is_flag=True, help="Print one picture and end.")
@server_options
def top(once: bool, url: str | None, port: int | None) -> None:
    """Watch models, queues and devices live.

    What is in memory stands first: its state, requests inside and waiting, tokens per second, what it holds. Below:
    the devices, the models that ended last and why, and what happened. Up and down choose a model; l loads, u unloads
    and p pins it, q ends the view and nothing else.

    \b
      lr top
      lr top --once

    Exit codes: 0 done, 1 no router, or it is gone, 2 wrong usage.
    """
    from rich.console import Console

    server = need_server(url, port)
    if once:
        # Where no terminal says how wide it is, nothing is cut for the usual one.
        width = None if sys.stdout.isatty() or os.environ.get("COLUMNS") else _WIDTH_OF_A_PIPE
        console = Console(no_color=not is_colourful(), highlight=False, width=width)
        scene = scene_of(server, ())
        from llamarouter.cli.top_frame import frame_of

        console.print(frame_of(scene, None, console.width, max(len(scene.rows) + 20, console.height), " "))
        return
    if not (sys.stdin.isatty() and sys.stdout.isatty()) or os.environ.get("TERM") == "dumb":
        raise CommandFailed("this is no terminal to draw in: `lr top --once` prints one picture")
    with _keys_as_they_come():
        View(server, Console(no_color=not is_colourful(), highlight=False)).run()


def scene_of(server: ServerClient, happened: tuple[str, ...]) -> Scene:
    """Ask the router. Raises `RouterFailure`."""
    from llamarouter.cli.top_frame import Scene

    return Scene(server.get("/lr/status"), rows_from(server), devices_from(server), happened)


class View:
    """The live view: what is chosen, what is said at the bottom, and the loop."""

    def __init__(self, server: ServerClient, console: Console) -> None:
        self._server = server
        self._console = console
        self._chosen: str | None = None
        self._message = ""
        self._happened: deque[str] = deque(maxlen=8)
        self._wake_read, self._wake_write = os.pipe()
        os.set_blocking(self._wake_write, False)

    def run(self) -> None:
        """Draw until q. Raises `RouterFailure` where the router goes away."""
        from rich.live import Live

        threading.Thread(target=self._listen, daemon=True).start()
        with Live(console=self._console, screen=True, auto_refresh=False) as live:
            while True:
                begun = time.monotonic()
                scene = scene_of(self._server, tuple(self._happened))
                self._keep_chosen(scene)
                if not self._until_next(scene, begun, live.update):
                    return

    def _keep_chosen(self, scene: Scene) -> None:
        ids = [row.id for row in scene.rows]
        if self._chosen not in ids:
            self._chosen = ids[0] if ids else None

    def _until_next(self, scene: Scene, begun: float, draw: Callable[..., None]) -> bool:
        """Draw, and take keys until there may be something new; False: he wants to leave."""
        from llamarouter.cli.top_frame import frame_of

        news = False
        while True:
            width, height = self._console.size
            draw(frame_of(scene, self._chosen, width, height, self._message), refresh=True)
            left = begun + (_LEAST_APART if news else _MOST_APART) - time.monotonic()
            if left <= 0:
                return True
            watched = [sys.stdin.fileno(), *([] if news else [self._wake_read])]
            ready = select.select(watched, [], [], left)[0]
            if self._wake_read in ready:
                os.read(self._wake_read, 4096)
                news = True
            if sys.stdin.fileno() in ready and not self._take_all(os.read(sys.stdin.fileno(), 64), scene):
                return False

    def _take_all(self, typed: bytes, scene: Scene) -> bool:
        """Several keys may come at once; none: the terminal is gone."""
        keys = _KEY.findall(typed.decode("ascii", "replace"))
        return bool(typed) and all(self._take(key, scene) for key in keys)

    def _take(self, key: str, scene: Scene) -> bool:
        """Do what a key says; False: leave."""
        ids = [row.id for row in scene.rows]
        place = ids.index(self._chosen) if self._chosen in ids else 0
        if key in ("q", "Q", "\x03", "\x04"):
            return False
        if key in _UP and ids:
            self._chosen = ids[max(0, place - 1)]
        elif key in _DOWN and ids:
            self._chosen = ids[min(len(ids) - 1, place + 1)]
        elif key in ("l", "u", "p") and ids:
            row = scene.rows[place]
            path = {"l": "/models/load", "u": "/models/unload", "p": "/lr/unpin" if row.pinned else "/lr/pin"}[key]
            self._ask(path, row.id)
        return True

    def _ask(self, path: str, model: str) -> None:
        word = path.rpartition("/")[2]
        self._message = f"{word} {model} ..."

        def ask() -> None:
            try:
                self._server.post(path, {"model": model}, patient=True)
                self._message = ""
            except CommandFailed as error:
                self._message = f"{word} {model}: {error}"
            self._wake()

        threading.Thread(target=ask, daemon=True).start()

    def _listen(self) -> None:
        """Follow the feed; where it breaks off, the pictures go on without it until it is there again."""
        while True:
            with suppress(CommandFailed), self._server.stream("GET", "/models/sse") as lines:
                for event in events_of(lines):
                    record = record_of(event.data)
                    data = record.get("data")
                    if not (isinstance(data, dict) and data.get("progress")) and record:
                        at = datetime.now().strftime("%H:%M:%S")
                        self._happened.append(f"{at}  {record.get('model')}  {words_of(record)}")
                    self._wake()
            threading.Event().wait(_FEED_AGAIN)

    def _wake(self) -> None:
        with suppress(BlockingIOError):  # it is awake
            os.write(self._wake_write, b".")


@contextmanager
def _keys_as_they_come() -> Iterator[None]:
    """Each key at once, and not shown; as it was afterwards, also where SIGTERM ends it."""

    def leave(number: int, frame: FrameType | None) -> None:
        raise SystemExit(128 + number)

    descriptor = sys.stdin.fileno()
    before = termios.tcgetattr(descriptor)
    handler = signal.signal(signal.SIGTERM, leave)
    tty.setcbreak(descriptor)
    try:
        yield
    finally:
        termios.tcsetattr(descriptor, termios.TCSADRAIN, before)
        signal.signal(signal.SIGTERM, handler)
