"""What a fetch from the Hub tells about itself, as one JSON object a line: `{"event":"planned",...}`.

    Planned --> (Progressed | Noted)* --> Fetched | Failed          Failed may come first

The process that fetches writes them, the router and `lr pull` read them. Sizes are bytes.
"""

from __future__ import annotations

import msgspec


class PlannedFile(msgspec.Struct, frozen=True):
    """One file of the plan. `have`: bytes of it that are here already, from an earlier try."""

    path: str  # in the repository
    url: str
    size: int
    have: int = 0
    cached: bool = False  # whole and in its place: nothing to do


class Planned(msgspec.Struct, frozen=True, tag_field="event", tag="planned"):
    """What will be fetched, into which cache."""

    id: str  # as the model will be listed
    repo: str
    commit: str
    cache: str
    files: list[PlannedFile]
    free: int  # bytes free on the cache's disk

    @property
    def size(self) -> int:
        return sum(file.size for file in self.files)

    @property
    def missing(self) -> int:
        """Bytes that are still to come over the wire."""
        return sum(file.size - file.have for file in self.files if not file.cached)


class Progressed(msgspec.Struct, frozen=True, tag_field="event", tag="progressed"):
    """`done` of `total` bytes of a file are here."""

    path: str
    url: str
    done: int
    total: int


class Noted(msgspec.Struct, frozen=True, tag_field="event", tag="noted"):
    """Something that a person who watches would want to know: a reconnection, a wait for another fetch."""

    message: str
    path: str | None = None


class Fetched(msgspec.Struct, frozen=True, tag_field="event", tag="fetched"):
    """All files are here, whole and verified; `files` are their paths on this machine."""

    id: str
    repo: str
    commit: str
    files: list[str]


class Failed(msgspec.Struct, frozen=True, tag_field="event", tag="failed"):
    """It did not work. `reason` is one of `EXIT_CODES`, `message` one line for people."""

    reason: str
    message: str


FetchEvent = Planned | Progressed | Noted | Fetched | Failed

# What `lr pull` and the fetching process end with, by the reason of a failure.
EXIT_CODES = {
    "internal_error": 1,
    "bad_request": 2,
    "not_writable": 2,
    "not_found": 3,
    "unauthorized": 4,
    "gated": 4,
    "insufficient_storage": 5,
    "wrong_content": 6,
    "offline": 7,
    "network": 7,
    "interrupted": 130,
}

_decoder: msgspec.json.Decoder[FetchEvent] = msgspec.json.Decoder(FetchEvent)


def encode_event(event: FetchEvent) -> bytes:
    """One line, with its end."""
    return msgspec.json.encode(event) + b"\n"


def decode_event(line: bytes) -> FetchEvent:
    """Raises `msgspec.DecodeError` for a line that is no event."""
    return _decoder.decode(line)


class FetchError(Exception):
    """A fetch that cannot go on: `reason` and `message` as in `Failed`."""

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason
        self.message = message
