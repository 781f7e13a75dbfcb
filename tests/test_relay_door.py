"""The fast lane's own promises: one request at a time and in order, whoever answers it, and uvicorn's seam as it is."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Iterator

import pytest
import uvicorn
from uvicorn.protocols.http import httptools_impl

from llamarouter.core.door_limits import DoorLimits
from llamarouter.core.wire import Headers
from llamarouter.relay.connections import ChildConnections
from llamarouter.relay.door_options import DoorOptions
from llamarouter.relay.fast_lane import fast_lane
from llamarouter.relay.traffic import Traffic
from tests.relay_rig import Board, Scripted, fake_child, post, relay, scripted_child, whole
from tests.waiting import until

pytestmark = pytest.mark.anyio
DOORS = ("fast", "slow")
SHORT = DoorLimits(header_timeout=0.1, body_timeout=0.1, send_timeout=0.1, keepalive_timeout=0.1)
GET_OTHER = b"GET /other HTTP/1.1\r\nhost: h\r\n\r\n"


@pytest.fixture(scope="module")
def child() -> Iterator[str]:
    with fake_child() as path:
        yield path


async def numbered(child: Scripted) -> None:
    """Answers with the number in the request's body."""
    while True:
        request = await child.request()
        await child.say(whole(request.rpartition(b"n=")[2].partition(b'"')[0]))


def number(n: int) -> bytes:
    return post("/tokenize", {"content": f"n={n}"})


@pytest.mark.parametrize("way", DOORS)
async def test_a_head_that_begins_behind_a_large_body_is_not_taken_for_a_large_head(way: str) -> None:
    async def handle(child: Scripted) -> None:
        while True:
            await child.say(whole((await child.request())[-20:]))

    async with scripted_child(handle) as (path, _), relay(way, path) as rig:
        client = await rig.client()
        first, second = post("/tokenize", {"content": "x" * 40_000}), post("/tokenize", {"content": "second"})
        client.send(first + second[:10])
        assert (await client.answer()).body == first[-20:]
        client.send(second[10:])
        assert (await client.answer()).body == second[-20:]


@pytest.mark.parametrize("way", DOORS)
@pytest.mark.parametrize("piece", [1 << 20, 1000, 37])
async def test_pipelined_requests_are_answered_in_order(way: str, piece: int) -> None:
    """Relayed ones, others, refused ones and large ones, through both doors, on one connection."""
    async with scripted_child(numbered) as (path, _), relay(way, path) as rig:
        client = await rig.client()
        kinds = (number(0), GET_OTHER, post("/tokenize", b"{"), post("/tokenize", {"content": "n=5"}, expect="100-x"))
        requests = b"".join(kinds[n % 4] for n in range(100))
        for at in range(0, len(requests), piece):
            client.send(requests[at : at + piece])
            await client.writer.drain()
            if piece < 100:
                await asyncio.sleep(0)  # noqa: TID251 (so that it goes out by itself)
        for n in range(100):
            answer = await client.answer()
            expected = ((200, b"0"), (200, b"other /other"), (400, None), (200, b"5"))[n % 4]
            assert answer.status == expected[0]
            assert expected[1] in (None, answer.body)
        assert rig.board.held == 0


@pytest.mark.parametrize("way", DOORS)
async def test_a_lease_is_asked_for_at_the_head_only(way: str) -> None:
    go_on = asyncio.Event()

    async def handle(child: Scripted) -> None:
        while True:
            await child.request()
            await go_on.wait()
            await child.say(whole(b"x"))

    async with scripted_child(handle) as (path, made), relay(way, path) as rig:
        client = await rig.client()
        client.send(number(1) + number(2))
        await until(lambda: made)
        client.send(number(3))
        await client.writer.drain()
        for _ in range(50):
            await asyncio.sleep(0)  # noqa: TID251
        assert len(rig.board.asks) == 1
        go_on.set()
        for _ in range(3):
            assert (await client.answer()).body == b"x"
        assert len(rig.board.asks) == 3


@pytest.mark.parametrize("way", DOORS)
async def test_leaving_ends_the_running_one_and_drops_the_rest(way: str) -> None:
    async def handle(child: Scripted) -> None:
        await child.request()
        await child.until_gone()

    async with scripted_child(handle) as (path, made), relay(way, path) as rig:
        client = await rig.client()
        client.send(number(1) + number(2) + GET_OTHER)
        await until(lambda: made)
        client.writer.write_eof()
        await until(lambda: made[0].gone.is_set())
        await until(lambda: rig.board.outcomes)
        assert len(rig.board.asks) == 1


@pytest.mark.parametrize("way", DOORS)
async def test_more_than_64_kib_behind_a_running_request_close_the_connection(way: str) -> None:
    async def handle(child: Scripted) -> None:
        await child.request()
        await child.until_gone()

    async with scripted_child(handle) as (path, made), relay(way, path) as rig:
        kept = await rig.client()
        kept.send(number(1))
        await until(lambda: len(made) == 1)
        kept.send(post("/tokenize", {"content": "x" * 60_000}))
        closed = await rig.client()
        closed.send(number(1))
        await until(lambda: len(made) == 2)
        for _ in range(8):
            closed.send(post("/tokenize", {"content": "x" * 10_000}))
        await until(lambda: made[1].gone.is_set())
        assert await closed.at_end() == b""
        assert not made[0].gone.is_set()


async def test_one_connection_alternates_between_the_doors(child: str) -> None:
    async with relay("fast", child) as rig:
        client = await rig.client()
        for n in range(30):
            rig.board.at_once = n % 3 != 0
            answer = await client.ask("/tokenize", {"stream": n % 2 == 0})
            assert answer.status == 200
            client.send(GET_OTHER)
            assert (await client.answer()).body == b"other /other"
        assert len(rig.board.outcomes) == 30


@pytest.mark.parametrize("way", DOORS)
async def test_the_door_adds_its_own_headers(way: str, child: str) -> None:
    def extra(headers: Headers) -> bytes:
        return b"access-control-allow-origin: " + dict(headers).get(b"origin", b"*") + b"\r\n"

    async with relay(way, child, extra=extra) as rig:
        client = await rig.client()
        answer = await client.ask(origin="http://a")
        assert answer.headers["access-control-allow-origin"] == "http://a"
        client.send(post(body=b"{", origin="http://b"))
        answer = await client.answer()
        assert answer.status == 400
        assert answer.headers["access-control-allow-origin"] == "http://b"


REFUSED = {
    "no host": (b"POST /tokenize HTTP/1.1\r\ncontent-length: 0\r\n\r\n", 400),
    "two hosts": (b"GET /other HTTP/1.1\r\nhost: a\r\nhost: b\r\n\r\n", 400),
    "two framings": (
        b"POST /tokenize HTTP/1.1\r\nhost: a\r\ncontent-length: 1\r\ntransfer-encoding: chunked\r\n\r\n",
        400,
    ),
    "gzip": (b"POST /tokenize HTTP/1.1\r\nhost: a\r\ntransfer-encoding: gzip, chunked\r\n\r\n", 400),
    "chunks in 1.0": (b"POST /tokenize HTTP/1.0\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n", 400),
    "http/2 by its name": (b"GET /other HTTP/2.0\r\nhost: a\r\n\r\n", 505),
    "a whole URL": (b"GET http://a/other HTTP/1.1\r\nhost: a\r\n\r\n", 400),
    "no Host at all": (b"GET /other HTTP/1.1\r\nhost: a/b@c\r\n\r\n", 400),
    "connect": (b"CONNECT a:1 HTTP/1.1\r\nhost: a\r\n\r\n", 400),
    "http/2": (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 400),
    "garbage": (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n", 400),
    "folded": (b"GET /other HTTP/1.1\r\nhost: a\r\nx: 1\r\n 2\r\n\r\n", 400),
    "long head": (b"GET /other HTTP/1.1\r\nhost: a\r\nx: " + b"x" * 70_000, 431),
    "long head at once": (b"GET /other HTTP/1.1\r\nhost: a\r\n" + (b"x: " + b"x" * 8000 + b"\r\n") * 9, 431),
    "long line": (b"GET /other HTTP/1.1\r\nhost: a\r\nx: " + b"x" * 8188, 431),
    "long target": (b"GET /other?" + b"x" * 32763 + b" HTTP/1.1\r\nhost: a", 414),
    "endless target": (b"GET /other?" + b"x" * 80_000, 414),
    "many headers": (b"GET /other HTTP/1.1\r\nhost: a\r\n" + b"x: y\r\n" * 200 + b"\r\n", 431),
    "bad target": (b"GET http:// HTTP/1.1\r\nhost: a\r\n\r\n", 400),
    "bad chunk": (b"POST /tokenize HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\nxyz\r\n", 400),
}


@pytest.mark.parametrize("name", REFUSED)
@pytest.mark.parametrize("behind", [False, True])
async def test_what_is_no_proper_request_is_refused_in_our_shape(child: str, name: str, behind: bool) -> None:
    request, status = REFUSED[name]
    async with relay("fast", child) as rig:
        client = await rig.client()
        client.send((number(1) if behind else b"") + request + b"\r\n\r\n" + number(2))
        if behind:
            answer = await client.answer()
            assert answer.status == 200
            rest = await client.at_end()  # the connection ends; what came before has its answer
            assert rest == b"" or b"HTTP/1.1 %d" % status in rest
            return
        answer = await client.answer()
        assert answer.status == status
        assert answer.json()["error"]["code"] == status
        assert answer.headers["connection"] == "close"
        assert await client.at_end() == b""
        assert not rig.board.asks


@pytest.mark.parametrize(
    ("target", "lines", "status"),
    [
        (32768, [8192], 200),
        (32769, [], 414),
        (9, [8192] * 3, 200),
        (9, [8193], 431),
        (9, [20] * 99, 200),
        (9, [20] * 100, 431),
    ],
)
async def test_a_head_may_be_as_large_as_llama_servers(child: str, target: int, lines: list[int], status: int) -> None:
    path = "/other?" + "x" * (target - 7)
    headers = "".join(f"x-{number:02}: {'y' * (size - 8)}\r\n" for number, size in enumerate(lines))
    async with relay("fast", child) as rig:
        client = await rig.client()
        client.send(f"GET {path} HTTP/1.1\r\nhost: h\r\n{headers}\r\n".encode())
        answer = await client.answer()
        assert answer.status == status
        if status != 200:
            assert answer.json()["error"]["reason"] == {414: "uri_too_long", 431: "headers_too_large"}[status]


@pytest.mark.parametrize("way", DOORS)
async def test_shutdown_closes_idle_connections_and_lets_busy_ones_end(way: str) -> None:
    go_on = asyncio.Event()

    async def handle(child: Scripted) -> None:
        await child.request()
        await go_on.wait()
        await child.say(whole(b"done"))

    async with scripted_child(handle) as (path, made), relay(way, path) as rig:
        idle, busy = await rig.client(), await rig.client()
        busy.send(number(1))
        await until(lambda: made and len(rig.protocols) == 2)
        for protocol in rig.protocols:
            protocol.shutdown()
        assert await idle.at_end() == b""
        go_on.set()
        answer = await busy.answer()
        assert answer.body == b"done"
        assert answer.headers["connection"] == "close"
        assert await busy.at_end() == b""


async def test_a_client_that_does_not_read_now_does_not_hold_up_the_end_of_tls(child: str) -> None:
    async with relay("tls", child) as rig:
        client = await rig.client()
        client.send(GET_OTHER)
        assert (await client.answer()).status == 200
        # As a client does that keeps a connection for later: it hears of the close when it wants to use it again.
        client.writer.transport.pause_reading()  # type: ignore[attr-defined]
        rig.protocols[0].shutdown()
        await until(lambda: rig.protocols[0].parser is None)  # uvicorn's word for a connection that is gone


async def test_an_idle_connection_is_closed_and_a_busy_one_is_not() -> None:
    go_on = asyncio.Event()

    async def handle(child: Scripted) -> None:
        await child.request()
        await go_on.wait()
        await child.say(whole(b"done"))
        await child.until_gone()

    async with scripted_child(handle) as (path, _), relay("fast", path, limits=SHORT) as rig:
        silent, used, busy = await rig.client(), await rig.client(), await rig.client()
        busy.send(number(1))
        used.send(GET_OTHER)
        assert (await used.answer()).status == 200
        assert await silent.at_end() == b""
        assert await used.at_end() == b""
        go_on.set()
        assert (await busy.answer()).body == b"done"
        assert await busy.at_end() == b""


@pytest.mark.parametrize(
    ("begun", "status"),
    [
        (b"POST /tokenize HTTP/1.1\r\nhost: h\r\nx-", 408),
        (b"POST /tokenize HTTP/1.1\r\nhost: h\r\ncontent-length: 9\r\n\r\n{", 408),
        (b"POST /tokenize HTTP/1.1\r\nhost: h\r\ntransfer-encoding: chunked\r\n\r\n1\r\n{\r\n", 408),
        # Read by the application, which is told that its client has gone: the door answers.
        (b"POST /tokenize HTTP/1.1\r\nhost: h\r\nx-conversation-id: c\r\ncontent-length: 9\r\n\r\n{", 408),
    ],
)
async def test_a_request_of_which_nothing_more_comes_is_given_up(begun: bytes, status: int) -> None:
    async with relay("fast", "/nowhere", limits=SHORT) as rig:
        client = await rig.client()
        client.send(begun)
        assert (await client.answer()).status == status
        assert await client.at_end() == b""
        await until(lambda: not rig.protocols or rig.protocols[0].parser is None)


@pytest.mark.parametrize("more", [b"", b"x-conversation-id: c\r\n"])
async def test_a_request_that_comes_slowly_is_waited_for(child: str, more: bytes) -> None:
    async with relay("fast", child) as rig:
        client = await rig.client()
        client.send(b"POST /tokenize HTTP/1.1\r\nhost: h\r\n%bcontent-length: 20\r\n\r\n" % more)
        come = 0
        for piece in (b'{"mo', b'del":', b'"m"'):
            client.send(piece)
            come += len(piece)
            await until(lambda come=come: (now := rig.protocols[0]._incoming) and now.body_bytes == come)  # type: ignore[misc]
            rig.protocols[0]._deadlines._look()  # as the timer does: something has come since
        client.send(b"       }")
        assert (await client.answer()).status == 200


async def test_with_an_unknown_uvicorn_the_fast_lane_is_off(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    board = Board(ChildConnections("/nowhere", clock=asyncio.get_running_loop().time))
    monkeypatch.setattr(uvicorn, "__version__", "0.55.1")
    assert fast_lane(board, DoorOptions(Traffic())) is httptools_impl.HttpToolsProtocol
    assert "the fast lane is off" in caplog.text


def test_the_seam_of_uvicorn_is_where_it_was() -> None:
    """What the door overrides, calls and sets. Where this fails, read uvicorn's new httptools_impl.py."""
    assert uvicorn.__version__.startswith("0.54.")
    protocol = httptools_impl.HttpToolsProtocol
    for name in ("on_message_begin", "on_headers_complete", "on_body", "on_message_complete", "on_response_complete"):
        assert inspect.isfunction(getattr(protocol, name))
    source = inspect.getsource(httptools_impl)
    for used in ("self.cycle.body += body", "on_response=self.on_response_complete", "self.pipeline", "self.scope = {"):
        assert used in source
    cycle = inspect.getsource(httptools_impl.RequestResponseCycle)
    for attribute in ("response_started", "response_complete", "disconnected", "keep_alive", "message_event"):
        assert f"self.{attribute} = " in cycle


@pytest.mark.parametrize("way", DOORS)
@pytest.mark.parametrize("at_once", [True, False])
async def test_what_comes_behind_the_body_is_no_header(way: str, child: str, at_once: bool) -> None:
    body = b'{"model": "m"}'
    framing = {"content_length": "", "transfer_encoding": "chunked"}
    parts = [b"%x\r\n%b\r\n0\r\n" % (len(body), body), b"x-behind: 1\r\nx-api-key: k\r\nhost: h\r\n" * 200, b"\r\n"]
    async with relay(way, child) as rig:
        for key, status in (({"x_api_key": "k"}, 200), ({}, 401)):
            rig.board.key = b"k"
            client = await rig.client()
            head = post(body=b"", x_fake='{"echo": true}', **framing, **key)
            for part in [head + b"".join(parts)] if at_once else [head, *parts]:
                client.send(part)
            answer = await client.answer()
            assert answer.status == status
            if status == 200:
                assert not {"x-behind", "x-api-key"} & {name for name, _ in answer.json()["headers"]}
                assert answer.json()["body"] == body.decode()
