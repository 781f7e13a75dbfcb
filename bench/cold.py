"""A request for a model that is not loaded: spawn, load, first token; and many clients that ask for models in turns."""

from __future__ import annotations

import json
import random
import time
import urllib.request
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from bench.candidates import Candidate, direct, post

_REQUESTS, _CLIENTS = 160, 8
_PATIENCE = 60.0


def first_token(candidate: Candidate, model: str) -> float:
    """Seconds from a request for `model`, which is not loaded, to its answer of one token."""
    unload(candidate, model)
    started = time.monotonic()
    _one_token(candidate, model)
    return time.monotonic() - started


def by_hand(server: Path, model: Path, slots: int) -> float:
    """The same without a router: seconds from the start of llama-server to the answer."""
    started = time.monotonic()
    with direct(server, model, slots) as candidate:
        _one_token(candidate, model.stem)
        return time.monotonic() - started


def _one_token(candidate: Candidate, model: str) -> None:
    messages = [{"role": "user", "content": "Hello"}]
    post(candidate, "/v1/chat/completions", {"model": model, "messages": messages, "max_tokens": 1})


def unload(candidate: Candidate, model: str) -> None:
    """Have the model's process gone."""
    if _status(candidate, model) != "unloaded":
        post(candidate, "/models/unload", {"model": model})
    _until(lambda: _status(candidate, model) == "unloaded", f"{candidate.name} does not unload {model}")


def _status(candidate: Candidate, model: str) -> str:
    with urllib.request.urlopen(f"{candidate.url}/models", timeout=_PATIENCE) as answer:
        rows = json.loads(answer.read())["data"]
    return next(str(row["status"]["value"]) for row in rows if row["id"] == model)


def _until(true: Callable[[], bool], otherwise: str) -> None:
    end = time.monotonic() + _PATIENCE
    while not true():
        if time.monotonic() > end:
            raise SystemExit(f"bench: {otherwise}")


@dataclass(frozen=True, slots=True)
class Turns:
    """How clients fared that asked for models in turns; times in seconds."""

    makespan: float
    p99: float
    lost: int


def in_turns(candidate: Candidate, models: list[str], seed: int) -> Turns:
    """160 requests of eight clients, each for a model picked at random."""
    chance = random.Random(seed)
    picks = [chance.choice(models) for _ in range(_REQUESTS)]
    started = time.monotonic()
    with ThreadPoolExecutor(_CLIENTS) as clients:
        waits = list(clients.map(lambda model: _wait(candidate, model), picks))
    makespan = time.monotonic() - started
    served = sorted(wait for wait in waits if wait is not None)
    return Turns(makespan, served[int(0.99 * len(served))] if served else 0.0, waits.count(None))


def _wait(candidate: Candidate, model: str) -> float | None:
    started = time.monotonic()
    try:
        _one_token(candidate, model)
    except OSError:
        return None
    return time.monotonic() - started
