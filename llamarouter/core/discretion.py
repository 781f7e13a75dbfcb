"""What a model's process writes of what somebody asked it, and nobody else is to read: taken out of its log.

At its usual verbosity llama-server (b11434) writes no prompt and no answer, but for what went wrong with one: a grammar
that it cannot parse, a message that it does not understand, an answer that it cannot read (`common/chat.cpp`,
`common/sampling.cpp`, `src/llama-grammar.cpp`, `tools/server/server.cpp`). The words that say what happened stay.

With `--verbosity 5` it writes every request and answer, at level D. Who asks for that reads it in `lr logs`, from
memory; what is kept in a file, or told to a client, is without it.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator

WITHHELD = "(what was asked is not shown)"

# Behind these words a line, and those below it that belong to it, are somebody's.
_LEAKS = (
    "got exception: ",
    "error parsing grammar: ",
    "error initializing grammar sampler for grammar:",
    "unparsed ",  # answer
    "Invalid diff: ",
    "string not as expected: ",
    "last read: ",
    "downloading image from ",
    "loading image from local file ",
    "failed to apply template: ",
    "Tool call mismatch: ",
)
_LEAK = re.compile("|".join(re.escape(words) for words in _LEAKS))
_MARKS = tuple(words.encode() for words in _LEAKS)
_COLOUR = r"(?:\x1b\[[0-9;]*m)*"
_STAMP = rf"{_COLOUR}\d+\.\d\d\.\d{{3}}\.\d{{3}} "
_DEBUG = re.compile(rf"{_STAMP}{_COLOUR}D ")
# A line by itself: stamped by llama.cpp's log, a note of ours, or what comes from below that log as a process ends.
_BEGINS = re.compile(
    rf"{_STAMP}|--- |\S*\.(?:c|cc|cpp|cu|cuh|h|hpp|m):\d+: |ggml_|GGML_|(?:CUDA|ROCm|MUSA) error|terminate called"
    r"|  what\(\)|Segmentation|Aborted|(?:free|malloc|realloc|munmap_chunk)\(\): |double free|#\d+ |\[New LWP"
)


def may_tell(data: bytes) -> bool:
    """Whether there may be something to take out: most logs have nothing, and are not looked at line by line."""
    return any(data.find(mark) >= 0 for mark in _MARKS)


def discreet(lines: Iterable[str]) -> Iterator[str]:
    """The lines without what is somebody's; in its place stands that it is not shown."""
    return Discretion().of(lines)


def without_debug(lines: Iterable[str]) -> list[str]:
    """The lines without those of level D and what belongs to them."""
    kept = []
    hidden = False
    for line in lines:
        if _BEGINS.match(line):
            hidden = _DEBUG.match(line) is not None
        if not hidden:
            kept.append(line)
    return kept


class Discretion:
    """The same for lines that come by and by."""

    def __init__(self) -> None:
        self._below = False  # the lines that follow belong to one that told something

    def of(self, lines: Iterable[str]) -> Iterator[str]:
        for line in lines:
            if self._below and not _BEGINS.match(line):
                continue
            leak = _LEAK.search(line)
            self._below = leak is not None
            yield line if leak is None else line[: leak.end()].rstrip() + " " + WITHHELD
