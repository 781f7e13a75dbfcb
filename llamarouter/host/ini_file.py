"""Reads a file of sections and keys: a preset, or llama.cpp's own `config.ini`."""

from __future__ import annotations

from pathlib import Path

from llamarouter.core.ini import Ini, parse_ini


class UnreadableIni(Exception):
    """Why the file cannot be read, or is no text."""


def read_ini(path: str) -> Ini:
    """The sections of the file. Raises `UnreadableIni`."""
    try:
        data = Path(path).read_bytes()
    except OSError as error:
        raise UnreadableIni(error.strerror or str(error)) from error
    try:
        return parse_ini(data.decode(), path)
    except UnicodeDecodeError as error:
        line = len(data[: error.start + 1].splitlines())
        raise UnreadableIni(f"line {line} is not UTF-8 text") from error
