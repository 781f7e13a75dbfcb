"""Texts for clients: where files lie on this machine is not for them, only what they are called.

Too much is cut rather than too little: an id such as `maker/model` stays, what could be a path does not.
"""

from __future__ import annotations

import re

# A file whose name, or whose folder's, has blanks shows where it ends by one of these.
_ENDING = re.compile(r"\.(?:gguf|jinja|json|gbnf|bin|txt|log|ini|toml|sock|safetensors|so(?:\.\d+)*)(?!\w)")
_DELIMITERS = re.compile(r"(['\":,\n])")
_QUOTED = re.compile(r"(?P<quote>['\"])(?:~|\.\.?)?/(?:[^'\"/]*/)*([^'\"/]*)(?P=quote)")
_START = r"(?<![\w/.~])(?:~|\.\.?)?/(?!/)"
_BEGINNING = re.compile(_START)
_PATH = re.compile(rf"{_START}(?:[^\s'\"/:,]+/)*([^\s'\"/:,)]+)")
_RELATIVE = re.compile(r"(?<![\w/.:@-])(?:[\w.@+-]+/)+([^\s'\"/:,]+\.gguf)(?!\w)")


def without_paths(line: str) -> str:
    """The line with every path cut down to the name of its file."""
    line = _QUOTED.sub(r"'\2'", line.replace("file://", ""))
    line = "".join(map(_without_blanks, _DELIMITERS.split(line)))
    return _RELATIVE.sub(r"\1", _PATH.sub(r"\1", line))


def _without_blanks(piece: str) -> str:
    """A piece of a line without the path in it that ends like a file, from where the first one begins."""
    ends = [found.start() for found in _ENDING.finditer(piece)]
    start = _BEGINNING.search(piece, 0, ends[-1]) if ends else None
    return piece if start is None else piece[: start.start()] + piece[piece.rindex("/", 0, ends[-1]) + 1 :]
