"""One load: wrk against one candidate, and the CPU time that its router took meanwhile."""

from __future__ import annotations

import json
import re
import subprocess
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass

from bench.candidates import Candidate
from bench.process import cpu_of, kernel_of

_UNITS = {"us": 1.0, "ms": 1e3, "s": 1e6, "m": 60e6}


@dataclass(frozen=True, slots=True)
class Load:
    """What is sent: `tokens` is how many tokens each answer streams (0: it does not stream)."""

    name: str
    path: str
    body: Mapping[str, object]
    connections: int
    tokens: int = 0


@dataclass(frozen=True, slots=True)
class Figure:
    """What was measured in one run. Times are microseconds."""

    requests: int
    per_second: float
    p50: float
    p99: float
    cpu: float  # of the router, for each request; 0.0 where there is none
    kernel: float  # that part of it which the kernel took
    failed: int
    longest: float  # answer of all


def run(candidate: Candidate, load: Load, seconds: int) -> Figure:
    """Put the load on the candidate for some seconds."""
    lua = (
        'wrk.method = "POST"\n'
        f"wrk.body = {json.dumps(json.dumps(load.body))}\n"
        'wrk.headers["Content-Type"] = "application/json"\n'
    )
    if candidate.key is not None:
        lua += f'wrk.headers["X-Api-Key"] = "{candidate.key}"\n'
    with tempfile.NamedTemporaryFile("w", suffix=".lua") as script:
        script.write(lua)
        script.flush()
        before = _spent(candidate.pid)
        how = ["-t1", f"-c{load.connections}", f"-d{seconds}s", "--latency", "--timeout", "30s", "-s", script.name]
        output = subprocess.run(
            ["wrk", *how, candidate.url + load.path],
            check=True,
            capture_output=True,
            text=True,
        ).stdout
        after = _spent(candidate.pid)
    return figure_of(output, after[0] - before[0], after[1] - before[1])


def _spent(pid: int | None) -> tuple[float, float]:
    return (0.0, 0.0) if pid is None else (cpu_of(pid), kernel_of(pid))


def figure_of(output: str, cpu: float, kernel: float) -> Figure:
    """What wrk has said; `cpu`: seconds that the router took meanwhile, `kernel`: those of them in the kernel."""
    requests = int(_one(r"(\d+) requests in", output))
    return Figure(
        requests=requests,
        per_second=float(_one(r"Requests/sec:\s+([\d.]+)", output)),
        p50=_latency(output, "50"),
        p99=_latency(output, "99"),
        cpu=cpu * 1e6 / max(1, requests),
        kernel=kernel * 1e6 / max(1, requests),
        failed=_failed(output),
        longest=_longest(output),
    )


def _one(pattern: str, text: str) -> str:
    found = re.search(pattern, text)
    if found is None:
        raise SystemExit(f"bench: wrk said something else than expected:\n{text}")
    return found[1]


def _latency(output: str, percent: str) -> float:
    found = re.search(rf"^\s+{percent}%\s+([\d.]+)(us|ms|s|m)$", output, re.MULTILINE)
    return float(found[1]) * _UNITS[found[2]] if found else 0.0


def _longest(output: str) -> float:
    found = re.search(r"^\s+Latency\s+\S+\s+\S+\s+([\d.]+)(us|ms|s|m)\s", output, re.MULTILINE)
    return float(found[1]) * _UNITS[found[2]] if found else 0.0


def _failed(output: str) -> int:
    errors = re.search(r"Non-2xx or 3xx responses: (\d+)", output)
    socket_errors = re.search(r"connect (\d+), read (\d+), write (\d+), timeout (\d+)", output)
    failed = int(errors[1]) if errors else 0
    return failed + (sum(int(each) for each in socket_errors.groups()) if socket_errors else 0)
