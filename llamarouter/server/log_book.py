"""The log of the router: what is said and which requests are over, in the form of each place that it goes to.

    logging ----> LogBook --JSON or text--> outlets (a stream, a file)
    RequestLog ---^  `-----JSON-----------> the ring that `lr logs` reads

Nothing here waits for whoever reads. Lines of logging may come from any thread, those of requests from the loop's.
"""

from __future__ import annotations

import asyncio
import enum
import logging
import threading
import time
import traceback
from collections.abc import Sequence

from msgspec import Struct

from llamarouter.core.log_line import json_of_message, request_in, text_line, text_of
from llamarouter.core.shown import one_line
from llamarouter.host.child_log import LINE_LIMIT, LogRing
from llamarouter.host.outlet import Outlet

_LEVELS = {"WARNING": "warn", "CRITICAL": "error"}  # where llama-server's word is another
_PRIORITIES = {"debug": b"<7>", "info": b"<6>", "warn": b"<4>", "error": b"<3>"}  # of sd-daemon(3)
_LAST_WORDS = 2.0  # seconds that the end waits for who reads
_RING = 512 << 10  # bytes
_LONGEST = 2000  # characters of a message that the ring keeps


Said = tuple[str, bytes, str]  # level, the line as JSON, and as text


class Form(enum.Enum):
    """How a line is written."""

    TEXT = "text"
    JSON = "json"


class Place(Struct, frozen=True):
    """A target and its form. `priorities`: journald reads a level in front of each line."""

    outlet: Outlet
    form: Form
    priorities: bool = False

    def put(self, lines: Sequence[Said]) -> None:
        self.outlet.put(b"".join(map(self.line_of, lines)), len(lines))

    def line_of(self, said: Said) -> bytes:
        """As it is written there."""
        level, json, text = said
        line = json if self.form is Form.JSON else text.encode("utf-8", "backslashreplace")
        return b"%b%b\n" % (_PRIORITIES.get(level, b"") if self.priorities else b"", line)


class LogBook(logging.Handler):
    """A handler of logging, and more."""

    def __init__(self, level: int = logging.INFO) -> None:
        super().__init__()
        self.places: list[Place] = []
        self.ring = LogRing(_RING)
        self.least = level
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread = threading.get_ident()

    def add(self, target: int | str, form: Form, *, priorities: bool = False) -> None:
        """One more place. Raises `OSError` where a file cannot be written."""

        def notice(lines: int, why: str) -> bytes:
            at, words = _now(), f"{lines} lines of this log are missing: {why}"
            return place.line_of(("warn", json_of_message(at, "warn", words, {}), text_line(at, "warn", words)))

        place = Place(Outlet(target, notice), form, priorities)
        self.places.append(place)

    def attach(self, loop: asyncio.AbstractEventLoop) -> None:
        """From now on the ring is read in this loop, whose thread is the caller's."""
        self._loop = loop
        self._thread = threading.get_ident()

    # --- what is said -------------------------------------------------------------------------------------------------

    def emit(self, record: logging.LogRecord) -> None:
        """Take a line; a traceback stands below it, and in JSON in it."""
        level = _LEVELS.get(record.levelname, record.levelname.lower())
        at = int(record.created * 1e6)
        message, trace = record.getMessage(), ""
        if record.exc_info and record.exc_info[0] is not None:
            trace = "\n" + "".join(traceback.format_exception(*record.exc_info)).rstrip()
        facts = getattr(record, "facts", {})
        whole = json_of_message(at, level, message + trace, facts)
        # What a file or a model is called begins no line.
        text = text_line(at, level, one_line(message)) + trace
        for place in self.places:
            place.put([(level, whole, text)])
        if len(whole) >= LINE_LIMIT:
            whole = json_of_message(at, level, (message + trace)[:_LONGEST] + "...", facts)
        self._keep(whole + b"\n")

    def requests(self, lines: Sequence[bytes]) -> None:
        """These requests are over: of each the JSON of its `RequestLine`, with its end."""
        data = b"".join(lines)
        for place in self.places:
            if place.form is Form.JSON and not place.priorities:
                place.outlet.put(data, len(lines))
            else:
                place.put([_said(line.rstrip()) for line in lines])
        self._keep(data)

    def _keep(self, lines: bytes) -> None:
        if self._loop is None or threading.get_ident() == self._thread:
            self.ring.feed(lines)
        elif not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self.ring.feed, lines)

    # --- its end, and a file that was moved away ----------------------------------------------------------------------

    def reopen(self) -> None:
        """Files begin anew where they were moved away."""
        for place in self.places:
            place.outlet.reopen()

    def flush(self) -> None:
        """Wait a moment until all is written."""
        for place in self.places:
            place.outlet.flush(_LAST_WORDS)


def _said(json: bytes) -> Said:
    line = request_in(json)
    return line.level, json, text_line(line.time, line.level, text_of(line))


def _now() -> int:
    return int(time.time() * 1e6)  # noqa: TID251 (a date, for people)
