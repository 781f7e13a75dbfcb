"""`lr` with a person at it: a process on a pseudo terminal."""

from __future__ import annotations

import codecs
import fcntl
import os
import pty
import select
import subprocess
import sys
import termios
from collections.abc import Sequence

PATIENCE_SECONDS = 15.0


class Terminal:
    """A run of `lr` in a terminal of its own, a hundred columns wide."""

    def __init__(
        self, *arguments: str, stdout: int | None = None, program: Sequence[str] = ("-m", "llamarouter")
    ) -> None:
        # The other end stays open here, too: a hang-up can overtake what was written just before it.
        self._ours, self._theirs = pty.openpty()
        environ = {**os.environ, "TERM": "xterm", "COLUMNS": "100", "LINES": "30", "PYTHONUNBUFFERED": "1"}
        environ.pop("NO_COLOR", None)
        self.process = subprocess.Popen(
            [sys.executable, *program, *arguments],
            stdin=self._theirs,
            stdout=self._theirs if stdout is None else stdout,
            stderr=self._theirs,
            env=environ,
            start_new_session=True,
            preexec_fn=_take_terminal,
        )
        self.seen = ""
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")

    def until(self, text: str) -> str:
        """Read until `text` is there; what stood before it."""
        while text not in self.seen:
            assert self._read(PATIENCE_SECONDS), f"{text!r} did not come, but {self.seen!r}"
        before, _, self.seen = self.seen.partition(text)
        return before

    def type(self, text: str) -> None:
        os.write(self._ours, text.encode())

    def end(self) -> str:
        """Everything up to the end of the process."""
        while self.process.poll() is None:
            self._read(0.02)
        while self._read(0.02):
            pass
        os.close(self._ours)
        os.close(self._theirs)
        return self.seen

    def _read(self, seconds: float) -> bool:
        """Take what is there, or what comes within `seconds`."""
        if not select.select([self._ours], [], [], seconds)[0]:
            return False
        self.seen += self._decoder.decode(os.read(self._ours, 65536))
        return True


def _take_terminal() -> None:
    fcntl.ioctl(0, termios.TIOCSCTTY, 0)
