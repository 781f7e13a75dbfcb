"""What the client sent reaches the child as it came, but for hop-by-hop headers and credentials, or is refused."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest

from llamarouter.core.wire import own_lines_for_child
from tests.relay_rig import WAYS, Client, fake_child, post, relay
from tests.waiting import until

pytestmark = [pytest.mark.anyio, pytest.mark.parametrize("way", WAYS)]
ECHO = '{"echo": true}'


@pytest.fixture(scope="module")
def child() -> Iterator[str]:
    with fake_child() as path:
        yield path


async def echo(client: Client, request: bytes) -> Any:
    client.send(request)
    answer = await client.answer()
    assert answer.status == 200, answer
    return answer.json()


async def test_headers_pass_but_for_credentials_and_the_connections_own(way: str, child: str) -> None:
    async with relay(way, child) as rig:
        client = await rig.client()
        request = post(
            x_fake=ECHO,
            x_mine="one, two",
            user_agent="ü",
            accept="*/*",
            authorization="Bearer secret",
            x_api_key="secret",
            cookie="a=b",
            origin="http://a",
            accept_encoding="gzip",
            x_forwarded_for="1.2.3.4",
            te="trailers",
            connection="keep-alive, x-named",
            x_named="hop",
        ).replace(b"x-mine", b"X_Under: score\r\nX-Mine")
        seen = await echo(client, request)
        headers = dict(seen["headers"])
        assert headers.pop("content-length") == str(len(seen["body"]))
        assert headers.pop("x-request-id")
        assert headers == {
            "host": "localhost",
            "content-type": "application/json",
            "x-fake": ECHO,
            "x-mine": "one, two",
            "user-agent": "ü".encode().decode("latin-1"),
            "accept": "*/*",
        }
        assert len(seen["headers"]) == len(headers) + 2  # none stands twice


async def test_the_body_and_the_target_go_as_they_came(way: str, child: str) -> None:
    body = b' {"model" : "m",\t"x":"\\u0041\xc3\xbc", "n": 1.50 } '
    async with relay(way, child) as rig:
        client = await rig.client()
        seen = await echo(client, post("/v1/completions?a=%20b&autoload=true&c", body, x_fake=ECHO))
        assert seen["first"] == "POST /v1/completions?a=%20b&autoload=true&c HTTP/1.1"
        assert seen["body"] == body.decode("latin-1")
        assert rig.board.asks[0].autoload is True
        assert rig.board.asks[0].body_bytes == len(body)
        assert rig.board.asks[0].route.path == "/v1/completions"


async def test_the_query_names_the_model_where_the_body_cannot(way: str, child: str) -> None:
    form = b'--b\r\ncontent-disposition: form-data; name="text"\r\n\r\nx\r\n--b--\r\n'
    json_type = "application/json"
    bodies: list[tuple[bytes, str, str]] = [
        (b'[{"id": 0, "scale": 0.5}]', json_type, "m"),
        (b'{"text": "x"}', json_type, "m"),
        (b'{"model": null}', json_type, "m"),
        (form, "multipart/form-data; boundary=b", "m"),
        (b'{"model": "m"}', json_type, "somebody-else"),  # where the body can, it counts
    ]
    async with relay(way, child) as rig:
        client = await rig.client()
        for body, kind, named in bodies:
            target = f"/lora-adapters?model={named}"
            seen = await echo(client, post(target, body, x_fake=ECHO, content_type=kind))
            assert seen["first"] == f"POST {target} HTTP/1.1"
            assert seen["body"].encode() == body
        for body, kind, _ in bodies[:3]:
            client = await rig.client()
            client.send(post("/lora-adapters?a=b", body, content_type=kind))
            refused = await client.answer()
            assert (refused.status, refused.json()["error"]["reason"]) == (400, "missing_model")


async def test_the_childs_own_key_goes_with_every_request(way: str, child: str) -> None:
    async with relay(way, child) as rig:
        rig.board.connections.own_lines = own_lines_for_child("of-the-child")
        client = await rig.client()
        seen = await echo(client, post(x_fake=ECHO, authorization="Bearer of-the-client"))
        assert [value for name, value in seen["headers"] if name == "authorization"] == ["Bearer of-the-child"]


@pytest.mark.parametrize("size", [1, 1 << 10, 70_000, (1 << 20) + 1, 3 << 20])
@pytest.mark.parametrize("chunked", [False, True])
async def test_bodies_of_every_size_arrive_whole(way: str, child: str, size: int, chunked: bool) -> None:
    body = json.dumps({"model": "m", "text": "x" * size}).encode()
    async with relay(way, child) as rig:
        client = await rig.client()
        request = post("/tokenize", body, x_fake=ECHO)
        if chunked:
            head = post("/tokenize", b"", x_fake=ECHO, content_length="", transfer_encoding="chunked")
            parts = [body[at : at + 65_537] for at in range(0, len(body), 65_537)]
            request = head + b"".join(b"%x\r\n%b\r\n" % (len(part), part) for part in parts) + b"0\r\n\r\n"
        for _ in range(2):
            seen = await echo(client, request)
            assert seen["body"] == body.decode()
            assert dict(seen["headers"])["content-length"] == str(len(body))


async def test_a_body_that_comes_byte_by_byte(way: str, child: str) -> None:
    async with relay(way, child) as rig:
        client = await rig.client()
        request = post("/tokenize", {"content": "abc"}, x_fake=ECHO)
        for n in range(len(request)):
            client.send(request[n : n + 1])
            await client.writer.drain()
        assert (await client.answer()).json()["body"] == request.partition(b"\r\n\r\n")[2].decode()


async def test_multipart_goes_on_byte_for_byte(way: str, child: str) -> None:
    parts = [
        b'content-disposition: form-data; name="file"; filename="a\\"b.wav"\r\ncontent-type: a/b\r\n\r\n\x00\xff--x',
        b'Content-Disposition: form-data; name="model"\r\n\r\nm',
    ]
    body = b"".join(b"--xyz\r\n%b\r\n" % part for part in parts) + b"--xyz--\r\n"
    async with relay(way, child) as rig:
        client = await rig.client()
        request = post("/v1/audio/transcriptions", body, content_type="multipart/form-data; boundary=xyz", x_fake=ECHO)
        seen = await echo(client, request)
        assert seen["body"] == body.decode("latin-1")
        assert dict(seen["headers"])["content-type"] == "multipart/form-data; boundary=xyz"


async def test_get_takes_the_model_from_the_query(way: str, child: str) -> None:
    async with relay(way, child) as rig:
        client = await rig.client()
        client.send(b"GET /props?model=m&x=1 HTTP/1.1\r\nhost: h\r\nx-fake: " + ECHO.encode() + b"\r\n\r\n")
        seen = (await client.answer()).json()
        assert seen["first"] == "GET /props?model=m&x=1 HTTP/1.1"
        assert "content-length" not in dict(seen["headers"])
        client.send(b"GET /props HTTP/1.1\r\nhost: h\r\n\r\n")
        answer = await client.answer()
        assert (answer.status, answer.json()["error"]["reason"]) == (400, "missing_model")


@pytest.mark.parametrize(
    ("body", "status", "reason"),
    [
        (b"", 400, "invalid_json"),
        (b'{"model": "m"', 400, "invalid_json"),
        (b'{"content": "x"}', 400, "missing_model"),
        (b'{"model": null}', 400, "missing_model"),
        (b'{"model": 5}', 400, "missing_model"),
        (b"[]", 400, "missing_model"),
        (b'{"model": "m", "mod\\u0065l": "n"}', 400, "duplicate_key"),
        (b'{"model": "m", "a": ' + b"[" * 600 + b"]" * 600 + b"}", 400, "json_too_deep"),
        (b'{"model": "secret-name"}', 404, "model_not_found"),
    ],
)
async def test_a_refusal_keeps_the_connection(way: str, child: str, body: bytes, status: int, reason: str) -> None:
    async with relay(way, child) as rig:
        client = await rig.client()
        client.send(post("/completion", body))
        answer = await client.answer()
        error = answer.json()["error"]
        assert (answer.status, error["code"], error["reason"]) == (status, status, reason)
        assert error["param"] is None
        assert answer.headers["content-type"] == "application/json; charset=utf-8"
        if way != "asgi":
            assert (await client.ask()).status == 200


@pytest.mark.parametrize(
    ("lines", "status"),
    [
        (b"x-api-key: k\r\nx-api-key: x", 200),
        (b"x-api-key: x\r\nx-api-key: k", 401),
        (b"authorization: Bearer k\r\nauthorization: Bearer x", 200),
        (b"authorization: Bearer x\r\nauthorization: Bearer k", 401),
    ],
)
async def test_of_two_keys_the_first_counts_at_every_door(way: str, child: str, lines: bytes, status: int) -> None:
    async with relay(way, child) as rig:
        rig.board.key = b"k"
        client = await rig.client()
        client.send(post("/tokenize", {"model": "m"}).replace(b"\r\n", b"\r\n" + lines + b"\r\n", 1))
        assert (await client.answer()).status == status


async def test_a_wrong_key_is_refused_before_the_body_is_looked_at(way: str, child: str) -> None:
    async with relay(way, child) as rig:
        rig.board.key = b"k"
        client = await rig.client()
        for headers in ({}, {"authorization": "Bearer x"}, {"x_api_key": "x"}):
            client = await rig.client()
            client.send(post(body=b"{", **headers))
            answer = await client.answer()
            assert answer.status == 401
            assert answer.json()["error"]["type"] == "authentication_error"
            assert answer.headers["www-authenticate"] == "Bearer"
        client = await rig.client()
        assert (await client.ask(authorization="Bearer k")).status == 200
        assert (await client.ask(x_api_key="k")).status == 200


async def test_too_large_a_body_is_refused_before_it_is_sent(way: str, child: str) -> None:
    async with relay(way, child, max_body=2 << 20) as rig:
        client = await rig.client()
        client.send(post(body=b"", content_length=str(3 << 20)))
        answer = await client.answer()
        assert (answer.status, answer.json()["error"]["reason"]) == (413, "request_too_large")
        assert answer.headers["connection"] == "close"
        assert await client.at_end() == b""


async def test_bodies_that_are_being_read_have_a_budget_together(way: str, child: str) -> None:
    large = {"content_length": str(3 << 20)}  # for the slow way, at each door
    async with relay(way, child, bodies=4 << 20) as rig:
        slow, other, third = [await rig.client() for _ in range(3)]
        slow.send(post(body=b"", **large) + b" " * (2 << 20))
        await until(lambda: rig.traffic.bodies.used == 2 << 20)
        other.send(post(body=b"", **large))
        answer = await other.answer()
        assert (answer.status, answer.json()["error"]["reason"]) == (429, "queue_full")
        assert int(answer.headers["retry-after"]) > 0
        third.send(post(body=b"", content_length="", transfer_encoding="chunked"))
        for _ in range(48):
            third.send(b"10000\r\n%b\r\n" % (b" " * 65_536))
        assert (await third.answer()).status == 429
        assert rig.traffic.bodies.used == 2 << 20
        slow.send(b'{"model": "m", "content": "x"}'.rjust(1 << 20))
        assert (await slow.answer()).status == 200
        assert rig.traffic.bodies.used == 0
        slow.send(post(body=b"", **large) + b" " * (2 << 20))
        await until(lambda: rig.traffic.bodies.used == 2 << 20)
        slow.close()
        await until(lambda: rig.traffic.bodies.used == 0)


async def test_small_bodies_that_come_slowly_count_as_well(way: str, child: str) -> None:
    body = b'{"model": "m", "content": "x"}'.rjust(800_000)
    part = 600_000
    async with relay(way, child, bodies=1 << 20) as rig:
        for ends in (lambda client: client.close(), lambda client: client.send(b"GET"), None):
            slow, other = await rig.client(), await rig.client()
            chunked = ends is not None  # so that it can end in nonsense
            framing = {"content_length": "", "transfer_encoding": "chunked"} if chunked else {}
            slow.send(post(body=b"", **({"content_length": str(len(body))} | framing)))
            slow.send(b"%x\r\n%b" % (part, body[:part]) if chunked else body[:part])
            await until(lambda: rig.traffic.bodies.used == part)
            other.send(post(body=b"", content_length=str(len(body))) + body[:part])
            answer = await other.answer()
            assert (answer.status, answer.json()["error"]["reason"]) == (429, "queue_full")
            assert rig.traffic.bodies.used == part
            if ends is None:
                slow.send(body[part:])
                assert (await slow.answer()).status == 200
            else:
                ends(slow)
            await until(lambda: rig.traffic.bodies.used == 0)


async def test_the_refusal_of_a_body_that_goes_on_coming_can_be_read(way: str, child: str) -> None:
    async with relay(way, child, max_body=2 << 20) as rig:
        client = await rig.client()
        client.send(post(body=b"", content_length="", transfer_encoding="chunked"))
        for _ in range(64):
            client.send(b"10000\r\n%b\r\n" % (b"x" * 65_536))
        answer = await client.answer()
        assert answer.status == 413


async def test_continue_comes_after_key_and_size(way: str, child: str) -> None:
    async with relay(way, child, max_body=2 << 20) as rig:
        rig.board.key = b"k"
        for headers, status in (({}, 401), ({"x_api_key": "k", "content_length": str(3 << 20)}, 413)):
            client = await rig.client()
            client.send(post("/tokenize", **headers, expect="100-continue").partition(b"\r\n\r\n")[0] + b"\r\n\r\n")
            assert (await client.answer()).status == status
        client = await rig.client()
        request = post("/tokenize", {"content": "x"}, x_api_key="k", expect="100-continue")
        head, _, body = request.partition(b"\r\n\r\n")
        client.send(head + b"\r\n\r\n")
        assert (await client.answer()).status == 100
        client.send(body)
        assert (await client.answer()).status == 200


async def test_an_upgrade_is_answered_as_plain_http_with_its_body(way: str, child: str) -> None:
    if way == "asgi":  # httptools loses the body; only our own door reads it again
        return
    async with relay(way, child) as rig:
        client = await rig.client()
        request = post(
            "/tokenize",
            {"content": "java"},
            x_fake=ECHO,
            connection="Upgrade, HTTP2-Settings",
            upgrade="h2c",
            http2_settings="AAEAAEAAAAIAAAABAAMAAABkAAQBAAAAAAUAAEAA",
        )
        for n in (len(request), 30, request.index(b"\r\n\r\n") + 4, len(request) - 3):
            client.send(request[:n])
            await client.writer.drain()
            client.send(request[n:])
            seen = (await client.answer()).json()
            assert seen["body"] == '{"model": "m", "content": "java"}'
            assert not {"upgrade", "connection", "http2-settings"} & {name for name, _ in seen["headers"]}
