"""Whose name a request may be sent to."""

from __future__ import annotations

import httpx
import pytest

from llamarouter.core.errors import Misdirected, UsageError
from llamarouter.core.hosts import Hosts
from llamarouter.core.settings import Settings, parse_settings
from tests.engine_table import TABLE
from tests.node_kit import house

LOOPBACK = ("127.0.0.1", 8080)


def goes(hosts: Hosts, host: bytes | None, address: tuple[str, int | None] | None = LOOPBACK) -> bool:
    try:
        hosts.check(address, host)
    except Misdirected:
        return False
    return True


@pytest.mark.parametrize(
    "host", [b"localhost", b"LOCALHOST:8080", b"127.0.0.1:8080", b"127.8.8.8", b"[::1]:80", b"::1x"]
)
def test_on_loopback_this_machines_own_names_go(host: bytes) -> None:
    assert goes(Hosts(), host) is (host != b"::1x")


@pytest.mark.parametrize(
    "host",
    [b"evil.example", b"evil.example:8080", b"", b"10.0.0.1", b"localhost.evil.example", b"a/b@c", b"x.sock", b"0"],
)
def test_on_loopback_no_other_name_does(host: bytes) -> None:
    assert not goes(Hosts(), host)
    assert not goes(Hosts(("::1",)), host, ("::1", 8080))
    assert goes(Hosts(("0.0.0.0",)), host, ("10.0.0.5", 80))
    assert goes(Hosts(("/run/lr.sock",)), host, ("/run/lr.sock", None))


def test_names_of_host_and_those_that_are_allowed_go() -> None:
    hosts = Hosts(("127.0.0.1", "MyBox"), ("llm.example.org", ".corp.example"))
    for host in (b"mybox:80", b"llm.example.org", b"corp.example", b"a.b.corp.example.:443"):
        assert goes(hosts, host)
    for host in (b"example.org", b"x.llm.example.org", b"notcorp.example", b".example"):
        assert not goes(hosts, host)
    assert goes(Hosts(allowed=("*",)), b"evil.example")


def test_once_names_are_given_they_hold_for_every_address() -> None:
    hosts = Hosts(("0.0.0.0",), ("llm.example.org",))
    lan = ("10.0.0.5", 8080)
    assert goes(hosts, b"llm.example.org", lan)
    assert goes(hosts, b"10.0.0.5:8080", lan)
    assert not goes(hosts, b"evil.example", lan)


def parsed(*argv: str, **environ: str) -> Settings:
    return parse_settings(argv, environ, TABLE, lambda _: "")


def test_the_option_and_the_variable() -> None:
    assert parsed("--allowed-hosts", "A.example, .b.example").names.allowed == ("a.example", ".b.example")
    assert parsed(LR_ALLOWED_HOSTS="*").names == Hosts(allowed=("*",))
    with pytest.raises(UsageError, match=r"--allowed-hosts https://x: a name without scheme and port, as in llm"):
        parsed("--allowed-hosts", "https://x")
    with pytest.raises(UsageError, match="LR_ALLOWED_HOSTS names no host"):
        parsed(LR_ALLOWED_HOSTS=",")


@pytest.mark.anyio
@pytest.mark.parametrize("request_line", ["POST /tokenize", "GET /models", "OPTIONS /models", "GET /health", "GET /"])
async def test_a_page_with_a_name_of_its_own_reads_nothing(tmp_path, request_line: str) -> None:  # type: ignore[no-untyped-def]
    async with house(tmp_path, environ={"LR_ALLOWED_HOSTS": "friend.example"}) as home:
        for host, status in (("evil.example", 421), ("friend.example", None), ("localhost:80", None)):
            client = await home.knock()
            client.send(f"{request_line} HTTP/1.1\r\nhost: {host}\r\ncontent-length: 0\r\n\r\n".encode())
            answer = await client.answer()
            assert (answer.status == 421) is (status == 421)
            if status == 421:
                error = answer.json()["error"]
                assert (error["code"], error["reason"]) == (421, "misdirected_request")
                assert "--allowed-hosts" in error["message"]


@pytest.mark.anyio
async def test_the_application_without_the_fast_lane_looks_as_well(tmp_path) -> None:  # type: ignore[no-untyped-def]
    async with house(tmp_path) as home:
        for app, status in ((home.app, 421), (home.admin, 200)):
            transport = httpx.ASGITransport(app=app)
            async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1") as client:
                answer = await client.get("/models", headers={"host": "evil.example"})
                assert answer.status_code == status
                assert (await client.get("/models")).status_code == 200
