"""Which llama-server runs, and why that one.

    named (a section's `lr-engine`, `--engine`, LR_ENGINE)    -> that one, or a UsageError
    else the first that is there and runs, of
      bin/llama-server of this checkout | bin/llama-server of the data folder | llama-server on PATH | embedded
    none -> one UsageError with the ways to have one

A named engine is a command: a prefix is allowed (`numactl --membind 0 llama-server`), the last word is the binary; the
word `embedded` alone means the `xllamacpp` wheel. What an engine can do is read off its own `--help`.
"""

from __future__ import annotations

import enum
import importlib.util
import os
import shlex
import shutil
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from msgspec import Struct

from llamarouter.core.errors import UsageError
from llamarouter.core.flags import OptionTable
from llamarouter.host.option_table import EngineProblem, output_of, words_of

BINARY = "llama-server"
EMBEDDED = "embedded"
_EMBEDDED_COMMAND = (sys.executable, "-m", "llamarouter.host.embedded")
_WAYS = (
    "no engine: there is no llama-server on this machine. Ways to have one: "
    "`lr engine build` (or scripts/build-llama-server) compiles it; put a llama-server on PATH; "
    "name one with --engine PATH or LR_ENGINE; `pip install 'llamarouter[embedded]'` for a first try on the CPU"
)


class EngineKind(enum.Enum):
    COMPILED = "compiled"
    EMBEDDED = "embedded"


@dataclass(frozen=True, slots=True, kw_only=True)
class Engine:
    """A llama-server that runs. `command`: all but its options; `origin`: why this one, for people."""

    command: tuple[str, ...]
    kind: EngineKind
    origin: str
    build: str
    unix_socket: bool  # it listens on `--host X.sock`
    state_lines: bool  # it reports `loading`, `ready` ... on stdout and reads an exit line
    table: OptionTable = field(repr=False)
    help_text: str = field(repr=False)
    files: tuple[str, ...] = ()  # whose change makes it another engine


class Candidate(Struct, frozen=True, kw_only=True):
    """A place where an engine may be. `problem`: why it is not taken; `command`: empty where nothing is there."""

    origin: str
    command: tuple[str, ...] = ()
    files: tuple[str, ...] = ()  # whose change makes it another engine
    problem: str | None = None

    @property
    def kind(self) -> EngineKind:
        return EngineKind.EMBEDDED if self.command == _EMBEDDED_COMMAND else EngineKind.COMPILED


def resolve_engine(
    wanted: tuple[str, ...] | None,
    environ: Mapping[str, str],
    *,
    checkout: str | None,
    data_dir: str,
    named_by: str = "--engine",
) -> Engine:
    """The engine to run. `wanted`: the command that somebody named, `named_by` by what (for messages).

    Runs the binary (`--help`, `--version`: 10 s each at most) unless the state folder remembers it. Raises UsageError.
    """
    text = environ.get("LR_ENGINE", "").strip()
    from_environment = command_of(text, "LR_ENGINE") if text else None
    if wanted is None:
        wanted = from_environment
    if wanted == from_environment and named_by == "--engine":
        named_by = "LR_ENGINE"  # whoever reads the command line may have taken it from there already
    if wanted is not None:
        candidate = named(wanted, environ, named_by)
        try:
            return _engine_of(candidate, environ, "")
        except EngineProblem as problem:
            raise UsageError(f"{named_by}: {problem}") from problem
    passed_over = ""
    for candidate in candidates(environ, checkout=checkout, data_dir=data_dir):
        if candidate.problem is not None:
            continue
        try:
            return _engine_of(candidate, environ, passed_over)
        except EngineProblem as problem:
            passed_over += f"; not {candidate.origin}: {problem}"
    raise UsageError(_WAYS + passed_over)


def renewed(engine: Engine, environ: Mapping[str, str]) -> Engine:
    """What lies where this engine lay. Raises `EngineProblem` where that does not run."""
    return _engine_of(Candidate(origin=engine.origin, command=engine.command, files=engine.files), environ, "")


def command_of(text: str, named_by: str) -> tuple[str, ...]:
    """The words of an engine written as one text. Raises UsageError for quotes that do not close."""
    try:
        return tuple(shlex.split(text))
    except ValueError as error:
        raise UsageError(f"{named_by}: {error}: {text}") from error


def named(wanted: tuple[str, ...], environ: Mapping[str, str], named_by: str) -> Candidate:
    """The command that somebody named, its words looked up on PATH. Raises UsageError for what is not there."""
    if not wanted:
        raise UsageError(f"{named_by}: an empty command; it takes a llama-server, perhaps behind a prefix")
    if wanted == (EMBEDDED,):
        candidate = _embedded(f"named by {named_by}")
        if candidate.problem is not None:
            raise UsageError(f"{named_by}: {candidate.problem}")
        return candidate
    binary = _program(wanted[-1], environ, named_by)
    if len(wanted) == 1:
        return Candidate(origin=f"named by {named_by}", command=(binary,), files=_files_of(binary))
    prefix = _program(wanted[0], environ, named_by)
    command = (prefix, *wanted[1:-1], binary)
    return Candidate(origin=f"named by {named_by}", command=command, files=(*_files_of(binary), prefix))


def _program(word: str, environ: Mapping[str, str], named_by: str) -> str:
    place = os.path.expanduser(word)
    found = shutil.which(place, path=environ.get("PATH", os.defpath))
    if found is None:
        what = "not executable" if os.path.exists(place) else "no such program"
        raise UsageError(f"{named_by}: {what}: {word} (an engine is a llama-server, perhaps behind a prefix)")
    return os.path.abspath(found)


def candidates(environ: Mapping[str, str], *, checkout: str | None, data_dir: str) -> Iterator[Candidate]:
    """The places to look at, best first, when nobody has named an engine."""
    if checkout is not None:
        yield _binary(os.path.join(checkout, "bin", BINARY), "bin/llama-server of this checkout")
    yield _binary(os.path.join(data_dir, "bin", BINARY), "llama-server of the data folder")
    on_path = shutil.which(BINARY, path=environ.get("PATH", os.defpath))
    if on_path is None:
        yield Candidate(origin="llama-server on PATH", problem="there is none")
    else:
        yield _binary(os.path.abspath(on_path), "llama-server on PATH")
    yield _embedded("the embedded engine (xllamacpp), as there is no compiled llama-server")


def checkout_of() -> str | None:
    """The folder of the checkout that this package runs from; None if it was installed."""
    root = Path(__file__).resolve().parents[2]
    return str(root) if (root / "scripts" / "build-llama-server").is_file() else None


def devices_of(engine: Engine, environ: Mapping[str, str]) -> list[str]:
    """What `--list-devices` names, a line each; empty where the engine computes on the CPU alone. Raises UsageError."""
    try:
        text = output_of(engine.command, "--list-devices", environ)
    except EngineProblem as problem:
        raise UsageError(str(problem)) from problem
    lines = text.partition("Available devices:")[2].splitlines()
    return [line.strip() for line in lines if ":" in line]


def backends_of(devices: list[str]) -> list[str]:
    """The backends that devices stand for: `CUDA0: NVIDIA ...` is CUDA; the CPU is always there."""
    return [*dict.fromkeys(device.partition(":")[0].rstrip("0123456789") for device in devices), "CPU"]


def _binary(path: str, origin: str) -> Candidate:
    problem = None
    if not os.path.exists(path):
        problem = "there is none"
    elif not os.access(path, os.X_OK):
        problem = f"not executable: {path}"
    return Candidate(origin=origin, command=(path,), files=_files_of(path), problem=problem)


def _files_of(binary: str) -> tuple[str, ...]:
    """A binary, and the libraries that a build puts beside it: its options may be in one of those."""
    beside = Path(os.path.realpath(binary)).parent.glob("lib*.so*")
    return (binary, *sorted(str(file) for file in beside if file.is_file()))


def _embedded(origin: str) -> Candidate:
    # Looked for, not imported: the import costs 30 ms and belongs into the child.
    spec = importlib.util.find_spec("xllamacpp")
    if spec is None or not spec.submodule_search_locations:
        return Candidate(origin=origin, problem="xllamacpp is not installed (pip install 'llamarouter[embedded]')")
    folder = Path(spec.submodule_search_locations[0])
    files = (*sorted(map(str, folder.glob("xllamacpp*.so"))), *_own_files())
    return Candidate(origin=origin, command=_EMBEDDED_COMMAND, files=files)


def _own_files() -> tuple[str, ...]:
    folder = Path(__file__).parent
    return tuple(str(file) for file in sorted(folder.glob("embedded*.py")))


def _engine_of(candidate: Candidate, environ: Mapping[str, str], passed_over: str) -> Engine:
    words = words_of(candidate.command, candidate.files, environ)
    table = OptionTable.parse(words.help)
    host = table.find("--host")
    embedded = candidate.kind is EngineKind.EMBEDDED
    return Engine(
        command=candidate.command,
        kind=candidate.kind,
        origin=candidate.origin + passed_over,
        build=_build_of(words.version),
        unix_socket=host is not None and ".sock" in host.option.help,
        # A build that can be a router knows how to be a router's child.
        state_lines=embedded or table.find("--models-dir") is not None,
        table=table,
        help_text=words.help,
        files=candidate.files,
    )


def _build_of(version_text: str) -> str:
    for line in version_text.splitlines():
        if line.startswith("version:"):
            return line.removeprefix("version:").strip()
    return "unknown"
