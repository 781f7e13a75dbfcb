"""`lr` with a person at it: a process on a pseudo terminal."""

from __future__ import annotations

import fcntl
import os
import pty
import subprocess
import sys
import termios


class Terminal:
    """A run of `lr` in a terminal of its own."""

    def __init__(self, *arguments: str, stdout: int | None = None) -> None:
        self._ours, theirs = pty.openpty()
        environ = {**os.environ, "TERM": "xterm", "COLUMNS": "100", "LINES": "30", "PYTHONUNBUFFERED": "1"}
        environ.pop("NO_COLOR", None)
        self.process = subprocess.Popen(
            [sys.executable, "-m", "llamarouter", *arguments],
            stdin=theirs,
            stdout=theirs if stdout is None else stdout,
            stderr=theirs,
            env=environ,
            start_new_session=True,
            preexec_fn=_take_terminal,
        )
        os.close(theirs)
        self.seen = ""

    def until(self, text: str) -> str:
        """Read until `text` is there; what stood before it."""
        while text not in self.seen:
            self.seen += self._read()
        before, _, self.seen = self.seen.partition(text)
        return before

    def type(self, text: str) -> None:
        os.write(self._ours, text.encode())

    def end(self) -> str:
        """Everything up to the end of the process."""
        while part := self._read():
            self.seen += part
        self.process.wait(10)
        os.close(self._ours)
        return self.seen

    def _read(self) -> str:
        try:
            return os.read(self._ours, 65536).decode()
        except OSError:  # Linux: the other side is closed
            return ""


def _take_terminal() -> None:
    fcntl.ioctl(0, termios.TIOCSCTTY, 0)
