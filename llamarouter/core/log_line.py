"""The lines of the router's log, in both forms: for people at a terminal, and JSON for everything else.

    {"type":"log","time":<us since 1970>,"level":"info","msg":"..."}     as llama-server's `--log-jsonl` writes it
    {"type":"model","time":...,"level":...,"msg":"...","model":...,"event":...}     something happened to a model
    {"type":"request","time":...,"level":...,"id":...,"status":...,...}     a request is over: `RequestLine`

The text of each can be had from its JSON again, so one form is kept and both can be shown.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence
from datetime import datetime
from typing import Any

import msgspec

from llamarouter.core.shown import harmless, one_line

_PLAIN = re.compile(r"[^\s\"=\\]+")
_LETTERS = {"debug": "D", "info": "I", "warn": "W", "error": "E"}
_ENCODER = msgspec.json.Encoder()


class RequestLine(msgspec.Struct, gc=False, tag_field="type", tag="request"):
    """One request that is over. Null is what there is none of, or what nobody knows."""

    time: int  # microseconds since 1970: of its end
    level: str
    id: str
    peer: str | None  # address and port of whoever is connected
    key: str | None  # the name of its key
    method: str
    route: str
    model: str | None
    status: int  # 0: there was no answer
    bytes_in: int
    bytes_out: int
    queue_ms: int
    load_ms: int
    first_byte_ms: int | None
    duration_ms: int
    prompt_tokens: int | None
    cached_tokens: int | None
    generated_tokens: int | None
    tokens_estimated: bool
    outcome: str
    reason: str | None


_DECODER = msgspec.json.Decoder(RequestLine)
_NUMBERS = tuple(
    name
    for name in RequestLine.__struct_fields__
    if name == "time" or name.startswith("bytes_") or name.endswith(("_ms", "_tokens"))
)


def json_of(lines: Sequence[RequestLine]) -> bytes:
    """The lines, each with its end."""
    return _ENCODER.encode_lines(lines)


def request_in(json: bytes) -> RequestLine:
    """The line of a request that was made JSON."""
    return _DECODER.decode(json)


def pattern_of(line: RequestLine, alike: Collection[str] = ()) -> bytes:
    """A pattern for `%` of the lines that differ from this one in their id and their numbers alone.

    It takes those that are not null here, in the order of the fields, but for the status and the fields that are
    `alike`. To fill it in costs a third of `json_of`.
    """
    numbers = {name: 0 for name in _NUMBERS if name not in alike and getattr(line, name) is not None}
    (text,) = json_of([msgspec.structs.replace(line, id="", **numbers)]).splitlines(keepends=True)
    text = text.replace(b"%", b"%%").replace(b',"id":"",', b',"id":"%b",')
    for name in numbers:  # no other text is like this: a quote within one is escaped
        text = text.replace(b',"%b":0,' % name.encode(), b',"%b":%%d,' % name.encode())
    return text


def json_of_message(time: int, level: str, message: str, facts: Mapping[str, object]) -> bytes:
    """`facts`: what a program can read besides."""
    return _ENCODER.encode({"type": "log", "time": time, "level": level, "msg": harmless(message), **facts})


def text_of(line: RequestLine) -> str:
    """`POST /v1/completions 200 ok model=m ... id=...`; what there is none of is left out."""
    words = line.outcome if line.reason is None else f"{line.outcome}: {line.reason}"
    pairs = {
        "model": line.model,
        "key": line.key,
        "in": line.bytes_in,
        "out": line.bytes_out,
        "queue": line.queue_ms or None,
        "load": line.load_ms or None,
        "first": line.first_byte_ms,
        "took": line.duration_ms,
        "tokens": _tokens_of(line),
        "peer": line.peer,
        "id": line.id,
    }
    said = " ".join(f"{name}={_word(value)}" for name, value in pairs.items() if value is not None)
    return f"{line.method} {line.route} {line.status} {words} {said}"


def text_line(time: int, level: str, message: str) -> str:
    """A line for people: the date, a letter for the level, and what is said."""
    at = datetime.fromtimestamp(time / 1e6)
    return f"{at:%Y-%m-%d %H:%M:%S},{at.microsecond // 1000:03d} {_LETTERS.get(level, 'E')} {message}"


def text_of_json(line: str) -> str:
    """The text of a line that was kept as JSON; what is none is its own text."""
    try:
        said: Any = msgspec.json.decode(line)
        if said.get("type") == "request":
            said = msgspec.convert(said, RequestLine)
            return text_line(said.time, said.level, text_of(said))
        return text_line(said["time"], said["level"], one_line(said["msg"]))
    except (msgspec.MsgspecError, KeyError, TypeError, AttributeError):
        return line


def _tokens_of(line: RequestLine) -> str | None:
    if line.prompt_tokens is None:
        return None
    about = "~" if line.tokens_estimated else ""
    return f"{about}{line.prompt_tokens}/{line.cached_tokens}/{line.generated_tokens}"


def _word(value: object) -> str:
    """A value that ends where it seems to."""
    text = str(value)
    return text if _PLAIN.fullmatch(text) else _ENCODER.encode(text).decode()
