"""Where a log goes, at any speed: a thread writes, so a reader that has stopped or a full disk stops nobody else.

    put --(a buffer that is bounded)--> thread --> file descriptor
      `- no room, or it cannot be written: dropped, counted, and said once in front of the next line that has room

The lines of a batch are written together. Where a disk ran full in the middle of one, the next begins on a new line.
"""

from __future__ import annotations

import os
import select
import stat
import threading
from collections import deque
from collections.abc import Callable

_BUFFER = 1 << 20  # bytes that wait to be written
_GATHER = 0.05  # seconds that lines wait for others: to wake a thread costs a busy router more than to write
_END = ord("\n")
_CREATE = os.O_CREAT | os.O_APPEND | os.O_CLOEXEC | os.O_NOCTTY

_Part = tuple[bytes, int, int]  # whole lines, how many, and how many missing ones the first of them tells of


class Outlet:
    """One target: a file descriptor of the process, or a file of its own, written anew. Raises `OSError`.

    `notice`: the line that says how many are missing, and why.
    """

    def __init__(self, target: int | str, notice: Callable[[int, str], bytes], buffer: int = _BUFFER) -> None:
        self.dropped = 0  # lines, ever
        self._path = target if isinstance(target, str) else None
        self._fd = _open(target, os.O_TRUNC) if isinstance(target, str) else target
        self._notice = notice
        self._room = buffer
        self._buffer = buffer
        self._waiting: deque[_Part] = deque()
        self._missing = 0  # lines dropped that nobody was told of
        self._why = ""
        self._torn = False  # the last line that was written has no end
        self._busy = False
        self._idle = True  # the thread waits for something to do
        self._hurry = False  # somebody waits until all is written
        self._reopen = False
        self._news = threading.Condition()
        self._thread: threading.Thread | None = None

    def put(self, data: bytes, lines: int) -> None:
        """Write whole lines, soon. Never waits for the target."""
        with self._news:
            if len(data) > self._room:
                self._drop(lines, "whoever reads the log does not keep up")
                return
            missing, self._missing = self._missing, 0
            if missing:
                data = self._notice(missing, self._why) + data
            self._room -= len(data)
            self._waiting.append((data, lines, missing))
            self._wake()

    def reopen(self) -> None:
        """Somebody may have moved the file away: go on in one of its name."""
        with self._news:
            if self._path is not None:
                self._reopen = True
                self._wake()

    def flush(self, seconds: float) -> None:
        """Wait until all is written, for so long at most."""
        with self._news:
            self._hurry = True
            self._news.notify_all()
            self._news.wait_for(lambda: not (self._waiting or self._busy or self._reopen), seconds)
            self._hurry = False

    def _wake(self) -> None:
        if self._thread is None:  # not before there is something to say: a router has few threads while it starts
            self._thread = threading.Thread(target=self._run, name="log", daemon=True)
            self._thread.start()
        if self._idle or self._is_urgent():
            self._idle = False
            self._news.notify_all()

    def _is_urgent(self) -> bool:
        return self._hurry or self._reopen or self._room < self._buffer // 2

    def _drop(self, lines: int, why: str) -> None:
        self.dropped += lines
        self._missing += lines
        self._why = why

    # --- the thread ---------------------------------------------------------------------------------------------------

    def _run(self) -> None:
        while True:
            with self._news:
                self._busy = False
                self._news.notify_all()
                self._idle = True
                self._news.wait_for(lambda: self._waiting or self._reopen)
                self._idle = False
                self._busy = True
                self._news.wait_for(self._is_urgent, _GATHER)
                batch = list(self._waiting)
                self._waiting.clear()
                anew, self._reopen = self._reopen, False
            if anew:
                self._open_anew()
            if batch:
                self._write_batch(batch)

    def _write_batch(self, batch: list[_Part]) -> None:
        data = b"".join(part for part, _, _ in batch)
        try:
            self._write(b"\n" + data if self._torn else data)
        except OSError as error:
            with self._news:
                self._drop(sum(lines for _, lines, _ in batch), error.strerror or str(error))
                self._missing += sum(missing for _, _, missing in batch)
        with self._news:
            self._room += len(data)

    def _write(self, data: bytes) -> None:
        left = memoryview(data)
        while left:
            try:
                written = os.write(self._fd, left)
            except BlockingIOError:  # somebody else has made it so
                select.select([], [self._fd], [])
                continue
            self._torn = left[written - 1] != _END
            left = left[written:]

    def _open_anew(self) -> None:
        assert self._path is not None
        try:
            fresh = _open(self._path)
        except OSError:  # the old one is better than none
            return
        os.close(self._fd)
        self._fd = fresh


def _open(path: str, more: int = 0) -> int:
    """Without waiting for anybody: a FIFO that nobody reads yet is opened for both, or its opening would wait."""
    how = os.O_RDWR if _is_fifo(path) else os.O_WRONLY
    return os.open(path, _CREATE | how | more, 0o666)


def _is_fifo(path: str) -> bool:
    try:
        return stat.S_ISFIFO(os.stat(path).st_mode)
    except OSError:  # it is not there yet, or opening it says why not
        return False
