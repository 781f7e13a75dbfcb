"""Where events end, and the last words of a stream that failed."""

from __future__ import annotations

import json

import pytest

from llamarouter.core.errors import Draining, ModelCrashed
from llamarouter.core.routes import Dialect
from llamarouter.core.sse import answered_error_event, comment, end_of_events, error_event


@pytest.mark.parametrize(
    ("data", "end"),
    [
        (b"", 0),
        (b"data: a", 0),
        (b"data: a\n", 0),
        (b"data: a\n\n", 9),
        (b"data: a\n\ndata: b", 9),
        (b"data: a\n\ndata: b\n\n", 18),
        (b"a\r\n\r\nb", 5),
        (b"a\r\rb", 3),
        (b"a\n\nb\r\n\r\nc", 8),
        (b"a\r\n\r\nb\n\nc", 8),
    ],
)
def test_the_end_of_the_last_whole_event(data: bytes, end: int) -> None:
    assert end_of_events(data) == end


CRASH = ModelCrashed("it died")
PAYLOAD = {"code": 502, "message": "it died", "type": "server_error", "param": None, "reason": "model_crashed"}


def data_of(event: bytes) -> object:
    assert event.endswith(b"\n\n")
    return json.loads(event.splitlines()[-2].removeprefix(b"data: "))


def test_each_dialect_has_its_error_event() -> None:
    event = error_event(Dialect.OPENAI, CRASH)
    assert event.startswith(b"data: ")
    assert data_of(event) == {"error": PAYLOAD}

    event = error_event(Dialect.ANTHROPIC, CRASH)
    assert event.startswith(b"event: error\ndata: ")
    assert data_of(event) == {"type": "error", "error": {**PAYLOAD, "type": "api_error"}}

    event = error_event(Dialect.RESPONSES, CRASH)
    assert event.startswith(b"event: error\ndata: ")
    assert data_of(event) == {**PAYLOAD, "type": "error"}


def test_anthropics_word_for_not_now() -> None:
    assert data_of(error_event(Dialect.ANTHROPIC, Draining("bye")))["error"]["type"] == "overloaded_error"  # type: ignore[index]


def test_a_comment_is_one_line_and_an_empty_one() -> None:
    assert comment("né") == b": n\xc3\xa9\n\n"


def test_an_error_of_the_child_is_passed_on_in_each_dialect() -> None:
    body = b'{"error":{"code":400,"message":"too long","type":"exceed_context_size_error","n_ctx":8}}'
    error = {"code": 400, "message": "too long", "type": "exceed_context_size_error", "n_ctx": 8}
    assert data_of(answered_error_event(Dialect.OPENAI, 400, body)) == {"error": error}
    assert data_of(answered_error_event(Dialect.ANTHROPIC, 400, body)) == {"type": "error", "error": error}
    assert data_of(answered_error_event(Dialect.RESPONSES, 400, body)) == {**error, "type": "error"}


@pytest.mark.parametrize("body", [b"", b"File not found", b'{"error":"x"}', b"[1]", b"\xff", b'{"choices":[]}'])
def test_what_is_neither_a_stream_nor_an_error_is_one(body: bytes) -> None:
    error = {"code": 404, "message": "the model's process answered 404, and no stream", "type": "server_error"}
    assert data_of(answered_error_event(Dialect.OPENAI, 404, body)) == {"error": error}
    error = data_of(answered_error_event(Dialect.ANTHROPIC, 200, body))["error"]  # type: ignore[assignment]
    assert (error["code"], error["type"]) == (502, "api_error")
