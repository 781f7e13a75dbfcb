"""The rules for heads, in both directions."""

from __future__ import annotations

import pytest

from llamarouter.core.errors import Cooldown, MethodNotAllowed
from llamarouter.core.wire import (
    BrokenAnswerError,
    answer_head_of,
    answer_lines_of,
    error_answer_of,
    head_for_child,
    head_start_for_child,
    header_of,
    own_lines_for_child,
    tokens_of,
)


def sent(*headers: tuple[bytes, bytes], body_length: int | None = 3, api_key: str | None = None) -> list[bytes]:
    start = head_start_for_child(b"POST", b"/a?b", list(headers))
    return head_for_child(start, body_length, own_lines_for_child(api_key)).split(b"\r\n")


def test_the_head_for_the_child() -> None:
    assert sent((b"accept", b"*/*"), (b"x-a", b"1"), (b"x-a", b"2")) == [
        b"POST /a?b HTTP/1.1",
        b"host: localhost",
        b"accept: */*",
        b"x-a: 1",
        b"x-a: 2",
        b"content-length: 3",
        b"",
        b"",
    ]


@pytest.mark.parametrize(
    "name",
    [
        *("authorization", "x-api-key", "cookie", "origin", "host", "accept-encoding", "expect", "forwarded"),
        *("x-forwarded-for", "x-forwarded-proto", "connection", "keep-alive", "te", "trailer", "transfer-encoding"),
        *("upgrade", "proxy-authorization", "proxy-connection", "http2-settings", "content-length", "content_length"),
    ],
)
def test_what_stays_at_the_door(name: str) -> None:
    assert sent((name.encode(), b"9")) == sent()


def test_headers_that_connection_names_stay_at_the_door() -> None:
    assert sent((b"connection", b"close, X-Hop"), (b"x-hop", b"1"), (b"x-end", b"2")) == sent((b"x-end", b"2"))
    assert b"x-keep: 1" in sent((b"connection", b"keep-alive"), (b"x-keep", b"1"))


def test_no_length_without_a_body_and_the_childs_key() -> None:
    assert not [line for line in sent(body_length=None) if line.startswith(b"content-length")]
    assert b"authorization: Bearer k" in sent((b"authorization", b"x"), api_key="k")
    closing = own_lines_for_child(None, close=True)
    assert head_for_child(b"GET / HTTP/1.1\r\n", None, closing) == b"GET / HTTP/1.1\r\nconnection: close\r\n\r\n"
    assert own_lines_for_child("k", close=True) == b"authorization: Bearer k\r\nconnection: close\r\n"


@pytest.mark.parametrize("body_length", [None, 0, 3])
def test_the_child_is_told_what_the_request_is_called(body_length: int | None) -> None:
    named, nameless = (head_for_child(b"X / HTTP/1.1\r\n", body_length, id=id).split(b"\r\n") for id in (b"a-1", b""))
    assert [line for line in named if line != b"x-request-id: a-1"] == nameless
    assert len(named) == len(nameless) + 1


def test_an_answers_head() -> None:
    answer = answer_head_of(
        b"HTTP/1.1 200 OK\r\nServer: llama.cpp\r\nAccess-Control-Allow-Origin: \r\nContent-Type: application/json\r\n"
        b"X-A:1\r\nContent-Length: 36\r\nKeep-Alive: timeout=5, max=100\r\nConnection: keep-alive",
        head_only=False,
    )
    assert (answer.status, answer.length, answer.reusable, answer.event_stream) == (200, 36, True, False)
    assert answer.headers() == [(b"content-type", b"application/json"), (b"x-a", b"1"), (b"content-length", b"36")]
    lines = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nX-A:1\r\ncontent-length: 36\r\n"
    assert answer_lines_of(answer, chunked=False) == lines


def test_a_streams_head() -> None:
    answer = answer_head_of(
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nContent-Type: Text/Event-Stream; charset=utf-8",
        head_only=False,
    )
    assert answer.length is None
    assert answer.event_stream
    assert answer_lines_of(answer, chunked=True).endswith(b"\r\ntransfer-encoding: chunked\r\n")
    assert b"encoding" not in answer_lines_of(answer, chunked=False)


@pytest.mark.parametrize(("line", "reusable"), [(b"Connection: close", False), (b"Connection: x, Close", False)])
def test_a_child_that_closes(line: bytes, reusable: bool) -> None:
    assert answer_head_of(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n" + line, head_only=False).reusable is reusable
    assert not answer_head_of(b"HTTP/1.0 200 OK\r\nContent-Length: 0", head_only=False).reusable


@pytest.mark.parametrize("status", [204, 304])
def test_answers_without_a_body(status: int) -> None:
    answer = answer_head_of(b"HTTP/1.1 %d X\r\nContent-Length: 5" % status, head_only=False)
    assert answer.length == 0
    assert answer_lines_of(answer, chunked=False) == b"HTTP/1.1 %d X\r\n" % status
    assert answer.headers() == []


def test_an_answer_to_head_keeps_its_length() -> None:
    assert answer_head_of(b"HTTP/1.1 200 OK\r\nContent-Length: 5", head_only=True).length == 5
    assert answer_head_of(b"HTTP/1.1 200 OK\r\nX: y", head_only=True).length is None


@pytest.mark.parametrize(
    "head",
    [
        b"",
        b"HTTP/2 200 OK",
        b"HTTP/1.1 20 OK\r\nContent-Length: 0",
        b"HTTP/1.1 200 OK",
        b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nTransfer-Encoding: chunked",
        b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 6",
        b"HTTP/1.1 200 OK\r\nContent-Length: 5, 5",
        b"HTTP/1.1 200 OK\r\nContent-Length: ",
        b"HTTP/1.1 200 OK\r\nContent-Length: 0x5",
        b"HTTP/1.1 200 OK\r\nContent-Length: 9999999999999999999",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip",
        b"HTTP/1.1 200 OK\r\nno header\r\nContent-Length: 5",
        b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n folded: 5",
        b"HTTP/1.1 200 OK\r\n: x\r\nContent-Length: 5",
        b"HTTP/1.1 200 OK\r\nA: b\nC: d\r\nContent-Length: 5",
    ],
)
def test_heads_that_are_none(head: bytes) -> None:
    with pytest.raises(BrokenAnswerError):
        answer_head_of(head, head_only=False)


def test_equal_lengths_are_one() -> None:
    assert answer_head_of(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 5", head_only=False).length == 5


def test_an_errors_answer() -> None:
    head, body = error_answer_of(Cooldown("later", retry_after=3.2))
    assert head.startswith(b"HTTP/1.1 503 Service Unavailable\r\n")
    assert b"retry-after: 4\r\n" in head  # who comes after 3 s would come too early
    assert head.endswith(b"content-length: %d\r\n" % len(body))
    assert b"allow: GET, POST\r\n" in error_answer_of(MethodNotAllowed("no", allow=("GET", "POST")))[0]


def test_small_things() -> None:
    assert header_of([(b"a", b"1"), (b"a", b"2")], b"a") == b"1"
    assert header_of([], b"a") is None
    assert tokens_of(b"A ,b,") == [b"a", b"b", b""]
