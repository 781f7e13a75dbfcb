"""A thousand requests at once for a model that is not loaded, while another model is asked as before."""

from __future__ import annotations

import asyncio
import json
import resource
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from bench.candidates import Candidate, ours, warm_up
from bench.cold import unload
from bench.load import Load, run
from bench.measure import Measure
from bench.process import children_of

_HERD = 1000
_KIND = f"{_HERD:,} at once for a cold model"
_OTHER = Load("another model", "/tokenize", {"model": "tiny", "content": "x"}, 1)
_SECONDS = 3
_PATIENCE = 60.0


def measure(server: Path, folder: Path, rounds: int) -> list[Measure]:
    """What the herd gets, and the longest that the other model takes to answer meanwhile, of `lr`."""
    lost, started, longest = (
        Measure(f"{_KIND}: lost", "requests"),
        Measure(f"{_KIND}: processes started", ""),
        Measure(f"{_KIND}: longest answer of another", "ms"),
    )
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    with ours(server, folder, 4) as router, ThreadPoolExecutor(1) as beside:
        assert router.pid is not None
        warm_up(router, "tiny")
        for _ in range(rounds):
            unload(router, "cold")
            before = set(children_of(router.pid))
            other = beside.submit(run, router, _OTHER, _SECONDS)
            answered = asyncio.run(_all_at_once(router))
            lost.add("lr", _HERD - answered)
            started.add("lr", len(set(children_of(router.pid)) - before))
            longest.add("lr", other.result().longest / 1000)
    return [lost, started, longest]


async def _all_at_once(router: Candidate) -> int:
    """How many of the herd were answered well."""
    clients = [await asyncio.open_connection("127.0.0.1", router.port) for _ in range(_HERD)]
    body = json.dumps({"model": "cold", "content": "x"}).encode()
    head = (
        f"POST /tokenize HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\ncontent-length: {len(body)}"
    )
    for _, writer in clients:
        writer.write(head.encode() + b"\r\n\r\n" + body)
    good = 0
    for reader, writer in clients:
        async with asyncio.timeout(_PATIENCE):
            good += (await reader.readline()).split()[1] == b"200"
        writer.transport.abort()
    return good
