"""What is estimated beside what is taken: three figures for each shape, and four for a model that runs.

python -m tests.estimates [MODEL.gguf ...]       (scripts/compare-estimates)

header     the formula (`core.coarse`)
engine     llama-fit-params, with what a server does differently (`core.fit_output`)
rehearsal  what llama-server itself reckons for its own `--fit`, with all its options: it ends there, as the memory
           that it may map is limited, so that no weight is read
process    PSS of a llama-server that has answered a prompt: weights that it has touched, its cache (which it clears
           at the start), its compute buffer, its program
"""

from __future__ import annotations

import asyncio
import http.client
import json
import os
import re
import shlex
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from llamarouter.core.asked import MIB
from llamarouter.core.coarse import coarse_footprint
from llamarouter.core.footprint import HOST, Footprint, Parts
from llamarouter.host.engine import Engine
from llamarouter.host.estimator import Estimator
from llamarouter.host.footprint_cache import FootprintCache
from llamarouter.host.inventory import engine_for
from tests import further_shapes, real_shapes
from tests.launches import asked_in, launch_of, shape_in
from tests.tiers import ENGINE as SERVER

ROWS: list[tuple[Callable[[Path], Path], str]] = [
    (real_shapes.llama3_8b, "-c 8192"),
    (real_shapes.llama3_8b, "-c 16384 -np 4"),
    (real_shapes.llama3_8b, "-c 8192 -ctk q8_0 -ctv q8_0"),
    (real_shapes.llama3_8b, "-c 4096 -fa off -np 2 -kvu"),
    (real_shapes.llama3_70b, "-c 8192"),
    (real_shapes.llama3_70b, "-c 32768 -np 1 -ub 2048"),
    (real_shapes.qwen3_235b, "-c 8192"),
    (real_shapes.gemma3_27b, "-c 8192"),
    (real_shapes.gemma3_27b, "-c 32768 -np 1 -ctk q8_0 -ctv q8_0"),
    (real_shapes.gemma3_27b, "-c 16384 --swa-full -np 2"),
    (real_shapes.deepseek_v3, "-c 8192"),
    (real_shapes.deepseek_v3, "-c 8192 -ctk q8_0 -ctv q8_0"),
    (real_shapes.mamba_2b, "-c 8192"),
    (real_shapes.lfm2_1b, "-c 8192"),
    (further_shapes.gpt_oss_120b, "-c 8192"),
    (further_shapes.phi3_medium, "-c 8192 -ub 1024"),
    (further_shapes.qwen3_next_80b, "-c 8192"),
    (further_shapes.qwen3_next_80b, "-c 8192 -np 1 -ctk q8_0 -ctv q8_0"),
    (further_shapes.granite_4_small, "-c 16384 -np 4"),
]
# Address space for a rehearsal: enough for its program, and for no weights. States are allocated even then.
_ADDRESS_KIB = 400_000
_ADDRESS_KIB_WITH_STATES = 1_500_000
_WITH_STATES = (further_shapes.qwen3_next_80b, further_shapes.granite_4_small)
_HOST_LINE = re.compile(r"- (Host|CPU_\w+) +\| +(\d+) = +(\d+) \+ +(\d+) \+ +(\d+)")
_PROMPT_TOKENS = 520  # more than one batch
_OF_PROGRAMS = ("PATH", "LD_LIBRARY_PATH", "CUDA_VISIBLE_DEVICES", "CUDA_DEVICE_ORDER")


@dataclass(frozen=True, slots=True)
class Row:
    """One shape under some flags. Bytes."""

    name: str
    flags: str
    header: Parts
    engine: Parts
    rehearsal: Parts


def without_program(parts: Parts) -> Parts:
    """The buffers alone, as an engine reckons: without the program and its vocabulary."""
    return Parts(weights=parts.weights, kv=parts.kv, compute=parts.compute)


def row_of(shape: Callable[[Path], Path], flags: str, folder: Path) -> Row:
    path = shape(folder / f"{shape.__name__}.gguf")
    engine = engine_for((str(SERVER),), environ_in(folder))
    header = coarse_footprint(shape_in(path), asked_in(f"-m {path} {flags}", engine.table))
    asked = estimate(path, flags, engine, folder)
    assert asked.doubts == (), asked.doubts
    room = _ADDRESS_KIB_WITH_STATES if shape in _WITH_STATES else _ADDRESS_KIB
    reckoned = rehearsal(path, flags, folder, room)
    return Row(shape.__name__, flags, header.needs[HOST], without_program(asked.needs[HOST]), reckoned)


def environ_in(folder: Path) -> dict[str, str]:
    """An environment with no settings in it, and with what a program needs to find a GPU."""
    kept = {name: value for name in _OF_PROGRAMS if (value := os.environ.get(name)) is not None}
    return {"PATH": os.defpath, **kept, "HOME": str(folder)}


def estimate(path: Path, flags: str, engine: Engine, folder: Path) -> Footprint:
    estimator = Estimator(environ_in(folder), FootprintCache(None))
    return asyncio.run(estimator.footprint_of(launch_of(f"-m {path} {flags}", engine.table), engine))


def rehearsal(path: Path, flags: str, folder: Path, address_kib: int) -> Parts:
    """What llama-server reckons before it loads; it never gets further."""
    command = [str(SERVER), "-m", str(path), "--host", str(folder / "rehearsal.sock"), "-v", "--fit", "on"]
    limited = f"ulimit -v {address_kib}; exec {shlex.join(command)} {flags}"
    done = subprocess.run(
        ["bash", "-c", limited], env=environ_in(folder), stdin=subprocess.DEVNULL, capture_output=True, text=True
    )
    (folder / "rehearsal.sock").unlink(missing_ok=True)
    lines = _HOST_LINE.findall(done.stderr + done.stdout)
    assert lines, done.stderr[-2000:]
    # Weights that are laid out anew have a line of their own. Each figure is rounded down.
    weights, kv, compute = (sum(int(line[column]) for line in lines) * MIB for column in (2, 3, 4))
    return Parts(weights=weights, kv=kv, compute=compute)


@contextmanager
def running(
    path: Path, flags: str, folder: Path, server: Path = SERVER, seconds: float = 60.0
) -> Iterator[tuple[int, str]]:
    """A llama-server that has loaded, within so many seconds: its process id, and its socket."""
    listen = str(folder / "s.sock")
    with (folder / "server.log").open("wb") as log:
        process = subprocess.Popen(
            [str(server), "-m", str(path), "--host", listen, *shlex.split(flags)],
            env=environ_in(folder),
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
        )
    try:
        end = time.monotonic() + seconds
        while not _is_healthy(listen):
            assert process.poll() is None
            assert time.monotonic() < end, (folder / "server.log").read_text()[-2000:]
        yield process.pid, listen
    finally:
        process.kill()
        process.wait()
        Path(listen).unlink(missing_ok=True)


def post(listen: str, method: str, path: str, body: object = None, seconds: float = 300.0) -> tuple[int, object]:
    connection = http.client.HTTPConnection("localhost")
    connection.sock = socket.socket(socket.AF_UNIX)
    try:
        connection.sock.settimeout(seconds)
        connection.sock.connect(listen)
        connection.request(method, path, None if body is None else json.dumps(body))
        answer = connection.getresponse()
        return answer.status, json.loads(answer.read())
    finally:
        connection.close()


def _is_healthy(listen: str) -> bool:
    try:
        return post(listen, "GET", "/health", seconds=1.0)[0] == 200
    except (OSError, http.client.HTTPException):
        return False


def taken_after_a_prompt(path: Path, flags: str, folder: Path) -> tuple[int, int]:
    """What is resident once it is loaded, and once it has answered a long prompt."""
    with running(path, flags, folder) as (pid, listen):
        loaded = resident_of(pid)
        prompted(listen)
        return loaded, resident_of(pid)


def prompted(listen: str) -> None:
    """Have it answer a long prompt, in tokens."""
    tokens = [5 + index % 200 for index in range(_PROMPT_TOKENS)]
    status, answer = post(listen, "POST", "/completion", {"prompt": tokens, "n_predict": 4})
    assert status == 200, answer


def resident_of(pid: int) -> int:
    # Not its share (Pss): how many run the same binary at this moment is nothing that can be estimated.
    text = Path(f"/proc/{pid}/smaps_rollup").read_text()
    return int(re.findall(r"^Rss: +(\d+) kB", text, re.MULTILINE)[0]) * 1024


def off(estimated: int, real: int) -> str:
    return f"{100 * (estimated / real - 1):+5.1f}%"


def lines(models: list[str], folder: Path) -> Iterator[str]:
    yield f"{'MiB':54} {'header':>9} {'engine':>9} {'rehearsal':>9}   off by"
    for shape, flags in ROWS:
        row = row_of(shape, flags, folder)
        totals = [parts.total for parts in (row.header, row.engine, row.rehearsal)]
        shown = " ".join(f"{total / MIB:9.0f}" for total in totals)
        yield f"{row.name:15} {flags:38} {shown}   {off(totals[0], totals[1])} {off(totals[1], totals[2])}"
    engine = engine_for((str(SERVER),), environ_in(folder))
    for model in models:
        for flags in ("-c 8192", "-c 4096 -np 1 -ctk q8_0 -ctv q8_0"):
            estimated = estimate(Path(model), flags, engine, folder).needs[HOST].total
            loaded, served = taken_after_a_prompt(Path(model), flags, folder)
            yield (
                f"{Path(model).name} {flags}: {estimated / MIB:.0f} estimated; PSS {loaded / MIB:.0f} when loaded"
                f" ({off(estimated, loaded)}), {served / MIB:.0f} after a prompt ({off(estimated, served)})"
            )


def main(models: list[str]) -> int:
    with tempfile.TemporaryDirectory() as name:
        for line in lines(models, Path(name)):
            sys.stdout.write(f"{line}\n")
            sys.stdout.flush()
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
