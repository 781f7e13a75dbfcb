"""Asking the engine's own arithmetic: `llama-fit-params` beside llama-server, which reads headers and no weights.

    engine -> the program beside it, with its options -> run it, with a time-out -> what it printed

It takes about 0.2 s. Where it is missing, fails or hangs there is a reason in one line, and somebody else is asked.
Runs in a thread: nothing here knows of the event loop.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from llamarouter.core.flags import OptionTable
from llamarouter.host.child_environment import child_environment
from llamarouter.host.child_process import pdeathsig_of
from llamarouter.host.engine import Engine, EngineKind
from llamarouter.host.option_table import EngineProblem, words_of

PROGRAM = "llama-fit-params"
SECONDS = 10.0  # the first program that touches a GPU waits for its driver
_PRINT = "--fit-print"
_LAST_OF_ALL = ("nice", "-n", "15")  # a thirtieth of what each thread of a busy model gets


class FitProblem(Exception):
    """It cannot be asked, or does not answer. One line."""


@dataclass(frozen=True, slots=True)
class FitProgram:
    """A llama-fit-params that can print."""

    command: tuple[str, ...]  # all but its options
    stamp: tuple[int, int]  # bytes and mtime in ns: of another stamp, it is another program
    table: OptionTable = field(repr=False)


def fit_program_of(engine: Engine, environ: Mapping[str, str]) -> FitProgram:
    """The program that belongs to an engine. Raises FitProblem."""
    if engine.kind is EngineKind.EMBEDDED:
        raise FitProblem(f"the embedded engine has no {PROGRAM}")
    *prefix, server = engine.command
    places = dict.fromkeys(os.path.dirname(path) for path in (server, os.path.realpath(server)))
    path = next((os.path.join(place, PROGRAM) for place in places if _is_there(os.path.join(place, PROGRAM))), None)
    if path is None:
        raise FitProblem(f"there is no {PROGRAM} beside {server}")
    try:
        status = os.stat(path)
        table = OptionTable.parse(words_of((path,), (path,), environ).help)
    except (EngineProblem, OSError) as error:
        raise FitProblem(f"{PROGRAM}: {error}") from error
    if table.find(_PRINT) is None:
        raise FitProblem(f"this {PROGRAM} cannot print what is needed: {path}")
    # A prefix such as `numactl` may hide devices or memory from the server: it holds for this program, too.
    return FitProgram((*prefix, path), (status.st_size, status.st_mtime_ns), table)


def run_fit(
    program: FitProgram,
    arguments: Sequence[str],
    environ: Mapping[str, str],
    own: Mapping[str, str],
    *,
    seconds: float = SECONDS,
    leisurely: bool = False,
) -> str:
    """What it prints. `own`: what the model has in its environment besides. Raises FitProblem; it is gone then.

    `leisurely`: nobody waits for it; it takes what CPU the models leave, and twice as long if it has to.
    """
    option = program.table.find("--fit")
    off = (option.option.canonical, "off") if option is not None and option.option.arity == 1 else ()
    command = [*program.command, *arguments, *off, _PRINT, "on"]
    if leisurely:
        command = [*_LAST_OF_ALL, *command]
        seconds *= 2
    try:
        result = subprocess.run(
            [*pdeathsig_of(sys.platform), *command],
            env={**child_environment(environ), **own},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=seconds,
        )
    except subprocess.TimeoutExpired:
        raise FitProblem(f"{PROGRAM} did not answer within {seconds:g} s") from None
    except (OSError, ValueError) as error:
        raise FitProblem(f"{PROGRAM} cannot be run: {error}") from error
    if result.returncode != 0:
        raise FitProblem(f"{PROGRAM} failed: {_last_words(result.stderr) or f'code {result.returncode}'}")
    return result.stdout


def _is_there(path: str) -> bool:
    return os.path.isfile(path) and os.access(path, os.X_OK)


def _last_words(text: str) -> str:
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return lines[-1][:200] if lines else ""
