"""A process that asks the drivers of GPUs, so that a driver that hangs holds up nothing else.

    stdin   [[pid, ...]]  a line a question: of which processes it is to be said what they hold
    stdout  {"cards": [...], "problems": [...]}   a line an answer

It keeps NVIDIA's library open between the questions, for opening it costs most of the time. It ends when its stdin
does, whatever the thread that asks is waiting for: so it does not outlive the router.
"""

from __future__ import annotations

import json
import os
import queue
import sys
import threading

from msgspec.structs import asdict

from llamarouter.core.physical import Physical
from llamarouter.host.devices import amd
from llamarouter.host.devices.nvml import Nvml, NvmlError
from llamarouter.host.devices.roots import Roots


class Drivers:
    """All drivers of this machine."""

    def __init__(self, roots: Roots) -> None:
        self._roots = roots
        self._nvml: Nvml | None = None

    def ask(self, pids: list[int]) -> dict[str, object]:
        """What they say now."""
        cards: list[Physical] = []
        problems: list[str] = []
        if self._roots.has_nvidia:
            try:
                self._nvml = self._nvml or Nvml(self._roots.nvml)
                found, lost = self._nvml.cards()
                cards += found
                problems += lost
            except NvmlError as error:
                self._nvml = None  # a driver that was replaced is opened anew
                problems.append(str(error))
        if self._roots.has_amd:
            cards += amd.cards(self._roots, pids)
        return {"cards": [asdict(card) for card in cards], "problems": problems}


def _answer(drivers: Drivers, questions: queue.SimpleQueue[str]) -> None:
    try:
        while True:
            answer = json.dumps(drivers.ask(json.loads(questions.get())))
            sys.stdout.write(answer + "\n")
            sys.stdout.flush()
    finally:
        os._exit(1)  # a mistake of ours: whoever asked is not to wait for it


def main(roots: Roots) -> None:
    """Answer until stdin ends."""
    questions: queue.SimpleQueue[str] = queue.SimpleQueue()
    threading.Thread(target=_answer, args=(Drivers(roots), questions), daemon=True).start()
    for line in sys.stdin:
        questions.put(line)
    os._exit(0)  # a thread in a driver's call would hold up any other way out


if __name__ == "__main__":
    main(Roots(*sys.argv[1:]))
