"""A router as systemd runs it: told on a real socket, sockets passed to it, signals, and a loop that hangs."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest

from tests.node_kit import add_model, engine_with

ROOT = Path(__file__).resolve().parents[1]
# As systemd starts it: the sockets from descriptor 3 on, and the process id in the environment.
START = """
import os, sys
given = [int(each) for each in sys.argv[1].split(",") if each]
kept = [os.dup(each) for each in given]
for place, each in enumerate(kept):
    os.dup2(each, 3 + place)
    os.set_inheritable(3 + place, True)
os.environ["LISTEN_PID"] = str(os.getpid())
os.execv(sys.executable, [sys.executable, "-m", "llamarouter", "serve", *sys.argv[2:]])
"""


class Manager:
    """Hears what a service says, and starts it."""

    def __init__(self, tmp_path: Path, folder: Path, heard: socket.socket) -> None:
        self.heard = heard
        models = tmp_path / "models"
        add_model(models, "a")
        self.arguments = ["--models-dir", str(models), "--engine", str(engine_with(tmp_path)), "--no-memory-check"]
        self.environ = {
            "PATH": os.environ["PATH"],
            "HOME": str(tmp_path),
            "LLAMA_CACHE": str(tmp_path / "cache"),
            "LR_RUNTIME_DIR": str(folder / "r"),
            "NOTIFY_SOCKET": heard.getsockname(),
            "WATCHDOG_USEC": "600000",
        }

    @contextmanager
    def service(
        self, *arguments: str, sockets: Sequence[tuple[str, socket.socket]] = ()
    ) -> Iterator[subprocess.Popen[str]]:
        numbers = [each.fileno() for _, each in sockets]
        names = ":".join(name for name, _ in sockets)
        process = subprocess.Popen(
            [sys.executable, "-c", START, ",".join(map(str, numbers)), *self.arguments, *arguments],
            env={**self.environ, "LISTEN_FDS": str(len(numbers)), "LISTEN_FDNAMES": names},
            cwd=ROOT,
            pass_fds=numbers,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        try:
            yield process
        finally:
            process.kill()
            if process.stdout is not None and not process.stdout.closed:
                sys.stdout.write(process.communicate()[0])  # shown where the test fails

    def hear(self, wanted: str) -> list[str]:
        """Every line up to the message that has a line which begins so."""
        lines: list[str] = []
        while True:
            message = self.heard.recv(4096).decode().split("\n")
            lines += message
            if any(line.startswith(wanted) for line in message):
                return lines

    def forget(self) -> None:
        """What was said until now is of no interest."""
        self.heard.setblocking(False)
        try:
            while self.heard.recv(4096):
                pass
        except BlockingIOError:
            self.heard.settimeout(20)


@pytest.fixture
def manager(tmp_path: Path) -> Iterator[Manager]:
    with (
        tempfile.TemporaryDirectory(prefix="lr-", dir="/tmp") as folder,
        socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as heard,
    ):
        heard.bind(f"{folder}/notify")
        heard.settimeout(20)
        yield Manager(tmp_path, Path(folder), heard)


def listener() -> socket.socket:
    bound = socket.socket()
    bound.bind(("127.0.0.1", 0))
    bound.listen()
    return bound


def ask(address: object, path: str = "/health", family: int = socket.AF_INET, host: str = "localhost") -> bytes:
    """The whole answer to a GET."""
    with socket.socket(family) as client:
        client.settimeout(20)
        client.connect(address)  # type: ignore[arg-type]
        client.sendall(f"GET {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n".encode())
        return b"".join(iter(lambda: client.recv(65536), b""))


def test_it_says_that_it_is_ready_well_reloading_and_stopping(manager: Manager) -> None:
    with manager.service("--port", "0") as process:
        assert manager.hear("READY=1") == ["READY=1"]
        manager.hear("WATCHDOG=1")
        assert "STATUS=1 models, 0 loaded, 0 requests being answered" in manager.hear("STATUS=")
        manager.hear("WATCHDOG=1")
        process.send_signal(signal.SIGHUP)
        said = manager.hear("RELOADING=1")
        assert said[-1].startswith("MONOTONIC_USEC=")
        assert int(said[-1].partition("=")[2]) > 0
        manager.hear("READY=1")
        manager.forget()
        # Who asks for it over HTTP, as `lr reload` does, makes it no other reload.
        assert process.stdout is not None
        url = next(line for line in process.stdout if line.startswith("listening on ")).split()[-1]
        assert httpx.post(f"{url}/models/reload", trust_env=False, timeout=20).status_code == 200
        manager.hear("RELOADING=1")
        manager.hear("READY=1")
        process.send_signal(signal.SIGTERM)
        manager.hear("STOPPING=1")
        assert manager.hear("STATUS=")[-1].startswith("STATUS=stopping: ")
        assert process.wait(20) == 0


def test_a_router_that_hangs_says_nothing(manager: Manager) -> None:
    with manager.service("--port", "0") as process:
        manager.hear("WATCHDOG=1")
        process.send_signal(signal.SIGSTOP)
        manager.forget()
        manager.heard.settimeout(1.2)  # twice what the watchdog waits for
        with pytest.raises(TimeoutError):
            manager.hear("WATCHDOG=1")
        process.send_signal(signal.SIGCONT)
        manager.heard.settimeout(20)
        manager.hear("WATCHDOG=1")


def test_who_connects_while_it_starts_anew_is_answered_by_the_next_one(manager: Manager) -> None:
    with listener() as bound:
        with manager.service(sockets=[("llamarouter.socket", bound)]) as first:
            manager.hear("READY=1")
            assert ask(bound.getsockname()).startswith(b"HTTP/1.1 200")
            first.send_signal(signal.SIGTERM)
            assert first.wait(20) == 0
        manager.forget()
        answers: list[bytes] = []
        waiting = [threading.Thread(target=lambda: answers.append(ask(bound.getsockname()))) for _ in range(8)]
        for each in waiting:
            each.start()
        with manager.service(sockets=[("llamarouter.socket", bound)]):
            for each in waiting:
                each.join()
        assert [answer[:12] for answer in answers] == [b"HTTP/1.1 200"] * 8


def test_who_connects_during_the_drain_is_left_to_the_next_one(manager: Manager) -> None:
    with listener() as bound, socket.socket() as newcomer:
        with manager.service(sockets=[("", bound)]) as first, socket.socket() as held:
            manager.hear("READY=1")
            held.connect(bound.getsockname())
            body = json.dumps({"model": "a", "stream": True, "messages": [], "max_tokens": 100_000}).encode()
            head = f"POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len(body)}\r\n\r\n"
            held.sendall(head.encode() + body)
            held.settimeout(20)
            assert held.recv(12) == b"HTTP/1.1 200"
            first.send_signal(signal.SIGTERM)
            manager.hear("STOPPING=1")
            # Its listening sockets are closed in the step that says so.
            manager.hear("WATCHDOG=1")
            newcomer.settimeout(20)
            newcomer.connect(bound.getsockname())
            newcomer.sendall(b"GET /readyz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
            first.send_signal(signal.SIGTERM)  # it hurries
            assert first.wait(20) == 0
        manager.forget()
        with manager.service(sockets=[("", bound)]):
            assert newcomer.recv(12) == b"HTTP/1.1 200"


def test_the_socket_of_administration_is_told_from_the_public_one_by_its_name(manager: Manager) -> None:
    path = f"{Path(manager.environ['LR_RUNTIME_DIR']).parent}/admin.sock"
    with listener() as bound, socket.socket(socket.AF_UNIX) as admin:
        admin.bind(path)
        admin.listen()
        with manager.service("--api-key", "k", sockets=[("admin", admin), ("x", bound)]) as process:
            manager.hear("READY=1")
            assert ask(bound.getsockname(), "/lr/status").startswith(b"HTTP/1.1 401")
            assert ask(path, "/lr/status", socket.AF_UNIX).startswith(b"HTTP/1.1 200")
            listed = subprocess.run(
                [sys.executable, "-m", "llamarouter", "ls"],
                env={"PATH": os.environ["PATH"], "LR_ADMIN_SOCKET": path, "LR_RUNTIME_DIR": f"{path}.none"},
                cwd=ROOT,
                capture_output=True,
                text=True,
                check=True,
            )
            assert "unloaded" in listed.stdout
            process.send_signal(signal.SIGTERM)
            assert process.wait(20) == 0
        assert os.path.exists(path)  # it is not ours


def test_a_passed_socket_that_all_machines_reach_wants_a_key_as_any_other(manager: Manager) -> None:
    with socket.socket() as bound:
        bound.bind(("0.0.0.0", 0))
        bound.listen()
        with manager.service(sockets=[("x", bound)]) as process:
            said, _ = process.communicate(timeout=20)
            assert process.returncode == 2
            assert "lr: --host 0.0.0.0 can be reached from other machines and there is no key" in said


def test_a_passed_socket_is_guarded_by_its_own_address_whatever_the_command_line_says(manager: Manager) -> None:
    with listener() as bound, manager.service("--host", "0.0.0.0", "--allow-open", sockets=[("x", bound)]):
        manager.hear("READY=1")
        assert ask(bound.getsockname()).startswith(b"HTTP/1.1 200")
        assert ask(bound.getsockname(), host="evil.example").startswith(b"HTTP/1.1 421")


def test_a_passed_socket_that_does_not_listen_is_refused_in_a_line(manager: Manager) -> None:
    with socket.socket() as bound, manager.service(sockets=[("x", bound)]) as process:
        said, _ = process.communicate(timeout=20)
        assert process.returncode == 2
        assert "lr: the socket x that systemd passes (descriptor 3) does not listen: its unit wants" in said
