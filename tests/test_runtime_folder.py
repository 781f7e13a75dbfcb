"""The folder of a running router: private, held by one, swept by the next."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from llamarouter.core.errors import UsageError
from llamarouter.host.runtime_folder import SOCKET_PATH_LIMIT, RuntimeFolder, base_of, running

# Holds the folder of port 8080 until its stdin ends.
HOLDER = """
import sys
from llamarouter.host.runtime_folder import RuntimeFolder
with RuntimeFolder.open({"LR_RUNTIME_DIR": sys.argv[1]}, 8080) as folder:
    open(folder.socket_path(), "w").close()
    print("held", flush=True)
    sys.stdin.read()
"""


@pytest.fixture
def base() -> Iterator[str]:
    with tempfile.TemporaryDirectory(prefix="lr-", dir="/tmp") as folder:
        yield os.path.join(folder, "routers")


@pytest.fixture
def environ(base: str) -> dict[str, str]:
    return {"LR_RUNTIME_DIR": base}


@pytest.fixture
def holder(base: str) -> Iterator[subprocess.Popen[bytes]]:
    pipe = subprocess.PIPE
    with subprocess.Popen([sys.executable, "-c", HOLDER, base], stdin=pipe, stdout=pipe) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"held\n"
        yield process
        process.kill()


def mode_of(path: str) -> int:
    return os.stat(path).st_mode & 0o777


def test_it_is_private_and_named_after_the_port(base: str, environ: dict[str, str]) -> None:
    with RuntimeFolder.open(environ, 8080) as folder:
        assert folder.path == f"{base}/8080"
        assert folder.admin_socket == f"{base}/8080/admin.sock"
        assert mode_of(base) == mode_of(folder.path) == 0o700
        one, two = folder.socket_path(), folder.socket_path()
        assert one != two
        assert os.path.dirname(one) == folder.path
        assert len(os.fsencode(one)) <= SOCKET_PATH_LIMIT


def test_a_umask_of_the_operator_does_not_open_it(environ: dict[str, str]) -> None:
    before = os.umask(0)
    try:
        with RuntimeFolder.open(environ, 1) as folder:
            assert mode_of(folder.path) == 0o700
    finally:
        os.umask(before)


def test_running_tells_pid_and_socket(environ: dict[str, str]) -> None:
    assert running(environ) == []
    with RuntimeFolder.open(environ, 9000) as folder, RuntimeFolder.open(environ, 80):
        found = running(environ)
        assert [(router.port, router.pid) for router in found] == [(80, os.getpid()), (9000, os.getpid())]
        assert found[1].admin_socket == folder.admin_socket
    assert running(environ) == []


def test_a_second_router_is_told_who_has_it(environ: dict[str, str], holder: subprocess.Popen[bytes]) -> None:
    with (
        pytest.raises(UsageError, match=rf"8080: held by another router \(pid {holder.pid}\)"),
        RuntimeFolder.open(environ, 8080),
    ):
        pass
    with RuntimeFolder.open(environ, 8081):
        assert [router.port for router in running(environ)] == [8080, 8081]


def test_what_a_killed_router_left_is_swept(
    base: str, environ: dict[str, str], holder: subprocess.Popen[bytes]
) -> None:
    holder.kill()
    holder.wait()
    assert running(environ) == []
    assert len(list(Path(base, "8080").glob("*.sock"))) == 1
    with RuntimeFolder.open(environ, 8080) as folder:
        assert list(Path(folder.path).glob("*.sock")) == []
        assert [router.pid for router in running(environ)] == [os.getpid()]


def test_its_sockets_and_notes_go_with_it(environ: dict[str, str]) -> None:
    with RuntimeFolder.open(environ, 1) as folder:
        Path(folder.socket_path()).touch()
        folder.write_info({"pid": 1})
    assert os.listdir(folder.path) == ["lock"]


def test_a_look_does_not_get_in_the_way_of_a_start(environ: dict[str, str]) -> None:
    import fcntl

    with RuntimeFolder.open(environ, 1) as folder:
        lock = os.path.join(folder.path, "lock")
    looking = os.open(lock, os.O_RDONLY)
    fcntl.flock(looking, fcntl.LOCK_SH)
    import threading

    threading.Timer(0.03, os.close, (looking,)).start()
    with RuntimeFolder.open(environ, 1):
        pass


def test_a_folder_that_was_cleaned_away_comes_back(environ: dict[str, str]) -> None:
    with RuntimeFolder.open(environ, 1) as folder:
        for name in os.listdir(folder.path):
            os.unlink(os.path.join(folder.path, name))
        os.rmdir(folder.path)
        assert os.path.isdir(os.path.dirname(folder.socket_path()))
        assert mode_of(folder.path) == 0o700


def make_open(path: str) -> None:
    os.makedirs(path)
    os.chmod(path, 0o755)


def make_link(path: str) -> None:
    os.makedirs(path + ".real", mode=0o700)
    os.symlink(path + ".real", path)


def make_file(path: str) -> None:
    os.makedirs(os.path.dirname(path), mode=0o700, exist_ok=True)
    Path(path).touch()


@pytest.mark.parametrize(
    ("make", "words"),
    [(make_open, "open to other users"), (make_link, "links are refused"), (make_file, "not a folder")],
)
@pytest.mark.parametrize("level", ["", "/8080"])
def test_a_folder_that_is_not_ours_alone_is_refused(
    base: str, environ: dict[str, str], make: object, words: str, level: str
) -> None:
    if level:
        os.makedirs(base, mode=0o700)
    make(base + level)  # type: ignore[operator]
    with pytest.raises(UsageError, match=words), RuntimeFolder.open(environ, 8080):
        pass
    assert running(environ) == []


def test_a_folder_of_somebody_else_is_refused(base: str) -> None:
    theirs = "/usr"
    if os.geteuid() == 0:
        theirs = base
        os.makedirs(theirs, mode=0o700)
        os.chown(theirs, 12345, 12345)
    with pytest.raises(UsageError, match=r"belongs to another user"), RuntimeFolder.open({"LR_RUNTIME_DIR": theirs}, 1):
        pass


def test_a_path_that_is_too_long_for_a_socket() -> None:
    environ = {"LR_RUNTIME_DIR": "/tmp/" + "x" * 90}
    with pytest.raises(UsageError, match=r"too long for a socket's path by \d+ bytes"), RuntimeFolder.open(environ, 1):
        pass
    assert not os.path.exists(environ["LR_RUNTIME_DIR"])


def test_a_place_that_cannot_be_written_to() -> None:
    with (
        pytest.raises(UsageError, match=r"^runtime folder /proc/nowhere/1: .*set LR_RUNTIME_DIR"),
        RuntimeFolder.open({"LR_RUNTIME_DIR": "/proc/nowhere"}, 1),
    ):
        pass


def test_where_it_is() -> None:
    assert base_of({"LR_RUNTIME_DIR": "/a", "XDG_RUNTIME_DIR": "/b"}) == "/a"
    assert base_of({"XDG_RUNTIME_DIR": "/b"}) == "/b/llamarouter"
    fallback = base_of({"TMPDIR": "/t"})
    assert fallback == "/run/llamarouter" if os.geteuid() == 0 else fallback.startswith("/t/llamarouter-")
