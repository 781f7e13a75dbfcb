"""What takes place once: cold requests, models in turns, starts with a thousand files, and the commands of `lr`."""

from __future__ import annotations

import contextlib
import subprocess
import sys
import time
from pathlib import Path

from bench.candidates import ours, reference
from bench.cold import by_hand, first_token, in_turns
from bench.measure import Measure, rotated

_SLOTS = 4
_ROUTERS = {"reference": reference, "lr": ours}


def cold(server: Path, model: Path, rounds: int) -> list[Measure]:
    """From a request for a model that is not loaded to its first token."""
    measure = Measure(f"cold, {model.stat().st_size / 1e6:.0f} MB", "ms")
    with contextlib.ExitStack() as stack:
        routers = {name: stack.enter_context(run(server, model.parent, _SLOTS)) for name, run in _ROUTERS.items()}
        for number in range(rounds):
            for name in rotated(["direct", *routers], number):
                router = routers.get(name)
                seconds = first_token(router, model.stem) if router else by_hand(server, model, _SLOTS)
                measure.add(name, 1000 * seconds)
    return [measure]


def turns(server: Path, folder: Path, places: int, rounds: int) -> list[Measure]:
    """Eight clients, three models, `places` of them loaded at a time.

    Where two models compute at once, each with one thread: their threads spin while they wait for each other, and with
    as many for each as there are cores, they would take the cores from each other, whatever a router does.
    """
    alone = () if places == 1 else ("--threads", "1")
    kind = f"3 models, 8 clients, --models-max {places}"
    whole, p99, lost = (
        Measure(f"{kind}: 160 requests", "s"),
        Measure(f"{kind}: p99", "ms"),
        Measure(f"{kind}: lost", "requests"),
    )
    models = sorted(path.stem for path in folder.glob("*.gguf"))
    with contextlib.ExitStack() as stack:
        routers = {
            name: stack.enter_context(run(server, folder, 1, "--models-max", str(places), *alone))
            for name, run in _ROUTERS.items()
        }
        for number in range(rounds):
            for name in rotated(list(routers), number):
                told = in_turns(routers[name], models, seed=number)
                whole.add(name, told.makespan)
                p99.add(name, 1000 * told.p99)
                lost.add(name, float(told.lost))
    return [whole, p99, lost]


def start(server: Path, folder: Path, rounds: int) -> list[Measure]:
    """From the start of a router to its first answer, with the many files of `folder`."""
    count = len(list(folder.iterdir()))
    first, again = Measure(f"start with {count:,} files, first", "ms"), Measure(f"start with {count:,} files", "ms")
    for number in range(rounds + 1):
        for name in rotated(list(_ROUTERS), number):
            with _ROUTERS[name](server, folder, _SLOTS) as router:
                (again if number else first).add(name, 1000 * router.until_listening)
    return [first, again]


def commands(server: Path, folder: Path, rounds: int) -> list[Measure]:
    """The commands that people wait for, beside a router that runs."""
    measures = []
    with ours(server, folder, _SLOTS) as router:
        for words in (["--help"], ["ls", "--url", router.url], ["ps", "--url", router.url]):
            measure = Measure(f"lr {words[0]}", "ms")
            for _ in range(rounds):
                started = time.monotonic()
                subprocess.run([sys.executable, "-m", "llamarouter", *words], check=True, capture_output=True)
                measure.add("lr", 1000 * (time.monotonic() - started))
            measures.append(measure)
    return measures
