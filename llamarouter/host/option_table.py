"""What a llama-server binary says of itself: its `--help` and `--version`, asked once and remembered.

    command -> cached under its files' path, size and mtime? -> Words
            -> else run it, 10 s each at most              -> Words, cached

Where one of the files is a script, the binary is somewhere behind it and may be another one tomorrow: then `--version`
is asked each time, and another answer means that the cache is of another binary.

The options of a build are those that its own `--help` lists; `core.flags.OptionTable` reads the text. The cache is
one file per command in the state folder; one that cannot be read or written costs a second run and nothing else.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

import msgspec

from llamarouter.host.state import state_dir, write_atomically

_SECONDS = 10.0
# A bad value in one of these ends even `--help`; and the text must not depend on who asks.
_HIDDEN_ENVIRONMENT = ("LLAMA_", "LR_", "HF_", "AIP_")


class EngineProblem(Exception):
    """The binary cannot be used, in one line that begins with what is wrong."""


class Words(msgspec.Struct, frozen=True):
    """What one command printed, and of which files: (path, bytes, mtime in ns) each."""

    files: tuple[tuple[str, int, int], ...]
    help: str
    version: str


def words_of(command: Sequence[str], files: Sequence[str], environ: Mapping[str, str]) -> Words:
    """The help and version texts of `command`, which consists of `files` (the binary first).

    Raises EngineProblem for what is not there, cannot be run, takes too long or is no llama-server.
    """
    stamps = tuple(_stamp_of(file) for file in files)
    name = hashlib.sha256("\0".join(command).encode()).hexdigest()[:16]
    cache = state_dir(environ) / "engines" / f"{name}.json"
    cached = _read(cache)
    version = None
    if cached is not None and cached.files == stamps:
        version = output_of(command, "--version", environ) if any(map(_is_script, files)) else cached.version
        if version == cached.version:
            return cached
    help_text = output_of(command, "--help", environ)
    if "--model" not in help_text:
        raise EngineProblem(f"not a llama-server: its --help knows no --model: {files[0]}")
    words = Words(stamps, help_text, version if version is not None else output_of(command, "--version", environ))
    with contextlib.suppress(OSError):
        write_atomically(cache, msgspec.json.encode(words))
    return words


def output_of(command: Sequence[str], option: str, environ: Mapping[str, str]) -> str:
    """All that `command option` prints (to stdout, else to stderr). Raises EngineProblem."""
    clean = {name: value for name, value in environ.items() if not name.startswith(_HIDDEN_ENVIRONMENT)}
    try:
        result = subprocess.run(
            [*command, option],
            env=clean,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=_SECONDS,
        )
    except subprocess.TimeoutExpired:
        raise EngineProblem(f"no answer to {option} within {_SECONDS:.0f} s: {command[-1]}") from None
    except OSError as error:
        raise EngineProblem(f"cannot be run ({error.strerror}): {error.filename or command[0]}") from error
    if result.returncode != 0:
        last = next(reversed(result.stderr.split("\n")[-2:-1]), "") or f"exit code {result.returncode}"
        raise EngineProblem(f"{option} failed ({last.strip()[:200]}): {command[-1]}")
    return result.stdout or result.stderr


def _stamp_of(file: str) -> tuple[str, int, int]:
    try:
        status = os.stat(file)
    except OSError as error:
        raise EngineProblem(f"cannot be read ({error.strerror}): {file}") from error
    return file, status.st_size, status.st_mtime_ns


def _is_script(file: str) -> bool:
    try:
        with open(file, "rb") as opened:
            return opened.read(2) == b"#!"
    except OSError:
        return False


def _read(cache: Path) -> Words | None:
    try:
        return msgspec.json.decode(cache.read_bytes(), type=Words)
    except (OSError, msgspec.DecodeError, msgspec.ValidationError):
        return None
