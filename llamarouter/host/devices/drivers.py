"""Asks the drivers of GPUs, by way of a process that may be killed when one hangs.

    ask(pids) -> Answer(cards, problems)      within the seconds given, whatever the driver does

Blocking, and so for a thread. The process is started at the first question, kept, and after a failure not started
again for a while: each decision would else wait for the same dead driver.
"""

from __future__ import annotations

import contextlib
import os
import selectors
import subprocess
import sys
import time
from collections.abc import Iterable

import msgspec
from msgspec.structs import astuple

from llamarouter.core.physical import Physical
from llamarouter.host.devices.roots import Roots

PAUSE = 10.0  # seconds after a failure in which nothing is asked
# The first answer takes longer: without its persistence daemon, NVIDIA's driver wakes every card for it.
OPENING = 8.0
_SILENT = "the drivers of the GPUs do not answer"
LATE = f"{_SILENT} in time"
_ANSWER_MAX = 4 << 20  # bytes


class Answer(msgspec.Struct, frozen=True):
    """What the drivers say. `problems`: a line for each that did not answer."""

    cards: tuple[Physical, ...] = ()
    problems: tuple[str, ...] = ()


class Drivers:
    """The process, and when it may be asked again."""

    def __init__(self, roots: Roots, *, pause: float = PAUSE, opening: float = OPENING) -> None:
        self._roots = roots
        self._pause = pause
        self._opening = opening
        self._process: subprocess.Popen[bytes] | None = None
        self._failure = Answer()
        self._not_before = 0.0

    @property
    def are_there(self) -> bool:
        """Whether there is any driver to ask."""
        return self._roots.has_nvidia or self._roots.has_amd

    def ask(self, pids: Iterable[int], seconds: float) -> Answer:
        """What the drivers say of the cards, and of what these processes hold."""
        if time.monotonic() < self._not_before:
            return self._failure
        try:
            if self._process is None:
                self._process = self._start()
                seconds += self._opening
            answer = _exchange(self._process, msgspec.json.encode(list(pids)) + b"\n", seconds)
        except (OSError, msgspec.DecodeError) as error:
            answer = Answer(problems=(LATE if isinstance(error, TimeoutError) else f"{_SILENT}: {error}",))
        if answer.problems and not answer.cards:
            self._failure, self._not_before = answer, time.monotonic() + self._pause
            self.close()
        return answer

    def stop(self) -> None:
        """Let a question that is being asked fail now."""
        if self._process is not None:
            self._process.kill()

    def close(self) -> None:
        """End the process; one that hangs in the kernel is left to it, and never waited for."""
        process, self._process = self._process, None
        if process is None:
            return
        process.kill()
        for pipe in (process.stdin, process.stdout):
            if pipe is not None:
                with contextlib.suppress(OSError):
                    pipe.close()
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(1.0)

    def _start(self) -> subprocess.Popen[bytes]:
        return subprocess.Popen(
            (sys.executable, "-m", "llamarouter.host.devices.driver_process", *astuple(self._roots)),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )


def _exchange(process: subprocess.Popen[bytes], question: bytes, seconds: float) -> Answer:
    """One line there, one line back. Raises OSError (TimeoutError among them) and DecodeError."""
    if process.stdin is None or process.stdout is None:
        raise BrokenPipeError("no pipes")
    process.stdin.write(question)
    process.stdin.flush()
    deadline = time.monotonic() + seconds
    line = b""
    with selectors.DefaultSelector() as selector:
        selector.register(process.stdout, selectors.EVENT_READ)
        while not line.endswith(b"\n"):
            if not selector.select(max(0.0, deadline - time.monotonic())):
                raise TimeoutError
            piece = os.read(process.stdout.fileno(), 65536)
            line += piece
            if not piece or len(line) > _ANSWER_MAX:
                raise BrokenPipeError("the process that asks them has ended")
    return msgspec.json.decode(line, type=Answer)
