"""What a request may look like, row by row, by raw sockets, and at both doors of a whole router.

What a proxy in front may understand otherwise than the router does is refused and ends the connection: the bytes behind
it, a smuggled request, are never served. Each row goes to a path of the fast lane and to one of the application.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.node_kit import house
from tests.relay_rig import read_answer

pytestmark = pytest.mark.anyio

SMUGGLED = b"GET /smuggled HTTP/1.1\r\nhost: localhost\r\n\r\n"
HOST = b"host: localhost\r\n"
LINE = b"{line} HTTP/1.1\r\n"
CHUNKED = b"transfer-encoding: chunked\r\n"

# name: (request, status). {line} is `POST /tokenize` at the fast lane, and `POST /models/load` at the application.
ROWS: dict[str, tuple[bytes, int]] = {
    "content-length and chunks": (LINE + HOST + b"content-length: 5\r\n" + CHUNKED + b"\r\n0\r\n\r\n", 400),
    "chunks and content-length": (LINE + HOST + CHUNKED + b"content-length: 5\r\n\r\n0\r\n\r\n", 400),
    "the same length twice": (LINE + HOST + b"content-length: 2\r\ncontent-length: 2\r\n\r\n{}", 400),
    "two lengths": (LINE + HOST + b"content-length: 2\r\ncontent-length: 3\r\n\r\n{}", 400),
    "a list of lengths": (LINE + HOST + b"content-length: 2, 2\r\n\r\n{}", 400),
    "a length with a sign": (LINE + HOST + b"content-length: +2\r\n\r\n{}", 400),
    "a negative length": (LINE + HOST + b"content-length: -2\r\n\r\n{}", 400),
    "a hexadecimal length": (LINE + HOST + b"content-length: 0x2\r\n\r\n{}", 400),
    "a length beyond 64 bits": (LINE + HOST + b"content-length: 18446744073709551617\r\n\r\n{}", 400),
    "an empty length": (LINE + HOST + b"content-length: \r\n\r\n{}", 400),
    "gzip and chunks": (LINE + HOST + b"transfer-encoding: gzip, chunked\r\n\r\n0\r\n\r\n", 400),
    "chunks twice": (LINE + HOST + CHUNKED + CHUNKED + b"\r\n0\r\n\r\n", 400),
    "chunks, then identity": (LINE + HOST + b"transfer-encoding: chunked, identity\r\n\r\n0\r\n\r\n", 400),
    "identity": (LINE + HOST + b"transfer-encoding: identity\r\n\r\n", 400),
    "a coding with a vertical tab": (LINE + HOST + b"transfer-encoding: \x0bchunked\r\n\r\n0\r\n\r\n", 400),
    "an unknown coding": (LINE + HOST + b"transfer-encoding: xchunked\r\n\r\n0\r\n\r\n", 400),
    "a blank before the colon": (LINE + HOST + b"transfer-encoding : chunked\r\n\r\n0\r\n\r\n", 400),
    "a blank before the length's colon": (LINE + HOST + b"content-length : 2\r\n\r\n{}", 400),
    "chunks in HTTP/1.0": (b"{line} HTTP/1.0\r\n" + HOST + CHUNKED + b"\r\n0\r\n\r\n", 400),
    "a folded header": (LINE + HOST + b"x: 1\r\n 2\r\ncontent-length: 0\r\n\r\n", 400),
    "a folded first header": (LINE + b" x: 1\r\n" + HOST + b"\r\n", 400),
    "bare line feeds": (b"{line} HTTP/1.1\nhost: localhost\ncontent-length: 0\n\n", 400),
    "a bare line feed within": (LINE + HOST + b"x: 1\ncontent-length: 0\r\n\r\n", 400),
    "a bare carriage return": (LINE + HOST + b"x: 1\rcontent-length: 0\r\n\r\n", 400),
    "a NUL in a header": (LINE + HOST + b"x: a\x00b\r\ncontent-length: 0\r\n\r\n", 400),
    "a header without a name": (LINE + HOST + b": 1\r\ncontent-length: 0\r\n\r\n", 400),
    "a header without a colon": (LINE + HOST + b"nonsense\r\ncontent-length: 0\r\n\r\n", 400),
    "a chunk's size that overflows": (LINE + HOST + CHUNKED + b"\r\nfffffffffffffffff\r\n", 400),
    "a chunk's size that is none": (LINE + HOST + CHUNKED + b"\r\n0x2\r\n{}\r\n0\r\n\r\n", 400),
    "a chunk's size with a sign": (LINE + HOST + CHUNKED + b"\r\n-2\r\n{}\r\n0\r\n\r\n", 400),
    "a chunk without its end": (LINE + HOST + CHUNKED + b"\r\n2\r\n{}X\r\n0\r\n\r\n", 400),
    "a chunk that ends in a line feed": (LINE + HOST + CHUNKED + b"\r\n2\n{}\r\n0\r\n\r\n", 400),
    "no host": (LINE + b"content-length: 0\r\n\r\n", 400),
    "two hosts": (LINE + HOST + HOST + b"content-length: 0\r\n\r\n", 400),
    "no host but something else": (LINE + b"host: a/b@c\r\ncontent-length: 0\r\n\r\n", 400),
    "two names in one host": (LINE + b"host: localhost, localhost@x\r\ncontent-length: 0\r\n\r\n", 400),
    "an empty host": (LINE + b"host:\r\ncontent-length: 0\r\n\r\n", 421),
    "a whole URL": (b"GET http://evil.example/ HTTP/1.1\r\n" + HOST + b"\r\n", 400),
    "a whole URL of ours": (b"GET http://localhost/models HTTP/1.1\r\n" + HOST + b"\r\n", 400),
    "CONNECT": (b"CONNECT localhost:80 HTTP/1.1\r\n" + HOST + b"\r\n", 400),
    "HTTP/2 at once": (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 400),
    "a star that is no OPTIONS": (b"GET * HTTP/1.1\r\n" + HOST + b"\r\n", 400),
    "a small method": (b"get /models HTTP/1.1\r\n" + HOST + b"\r\n", 400),
    "an unknown method": (b"FOO /models HTTP/1.1\r\n" + HOST + b"\r\n", 400),
    "TLS": (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n", 400),
    "the version 2.0": (b"{line} HTTP/2.0\r\n" + HOST + b"content-length: 0\r\n\r\n", 505),
    "the version 1.2": (b"{line} HTTP/1.2\r\n" + HOST + b"content-length: 0\r\n\r\n", 400),
    "the version 0.9": (b"{line} HTTP/0.9\r\n" + HOST + b"content-length: 0\r\n\r\n", 505),
    "no version": (b"{line}\r\n" + HOST + b"\r\n", 505),
    "a blank in the target": (b"POST /toke nize HTTP/1.1\r\n" + HOST + b"content-length: 0\r\n\r\n", 400),
    "a head of 2 MB": (LINE + HOST + (b"x: " + b"x" * 8000 + b"\r\n") * 250 + b"\r\n", 431),
    "one header of 2 MB": (LINE + HOST + b"x: " + b"x" * (2 << 20) + b"\r\n\r\n", 431),
    "5,000 headers": (LINE + HOST + b"x: y\r\n" * 5000 + b"\r\n", 431),
    "a target of 64 KiB": (b"GET /" + b"x" * 65536 + b" HTTP/1.1\r\n" + HOST + b"\r\n", 414),
    "a body of 101 MiB": (LINE + HOST + b"content-length: 105906176\r\n\r\n", 413),
}
# Lenient where nobody can be misled.
SERVED: dict[str, bytes] = {
    "an upgrade": HOST + b"connection: upgrade\r\nupgrade: websocket\r\n",
    "h2c": HOST + b"connection: upgrade, http2-settings\r\nupgrade: h2c\r\nhttp2-settings: AAMAAABkAAQ\r\n",
    "an unknown expectation": HOST + b"expect: the-best\r\n",
    "a port": b"host: localhost:99\r\n",
    "underscores": HOST + b"content_length: 5\r\nx_real_ip: 1.1.1.1\r\ntransfer_encoding: chunked\r\n",
}


@pytest.mark.parametrize("target", [b"/tokenize", b"/models/load"], ids=["fast", "application"])
@pytest.mark.parametrize("name", ROWS)
async def test_what_two_may_understand_in_two_ways_is_refused_and_ends_the_connection(
    tmp_path: Path, name: str, target: bytes
) -> None:
    request, status = ROWS[name]
    async with house(tmp_path) as home:
        client = await home.knock()
        client.send(request.replace(b"{line}", b"POST " + target) + SMUGGLED)
        answer = await client.answer()
        assert (answer.status, answer.json()["error"]["code"]) == (status, status)
        assert answer.headers["connection"] == "close"
        assert await client.at_end() == b""


@pytest.mark.parametrize("target", [b"/tokenize", b"/models/load"], ids=["fast", "application"])
@pytest.mark.parametrize("name", SERVED)
async def test_what_nobody_misunderstands_is_served_and_so_is_what_comes_behind(
    tmp_path: Path, name: str, target: bytes
) -> None:
    async with house(tmp_path) as home:
        client = await home.knock()
        client.send(b"POST %b HTTP/1.1\r\n%bcontent-length: 17\r\n\r\n" % (target, SERVED[name]))
        client.send(b'{"model":"token"}' + SMUGGLED)
        answer = await client.answer()
        assert (answer.status, answer.json()["error"]["reason"]) == (404, "model_not_found")
        assert "token" in answer.json()["error"]["message"]
        assert (await read_answer(client.reader)).status == 404  # one answer each, in order
