"""Finding the router and speaking with it."""

from __future__ import annotations

from pathlib import Path

import pytest

from llamarouter.cli.address import Address, address_of
from llamarouter.cli.failures import CommandFailed, RouterFailure
from llamarouter.cli.models import rows_from
from llamarouter.cli.server_client import ServerClient, SseEvent, events_of, find_server, need_server
from llamarouter.core.errors import UsageError
from llamarouter.host.runtime_folder import RuntimeFolder
from tests.router_double import Reply, routing


def test_a_unix_socket_needs_no_key(tmp_path: Path) -> None:
    path = str(tmp_path / "admin.sock")
    with routing({}, unix=path) as router:
        listing = rows_from(ServerClient(Address("the router on port 8080", unix=path)))
    assert [row.id for row in listing.rows] == ["user/small:Q4_1", "broken", "crashed"]
    assert "authorization" not in router.asked[0].headers


def test_a_socket_that_nobody_listens_to_is_said_by_its_port(tmp_path: Path) -> None:
    client = ServerClient(Address("the router on port 8080", unix=str(tmp_path / "gone.sock")))
    with pytest.raises(RouterFailure, match=r"^cannot reach the router on port 8080: no such file or directory$"):
        client.get("/models")


def test_the_environment_names_a_router_and_its_key(monkeypatch: pytest.MonkeyPatch) -> None:
    with routing({"GET /lr/status": Reply({"pid": 1})}) as router:
        monkeypatch.setenv("LR_URL", f"{router.url}/")
        monkeypatch.setenv("LR_API_KEY", "secret")
        server = find_server()
        assert server is not None
        assert server.get("/lr/status", a="b c/d") == {"pid": 1}
    assert router.asked[0].headers["authorization"] == "Bearer secret"
    assert router.asked[0].query == {"a": "b c/d"}
    assert not server.address.is_here


def test_a_prefix_stays_in_front_of_every_path(monkeypatch: pytest.MonkeyPatch) -> None:
    with routing({"GET /llm/models": Reply({"data": []})}) as router:
        server = find_server(f"{router.url}/llm/")
        assert server is not None
        assert server.get("/models") == {"data": []}


@pytest.mark.parametrize(
    ("url", "host", "port", "tls"),
    [
        ("localhost:9000", "localhost", 9000, False),
        ("http://box", "box", 80, False),
        ("https://box/lr", "box", 443, True),
        ("http://[::1]:8080", "::1", 8080, False),
    ],
)
def test_addresses(url: str, host: str, port: int, tls: bool) -> None:
    address = address_of(url)
    assert (address.host, address.port, address.tls) == (host, port, tls)


@pytest.mark.parametrize("url", ["ftp://x", "http://", "http://x:notaport", "http://x:99999", "http://[::1"])
def test_what_is_no_address_is_a_usage_error(url: str) -> None:
    with pytest.raises(UsageError, match="is not an address"):
        address_of(url)


def test_events_are_joined_and_comments_are_kept_apart() -> None:
    lines = [": waiting", "event: x", "data: one", "data:two", "", "", "data:  three", ""]
    assert list(events_of(iter(lines))) == [
        SseEvent("waiting", comment=True),
        SseEvent("one\ntwo"),
        SseEvent(" three"),
    ]


def test_lines_may_be_torn_anywhere() -> None:
    whole = "eins\r\nzw\u00f6lf \U0001f999\nend"
    pieces = [bytes([byte]) for byte in whole.encode()]
    with routing({"GET /lr/logs": Reply(pieces=pieces)}) as router:
        client = ServerClient(address_of(router.url))
        with client.stream("GET", "/lr/logs") as lines:
            assert list(lines) == ["eins", "zw\u00f6lf \U0001f999", "end"]


@pytest.fixture
def runtime(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """An environment in which no router runs yet."""
    for name in ("LR_URL", "LR_API_KEY", "XDG_RUNTIME_DIR"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("LR_RUNTIME_DIR", str(tmp_path / "run"))
    return {"LR_RUNTIME_DIR": str(tmp_path / "run")}


def test_the_only_running_router_is_found_by_its_runtime_folder(runtime: dict[str, str]) -> None:
    with RuntimeFolder.open(runtime, 8080) as folder, routing({}, unix=folder.admin_socket):
        server = find_server()
        assert server is not None
        assert server.address == Address("the router on port 8080", unix=folder.admin_socket)
        assert len(rows_from(server).rows) == 3
    assert find_server() is None


def test_of_several_routers_the_command_must_say_which(
    runtime: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    with RuntimeFolder.open(runtime, 8080), RuntimeFolder.open(runtime, 9090) as other:
        with pytest.raises(UsageError, match=r"^several routers are running here, on ports 8080, 9090: choose"):
            find_server()
        with pytest.raises(CommandFailed, match=r"runs on port 7070 \(running: 8080, 9090\)"):
            find_server(port=7070)
        monkeypatch.setenv("LR_URL", "http://elsewhere:1")
        server = find_server(port=9090)  # what the command says goes before the environment
        assert server is not None
        assert server.address.unix == other.admin_socket


def test_a_router_without_a_port_is_found_too(runtime: dict[str, str]) -> None:
    with RuntimeFolder.open(runtime, None):
        server = find_server()
        assert server is not None
        assert server.address.shown == "the router on UNIX sockets"


def test_commands_that_need_a_router_say_how_to_start_one(runtime: dict[str, str]) -> None:
    with pytest.raises(CommandFailed, match="start one with `lr serve`"):
        need_server()
