"""The embedded engine, as the real process that it is: start, serve, leave; and what it refuses."""

from __future__ import annotations

import http.client
import json
import os
import re
import select
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import xllamacpp

from llamarouter.core.flags import OptionTable
from llamarouter.host import embedded_fallback
from llamarouter.host.embedded_parser import wheel_parser
from tests.tiny_gguf import write_llama

COMMAND = (sys.executable, "-m", "llamarouter.host.embedded")
EXIT_LINE = b"cmd_router_to_child:exit\n"
SECONDS = 20  # far more than anything here takes


class SocketConnection(http.client.HTTPConnection):
    def __init__(self, path: str) -> None:
        super().__init__("localhost", timeout=SECONDS)
        self.path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(SECONDS)
        self.sock.connect(self.path)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_llama(tmp_path_factory.mktemp("models") / "tiny.gguf")


@pytest.fixture
def socket_path() -> Iterator[str]:
    with tempfile.TemporaryDirectory(prefix="lr") as folder:  # a short name: sockets allow some 100 bytes
        yield f"{folder}/child.sock"


class Child:
    """An embedded engine in a router's hands."""

    def __init__(self, model: Path, socket_path: str, *options: str) -> None:
        self.socket_path = socket_path
        self.connections: list[http.client.HTTPConnection] = []
        self.answers: list[http.client.HTTPResponse] = []
        self.process = subprocess.Popen(
            [*COMMAND, "--model", str(model), "--host", socket_path, *options],
            env=os.environ | {"LLAMA_SERVER_ROUTER_PORT": "0"},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
        )

    def __enter__(self) -> Child:
        return self

    def __exit__(self, *_: object) -> None:
        self.process.kill()
        self.process.wait(SECONDS)
        for opened in (self.process.stdin, self.process.stdout, *self.connections, *self.answers):
            assert opened is not None
            opened.close()

    def until(self, state: str) -> dict[str, Any]:
        """Read state lines up to this one; returns its payload."""
        assert self.process.stdout is not None
        for line in self.process.stdout:
            message = json.loads(line.removeprefix(b"cmd_child_to_router:state:"))
            if message["state"] == state:
                payload: dict[str, Any] = message["payload"]
                return payload
        raise AssertionError(f"the child ended before it was {state}")

    def say(self, line: bytes) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(line)
        self.process.stdin.flush()

    def hang_up(self) -> None:
        assert self.process.stdin is not None
        self.process.stdin.close()

    def post(self, path: str, body: dict[str, object]) -> http.client.HTTPResponse:
        connection = SocketConnection(self.socket_path)
        self.connections.append(connection)
        connection.request("POST", path, json.dumps(body))
        self.answers.append(connection.getresponse())
        return self.answers[-1]


def run(*argv: str, **environ: str) -> subprocess.CompletedProcess[str]:
    environment = os.environ | environ
    return subprocess.run([*COMMAND, *argv], env=environment, capture_output=True, text=True, timeout=SECONDS)


def test_a_child_like_any_other(model: Path, socket_path: str) -> None:
    with Child(model, socket_path, "-c", "256", "-np", "1", "--alias", "tiny") as child:
        assert child.until("loading")["stages"] == ["text_model"]
        ready = child.until("ready")
        assert ready["id"] == "tiny"
        assert ready["meta"]["n_ctx"] == 256
        answer = child.post("/v1/chat/completions", {"messages": [{"role": "user", "content": "hi"}], "max_tokens": 3})
        assert answer.status == 200
        assert json.loads(answer.read())["usage"]["completion_tokens"] > 0
        child.say(EXIT_LINE)
        assert child.process.wait(SECONDS) == 0


def test_the_end_of_stdin_ends_it(model: Path, socket_path: str) -> None:
    with Child(model, socket_path) as child:
        child.until("ready")
        child.hang_up()
        assert child.process.wait(SECONDS) == 1


def test_the_end_of_stdin_ends_it_while_it_loads(model: Path, socket_path: str) -> None:
    with Child(model, socket_path) as child:
        child.until("loading")
        child.hang_up()
        assert child.process.wait(SECONDS) == 1


def test_lines_it_does_not_know_are_not_the_end(model: Path, socket_path: str) -> None:
    with Child(model, socket_path) as child:
        child.until("ready")
        child.say(b"cmd_router_to_child:dance\n" * 5000 + b"x" * 200_000 + b"\n")
        assert child.post("/tokenize", {"content": "a"}).status == 200
        child.say(EXIT_LINE[:9])
        child.say(EXIT_LINE[9:])
        assert child.process.wait(SECONDS) == 0


def test_the_exit_line_cuts_a_running_stream(model: Path, socket_path: str) -> None:
    with Child(model, socket_path, "-c", "512") as child:
        child.until("ready")
        stream = child.post("/completion", {"prompt": "a", "n_predict": -1, "stream": True, "ignore_eos": True})
        assert stream.readline().startswith(b"data: ")
        child.say(EXIT_LINE)
        assert child.process.wait(SECONDS) == 0


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_it(model: Path, socket_path: str, number: signal.Signals) -> None:
    with Child(model, socket_path) as child:
        child.until("ready")
        child.process.send_signal(number)
        assert child.process.wait(SECONDS) == -number


def test_alone_it_says_where_it_listens(model: Path) -> None:
    command = [*COMMAND, "--model", str(model), "--port", "0"]
    with subprocess.Popen(command, stdin=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        line = next(line for line in process.stderr if line.startswith("listening on "))
        process.terminate()
    assert re.fullmatch(r"listening on http://127\.0\.0\.1:[1-9]\d*\n", line)


def test_it_dies_with_its_parent(model: Path, socket_path: str) -> None:
    # A parent that starts a child, says its number and is gone without having closed anything.
    script = (
        "import os, subprocess, sys\n"
        "pipes = {'stdin': subprocess.PIPE, 'stdout': subprocess.PIPE, 'stderr': subprocess.DEVNULL}\n"
        "child = subprocess.Popen(sys.argv[1:], **pipes)\n"
        "next(line for line in child.stdout if b'ready' in line)\n"
        "print(child.pid, flush=True)\n"
        "child.send_signal(19)\n"  # stopped: it cannot see that its stdin has ended
        "os.kill(os.getpid(), 9)\n"
    )
    command = [sys.executable, "-c", script, *COMMAND, "--model", str(model), "--host", socket_path]
    environ = os.environ | {"LLAMA_SERVER_ROUTER_PORT": "0"}
    with subprocess.Popen(command, env=environ, stdout=subprocess.PIPE) as parent:
        assert parent.stdout is not None
        pid = int(parent.stdout.readline())
    assert not is_alive(pid)


def is_alive(pid: int) -> bool:
    """Whether the process still runs; waits, bounded, as the kernel kills it a moment after its parent."""
    try:
        handle = os.pidfd_open(pid)
    except ProcessLookupError:
        return False
    try:
        gone, _, _ = select.select([handle], [], [], SECONDS)
    finally:
        os.close(handle)
    return not gone


@pytest.mark.parametrize(
    ("argv", "named"),
    [
        (["--no-such-option"], "--no-such-option"),
        (["--ctx-size", "much"], "--ctx-size"),
        (["-ngl", "99"], "-ngl 99"),
        (["--gpu-layers", "all"], "--gpu-layers all"),
        (["--n-gpu-layers-draft", "3"], "--n-gpu-layers-draft 3"),
    ],
)
def test_what_it_cannot_do_is_named(model: Path, argv: list[str], named: str) -> None:
    result = run("--model", str(model), *argv)
    assert result.returncode == 1
    assert named in result.stderr
    assert "Traceback" not in result.stderr


def test_gpu_layers_from_the_environment_are_refused(model: Path) -> None:
    result = run("--model", str(model), LLAMA_ARG_N_GPU_LAYERS="7")
    assert result.returncode == 1
    assert "LLAMA_ARG_N_GPU_LAYERS" in result.stderr


def test_no_gpu_layers_are_fine(model: Path, socket_path: str) -> None:
    with Child(model, socket_path, "-ngl", "0") as child:
        child.until("ready")


def test_no_model_is_one_line() -> None:
    result = run()
    assert result.returncode == 1
    assert "--model" in result.stderr
    assert result.stderr.count("\n") == 1


def test_a_broken_model_says_why_last(tmp_path: Path) -> None:
    broken = tmp_path / "broken.gguf"
    broken.write_bytes(b"GGUF" + bytes(100))
    result = run("--model", str(broken))
    assert result.returncode == 1
    # Its logger may still write an empty line behind the last word.
    last_words = [line for line in result.stderr.splitlines() if len(line.split()) > 2]
    assert "model loading error" in last_words[-1]
    assert "Traceback" not in result.stderr


def test_the_version_carries_the_build() -> None:
    result = run("--version")
    number = result.stderr.split()[1]
    assert result.returncode == 0
    assert int(number) > 10_000


def test_the_help_is_an_option_table() -> None:
    table = OptionTable.parse(run("--help").stdout)
    assert len(table.options) > 200
    for spelling in ("-ngl", "--ctx-size", "--threads-http", "--host", "-nkvo"):
        assert table.find(spelling)


def test_the_wheels_own_parser_can_be_called() -> None:
    parse = wheel_parser()
    assert parse is not None
    params = xllamacpp.CommonParams()
    assert parse(params, ["-c", "123", "--alias", "a,b", "--host", "x.sock"])
    assert (params.n_ctx, params.model_alias, params.hostnames) == (123, {"a", "b"}, ["x.sock"])


def test_the_short_list_stands_in_for_the_parser(capfd: pytest.CaptureFixture[str]) -> None:
    params = xllamacpp.CommonParams()
    argv = ["-m", "f", "-c", "77", "-t", "3", "-a", "a,b", "--host", "x.sock", "--embeddings", "--mmproj", "p"]
    assert embedded_fallback.parse(params, argv)
    assert (params.model.path, params.n_ctx, params.cpuparams.n_threads) == ("f", 77, 3)
    assert (params.model_alias, params.hostnames, params.embedding) == ({"a", "b"}, ["x.sock"], True)
    assert params.mmproj.path == "p"
    for wrong, named in ((["-ngl", "9"], "-ngl"), (["-c", "much"], "-c much"), (["-c"], "-c")):
        assert not embedded_fallback.parse(params, wrong)
        assert named in capfd.readouterr().err


def test_every_row_of_the_short_list_can_be_set_and_is_known_to_the_real_parser() -> None:
    parse = wheel_parser()
    assert parse is not None
    table = OptionTable.parse(embedded_fallback.help_text())
    for option in table.options:
        for name in option.names:
            argv = [name, "5"] if option.arity else [name]
            assert embedded_fallback.parse(xllamacpp.CommonParams(), argv)
            assert parse(xllamacpp.CommonParams(), argv)
