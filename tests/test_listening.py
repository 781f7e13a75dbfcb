"""Binding: one clear line for what cannot be, and nothing left bound behind it."""

from __future__ import annotations

import os
import socket
from pathlib import Path

import pytest

from llamarouter.core.errors import UsageError
from llamarouter.host.listening import Bound, bind


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    # A socket's path has about 100 bytes; pytest's own folders can be longer.
    short = Path(f"/tmp/lr-listening-{os.getpid()}")
    short.mkdir(exist_ok=True)
    for left in short.iterdir():
        left.unlink()
    return short


def close(bound: list[Bound]) -> None:
    for each in bound:
        each.close()


def test_port_zero_is_one_free_port_for_all_addresses() -> None:
    bound = bind(("127.0.0.1", "127.0.0.2"), 0)
    ports = {each.port for each in bound}
    assert len(ports) == 1
    assert [each.url for each in bound] == [f"http://127.0.0.{n}:{bound[0].port}" for n in (1, 2)]
    close(bound)


def test_a_port_in_use_names_who_has_it_and_leaves_nothing_bound() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(UsageError, match=rf"port {port} on 127.0.0.1 is in use by process {os.getpid()} \(.+\)"):
            bind(("127.0.0.2", "127.0.0.1"), port)
        with socket.socket() as again:
            again.bind(("127.0.0.2", port))


def test_an_address_that_another_one_takes_along_is_named() -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with pytest.raises(UsageError, match=r"--host 127\.0\.0\.1: another address of the list means it as well"):
        bind(("0.0.0.0", "127.0.0.1"), port)


def test_an_address_of_another_machine_is_refused() -> None:
    with pytest.raises(UsageError, match=r"--host 192.0.2.1: this machine has no such address"):
        bind(("192.0.2.1",), 0)


def test_a_name_that_is_none_is_refused() -> None:
    with pytest.raises(UsageError, match="no such address"):
        bind(("no such host.invalid",), 0)


def test_a_stale_socket_file_is_replaced_and_is_for_its_owner_alone(folder: Path) -> None:
    path = folder / "door.sock"
    with socket.socket(socket.AF_UNIX) as stale:
        stale.bind(str(path))
    before = os.umask(0)
    try:
        bound = bind((str(path),), 0)
        assert os.umask(0) == 0  # as it was
    finally:
        os.umask(before)
    assert bound[0].port is None
    assert path.stat().st_mode & 0o777 == 0o600
    close(bound)
    assert not path.exists()


def test_nothing_is_left_of_what_was_bound_before_a_refusal(folder: Path) -> None:
    path = folder / "door.sock"
    with pytest.raises(UsageError):
        bind((str(path), "192.0.2.1"), 0)
    assert not path.exists()


def test_a_socket_that_answers_is_not_taken_away(folder: Path) -> None:
    path = folder / "door.sock"
    bound = bind((str(path),), 0)
    with pytest.raises(UsageError, match=rf"{path}: in use by process {os.getpid()} \(.+\); choose another name"):
        bind((str(path),), 0)
    with socket.socket(socket.AF_UNIX) as client:
        client.connect(str(path))
    close(bound)


def test_a_socket_is_taken_away_with_its_listener_but_not_anothers(folder: Path) -> None:
    path, other = folder / "door.sock", folder / "other.sock"
    bound = bind((str(path), str(other)), 0)
    other.unlink()
    with socket.socket(socket.AF_UNIX) as newcomer:
        newcomer.bind(str(other))
        close(bound)
        assert not path.exists()
        assert other.exists()


def test_nothing_is_left_of_sockets_where_an_address_cannot_be_had(folder: Path) -> None:
    path = folder / "door.sock"
    with pytest.raises(UsageError):
        bind((str(path), "192.0.2.1"), 0)
    assert not path.exists()


def test_the_url_of_an_address_has_its_scheme(folder: Path) -> None:
    bound = bind((str(folder / "door.sock"), "127.0.0.1"), 0, "https")
    assert [each.url.partition(":")[0] for each in bound] == ["unix", "https"]
    close(bound)


def test_a_socket_that_is_too_busy_to_answer_is_not_taken_away(folder: Path) -> None:
    path = folder / "door.sock"
    with socket.socket(socket.AF_UNIX) as busy, socket.socket(socket.AF_UNIX) as first:
        busy.bind(str(path))
        busy.listen(0)
        first.connect(str(path))
        with pytest.raises(UsageError, match="in use by process"):
            bind((str(path),), 0)
        assert path.exists()


def test_a_file_that_is_no_socket_is_left_alone(folder: Path) -> None:
    path = folder / "precious.sock"
    path.write_text("data")
    with pytest.raises(UsageError, match="cannot listen there: a file of that name, which is no socket"):
        bind((str(path),), 0)
    assert path.read_text() == "data"


@pytest.mark.parametrize(("hosts", "v6only"), [(("::",), 0), (("::", "0.0.0.0"), 1), (("::1", "127.0.0.1"), 1)])
def test_one_address_takes_both_kinds_of_ip_and_of_several_each_its_own(hosts: tuple[str, ...], v6only: int) -> None:
    with socket.socket(socket.AF_INET6) as free:
        free.bind(("::1", 0))
        port = free.getsockname()[1]
    bound = bind(hosts, port)
    assert bound[0].socket.getsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY) == v6only
    with socket.create_connection(("127.0.0.1", port)), socket.create_connection(("::1", port)):
        close(bound)
