"""Who starves: ten times more clients than slots on a hot model, one client of a cold one, and one place for both.

The hot clients ask one question after the other; so does the cold one, with a pause in between. What is measured is the
longest that he waited from his request to his answer. One that is not answered when the time is over has waited so long
at least. Beside it stands what `docs/fairness.md` promises, worked out from what was measured in the same run:

    bound = max-wait + (load + keep + answer + stop) + (answer + stop) + load, + his answer
"""

from __future__ import annotations

import contextlib
import http.client
import json
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from bench.candidates import Candidate, ours, post, reference, warm_up
from bench.measure import Measure, rotated

_SLOTS = 4
_CLIENTS = 10 * _SLOTS
_MAX_WAIT = 2.0
_SECONDS = 20.0
_TOKENS = 64
_PAUSE = 0.5  # of the cold client
_HOT, _COLD = "hot", "cold"
_KIND = f"{_CLIENTS} clients on {_SLOTS} slots, 1 place"


@dataclass(slots=True)
class Seen:
    """What happened in one run; times in seconds."""

    hot: list[float] = field(default_factory=list)  # how long the answers took, from the request on
    cold: list[float] = field(default_factory=list)
    starved: float = 0.0  # how long the cold client had waited when the time was over
    failed: int = 0
    loads: list[float] = field(default_factory=list)
    inside: float = 0.0  # the longest that an answer of the hot model took once it was in a slot
    stop: float = 0.0

    @property
    def longest_wait(self) -> float:
        """Of the cold client."""
        return max(*self.cold, self.starved, 0.0)

    @property
    def bound(self) -> float:
        """What the documentation promises for it, in this run."""
        load, end = max(self.loads, default=0.0), self.inside + self.stop
        return _MAX_WAIT + (2 * load + end) + end + load + self.inside


def measure(server: Path, folder: Path, rounds: int) -> list[Measure]:
    """Both routers over the same two models, in turns."""
    waits = Measure(f"{_KIND}: cold, longest wait", "s")
    bound = Measure(f"{_KIND}: the bound on it", "s")
    cold = Measure(f"{_KIND}: cold answers", "requests", "more")
    hot = Measure(f"{_KIND}: hot answers", "a second", "more")
    loading = Measure(f"{_KIND}: time spent loading", "%")
    failed = Measure(f"{_KIND}: failed", "requests")
    routers = {
        "reference": lambda: reference(server, folder, _SLOTS, "--models-max", "1"),
        "lr": lambda: ours(server, folder, _SLOTS, "--models-max", "1", "--max-wait", str(_MAX_WAIT)),
    }
    for number in range(rounds):
        for name in rotated(list(routers), number):
            with routers[name]() as candidate:
                seen = _contend(candidate)
            waits.add(name, seen.longest_wait)
            cold.add(name, float(len(seen.cold)))
            hot.add(name, len(seen.hot) / _SECONDS)
            loading.add(name, 100 * sum(seen.loads) / _SECONDS)
            failed.add(name, float(seen.failed))
            if name == "lr":
                bound.add(name, seen.bound)
    return [waits, bound, cold, hot, loading, failed]


def _contend(candidate: Candidate) -> Seen:
    seen, over = Seen(), threading.Event()
    warm_up(candidate, _HOT)
    seen.stop = _stop_of(candidate)
    warm_up(candidate, _HOT)
    with _loads_of(candidate, seen.loads):
        clients = [threading.Thread(target=_ask_on, args=(candidate, seen, over)) for _ in range(_CLIENTS)]
        for client in clients:
            client.start()
        over.wait(1.0)  # they have filled the slots
        _ask_now_and_then(candidate, seen, time.monotonic() + _SECONDS)
        over.set()
        for client in clients:
            client.join()
    return seen


def _stop_of(candidate: Candidate) -> float:
    """Seconds from the unload of an idle model to its end."""
    started = time.monotonic()
    post(candidate, "/models/unload", {"model": _HOT, "wait": True})
    while _status(candidate, _HOT) != "unloaded":
        pass
    return time.monotonic() - started


def _status(candidate: Candidate, model: str) -> str:
    connection = http.client.HTTPConnection("127.0.0.1", candidate.port, timeout=_SECONDS)
    with contextlib.closing(connection):
        connection.request("GET", "/models")
        rows = json.loads(connection.getresponse().read())["data"]
    return next(str(row["status"]["value"]) for row in rows if row["id"] == model)


def _ask_on(candidate: Candidate, seen: Seen, over: threading.Event) -> None:
    """A client of the hot model, who asks as soon as he is answered."""
    connection = http.client.HTTPConnection("127.0.0.1", candidate.port, timeout=2 * _SECONDS)
    with contextlib.closing(connection):
        while not over.is_set():
            started = time.monotonic()
            told = _answer(connection, _HOT)
            if told is None:
                seen.failed += 1
                connection.close()
            else:
                seen.hot.append(time.monotonic() - started)
                seen.inside = max(seen.inside, told)


def _ask_now_and_then(candidate: Candidate, seen: Seen, end: float) -> None:
    """The client of the cold model, until the time is over."""
    pause = threading.Event()
    while (left := end - time.monotonic()) > 0:
        started = time.monotonic()
        connection = http.client.HTTPConnection("127.0.0.1", candidate.port, timeout=left)
        with contextlib.closing(connection):
            if _answer(connection, _COLD) is not None:
                seen.cold.append(time.monotonic() - started)
            elif time.monotonic() < end - 0.1:
                seen.failed += 1
            else:
                seen.starved = time.monotonic() - started
        pause.wait(min(_PAUSE, max(0.0, end - time.monotonic())))


def _answer(connection: http.client.HTTPConnection, model: str) -> float | None:
    """The seconds that the model itself took for an answer; None where there is none."""
    messages = [{"role": "user", "content": "Tell me something."}]
    body = {"model": model, "messages": messages, "max_tokens": _TOKENS, "ignore_eos": True}
    try:
        connection.request("POST", "/v1/chat/completions", json.dumps(body), {"content-type": "application/json"})
        answer = connection.getresponse()
        told = json.loads(answer.read())
    except (OSError, http.client.HTTPException, ValueError):
        return None
    if answer.status != http.client.OK:
        return None
    timings = told.get("timings") or {}
    return (float(timings.get("prompt_ms", 0.0)) + float(timings.get("predicted_ms", 0.0))) / 1000


@contextlib.contextmanager
def _loads_of(candidate: Candidate, loads: list[float]) -> Iterator[None]:
    """Notes in the block how long each load takes, as the feed of events tells it."""
    connection = http.client.HTTPConnection("127.0.0.1", candidate.port, timeout=5 * _SECONDS)
    connection.request("GET", "/models/sse")
    answer = connection.getresponse()
    since: dict[str, float] = {}

    def listen() -> None:
        with contextlib.suppress(OSError, ValueError, http.client.HTTPException, AttributeError):
            for line in answer:
                if not line.startswith(b"data:"):
                    continue
                record = json.loads(line[5:])
                model, status = record["model"], (record.get("data") or {}).get("status")
                if status == "loading":
                    since.setdefault(model, time.monotonic())
                elif status in ("loaded", "unloaded") and model in since:
                    loads.append(time.monotonic() - since.pop(model))

    listener = threading.Thread(target=listen)
    listener.start()
    try:
        yield
    finally:
        if connection.sock is not None:
            connection.sock.shutdown(2)
        listener.join()
        connection.close()
