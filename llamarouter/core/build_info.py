"""A build of llama.cpp in the one word that its programs say: `b11434-c0ffee1`."""

from __future__ import annotations

import re

_SAID = re.compile(r"\(build (\d+), commit (\w+)\)")  # as `llama-server --version` says it
_NUMBER = re.compile(r"\d+")


def build_info_of(build: str) -> str:
    """`0.6.0-dev (build 11434, commit unknown)` -> `b11434-unknown`, `11549 (xllamacpp ...)` -> `b11549`."""
    if (said := _SAID.search(build)) is not None:
        return f"b{said[1]}-{said[2]}"
    number = _NUMBER.match(build)
    return f"b{number[0] if number else 0}"
