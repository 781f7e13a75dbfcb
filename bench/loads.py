"""The loads that are put on a running router, and on the child itself."""

from __future__ import annotations

import contextlib
import sys
from dataclasses import replace
from pathlib import Path

from bench import memory
from bench.candidates import direct, ours, reference, warm_up, with_a_key, without_fast_lane
from bench.load import Figure, Load, run
from bench.measure import Measure, rotated

_SLOTS = 4
_MODEL = "tiny"
_TOKENIZE = {"model": _MODEL, "content": "Hello there, router."}
_MESSAGES = [{"role": "user", "content": "Say something."}]
_CHAT = {"model": _MODEL, "messages": _MESSAGES, "stream": True, "max_tokens": 64, "ignore_eos": True}
LOADS = (
    Load("small requests, 16 connections", "/tokenize", _TOKENIZE, 16),
    Load("small requests, 1 connection", "/tokenize", _TOKENIZE, 1),
    Load("streamed chat, 64 tokens, 4 connections", "/v1/chat/completions", _CHAT, 4, tokens=64),
)


# In these rows `lr` is the one with a key, its limits, the log and the counters.
_KEYED = ", with a key"


def with_a_key_of(load: Load) -> Load:
    """The same load, of clients that have a key."""
    return replace(load, name=load.name + _KEYED)


ROWS = tuple(each for load in LOADS for each in (load, with_a_key_of(load)))


def measures_of(load: Load) -> dict[str, Measure]:
    """The rows of one load, by the field of a `Figure`."""
    unit = "us/token" if load.tokens else "us/req"
    return {
        "per_second": Measure(f"{load.name}: requests", "a second", "more"),
        "p50": Measure(f"{load.name}: p50", "us"),
        "p99": Measure(f"{load.name}: p99", "us"),
        "cpu": Measure(f"{load.name}: CPU", unit),
        "kernel": Measure(f"{load.name}: of it in the kernel", unit),
        "failed": Measure(f"{load.name}: failed", "requests"),
    }


def put(server: Path, folder: Path, rounds: int, seconds: int) -> tuple[dict[str, dict[str, Measure]], list[Measure]]:
    """Put all loads on all candidates, in turns; the rows by load, and what memory they left."""
    measured = {load.name: measures_of(load) for load in ROWS}
    idle, connection = Measure("memory after the loads", "MB"), Measure("memory of a connection", "KB")
    with contextlib.ExitStack() as stack:
        found = {
            candidate.name: candidate
            for candidate in (
                stack.enter_context(direct(server, folder / f"{_MODEL}.gguf", _SLOTS)),
                stack.enter_context(reference(server, folder, _SLOTS)),
                stack.enter_context(ours(server, folder, _SLOTS)),
                stack.enter_context(with_a_key(server, folder, _SLOTS)),
                stack.enter_context(without_fast_lane(server, folder, _SLOTS)),
            )
        }
        for candidate in found.values():
            warm_up(candidate, _MODEL)
        for load in LOADS:
            for number in range(rounds):
                print(f"{load.name}: round {number + 1} of {rounds}", file=sys.stderr)
                for name in rotated(list(found), number):
                    figure = run(found[name], load, seconds)
                    if name == "with a key":
                        _note(measured[with_a_key_of(load).name], "lr", figure, load)
                        continue
                    _note(measured[load.name], name, figure, load)
                    if name in ("direct", "reference"):
                        _note(measured[with_a_key_of(load).name], name, figure, load)
        for name in ("reference", "lr"):
            idle.add(name, memory.resident(found[name]))
        connection.add("lr", memory.of_a_connection(found["lr"]))
    return measured, [idle, connection]


def _note(measures: dict[str, Measure], name: str, figure: Figure, load: Load) -> None:
    for field, measure in measures.items():
        if field not in ("cpu", "kernel"):
            measure.add(name, float(getattr(figure, field)))
        elif name != "direct":
            measure.add(name, getattr(figure, field) / (load.tokens or 1))
