"""What a llama-server says on stdout and hears on stdin when it runs under a router.

One line each way is all: `cmd_child_to_router:state:{"state": ..., "payload": {...}}` from the child, an exit line
to it. Both are upstream's own words (`tools/server/server-models.cpp`, build b11434) and undocumented, so whatever
else comes on stdout, or in such a line, is nobody's error: it is returned as plain text for the log.
"""

from __future__ import annotations

from collections.abc import Mapping

import msgspec
from msgspec import Struct

# Where a child listens: the path of a UNIX socket, or a host and a port.
Address = str | tuple[str, int]

ROUTER_VARIABLE = "LLAMA_SERVER_ROUTER_PORT"  # its presence makes llama-server a child; its value is not used
EXIT_LINE = b"cmd_router_to_child:exit\n"

STATES = frozenset(("loading", "ready", "sleeping", "downloading"))
_STATE = b"cmd_child_to_router:state:"
_LINE_LIMIT = 1 << 20  # bytes; upstream's own limit for such a line


class LoadProgress(Struct, frozen=True):
    """How far a load is: `value` runs from 0.0 to 1.0 within the stage `current`, one of `stages`."""

    stages: tuple[str, ...]
    current: str
    value: float


class StateLine(Struct, frozen=True):
    """One state line: its word is one of `STATES`, or one that a later build may invent."""

    state: str
    payload: Mapping[str, object]


class _Wire(msgspec.Struct):
    state: str
    payload: dict[str, object] | None = None  # null where there is nothing to say, as on falling asleep


class _LoadingWire(msgspec.Struct):
    stages: list[str] = []
    current: str = ""
    value: float = 0.0
    stage: str = ""  # instead of the others, where the projector of images begins to load


def parse_state(line: bytes) -> StateLine | None:
    """The state line that `line` is; None if it is anything else."""
    if not line.startswith(_STATE):
        return None
    try:
        wire = msgspec.json.decode(line[len(_STATE) :], type=_Wire)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return None
    return StateLine(wire.state, wire.payload or {})


def progress_of(line: StateLine) -> LoadProgress | None:
    """The progress in a `loading` line; None if it has none that can be read."""
    if line.state != "loading":
        return None
    try:
        wire = msgspec.convert(line.payload, _LoadingWire)
    except msgspec.ValidationError:
        return None
    if wire.stage:
        return LoadProgress((wire.stage,), wire.stage, 0.0)
    return LoadProgress(tuple(wire.stages), wire.current, min(1.0, max(0.0, wire.value)))


def modalities_of(info: Mapping[str, object]) -> dict[str, list[str]]:
    """What the model object of a `ready` line says of its modalities; a value that is no list of words says nothing."""
    said = info.get("architecture")
    found = {}
    for key in ("input_modalities", "output_modalities"):
        words = said.get(key) if isinstance(said, dict) else None
        if isinstance(words, list) and all(isinstance(word, str) for word in words):
            found[key] = words
    return found


class StateLines:
    """Cuts what comes on stdout, in pieces of any size, into state lines and other lines."""

    def __init__(self) -> None:
        self._rest = b""
        self._skipping = False  # in a line that was too long already

    def feed(self, data: bytes) -> list[StateLine | bytes]:
        """What `data` completed, in order: state lines, and other lines without their newline."""
        *whole, rest = (self._rest + data).split(b"\n")
        if self._skipping and whole:
            whole, self._skipping = whole[1:], False
        if len(rest) > _LINE_LIMIT:
            self._skipping, rest = True, b""
        self._rest = b"" if self._skipping else rest
        return [parse_state(line) or line for line in whole if line]
