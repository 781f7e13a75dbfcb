"""`lr serve` that cannot start: exit code 2 and one line that says what to do, never a traceback."""

from __future__ import annotations

import os
import shlex
import socket
import stat
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.node_kit import add_model, engine_with

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture
def runtime() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="lr-", dir="/tmp") as folder:
        yield Path(folder)


def serve(tmp_path: Path, runtime: Path, *words: object, **environ: str) -> subprocess.CompletedProcess[str]:
    """Run `lr serve` to its end."""
    env = {
        "PATH": os.environ["PATH"],
        "HOME": str(tmp_path),
        "LLAMA_CACHE": str(tmp_path / "cache"),
        "LR_RUNTIME_DIR": str(runtime),
        **environ,
    }
    command = [sys.executable, "-m", "llamarouter", "serve", "--port", "0", "--engine", str(tmp_path / "llama-server")]
    return subprocess.run(
        [*command, *map(str, words)], env=env, cwd=ROOT, capture_output=True, text=True, timeout=30, check=False
    )


# What no router needs until it listens, and most never.
HEAVY = {
    *("huggingface_hub", "httpx", "httpcore", "requests", "rich", "pygments", "numpy", "pydantic", "xllamacpp", "yaml"),
    *("unittest", "http.server", "xml", "sqlite3", "curses", "multiprocessing.pool", "concurrent.futures.process"),
}
HEAVY_OF_OURS = {
    *("cli.commands", "cli.doctor", "cli.output", "cli.serve_help", "cli.service", "cli.server_client"),
    *("host.build", "host.checks", "host.demo", "host.download", "host.fetch", "host.hub", "host.service_files"),
}


def test_nothing_heavy_is_imported_before_it_listens(tmp_path: Path, runtime: Path) -> None:
    add_model(tmp_path / "models", "a")
    engine = engine_with(tmp_path)
    command = [sys.executable, "-u", "-X", "importtime", "-m", "llamarouter", "serve", "--port", "0"]
    imported: set[str] = set()
    with subprocess.Popen(
        [*command, "--engine", engine, "--models-dir", tmp_path / "models"],
        env={"PATH": os.environ["PATH"], "HOME": str(tmp_path), "LR_RUNTIME_DIR": str(runtime)},
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,  # one pipe: what it imports and what it says come in their order
        text=True,
    ) as process:
        (limit := threading.Timer(30, process.kill)).start()
        try:
            assert process.stdout is not None
            for line in process.stdout:
                if line.startswith("import time:"):
                    imported.add(line.rpartition("|")[2].strip())
                elif line.startswith("listening on "):
                    break
            else:
                pytest.fail("it ended before it listened")
        finally:
            process.kill()
            limit.cancel()
    assert "llamarouter.server.run" in imported
    assert imported & HEAVY == set()
    assert imported & {f"llamarouter.{name}" for name in HEAVY_OF_OURS} == set()


def refusal(done: subprocess.CompletedProcess[str]) -> str:
    assert done.returncode == 2, done.stdout + done.stderr
    (line,) = done.stderr.splitlines()
    assert line.startswith("lr: ")
    assert "listening" not in done.stdout
    return line


CASES = {
    "--frobnicate": "unknown option --frobnicate",
    "--modles-max 3": "--models-max",
    "--models-max": "--models-max",
    "--models-max many": "--models-max must be a whole number, not 'many'",
    "--port 99999": "--port must be from 0 to 65535, not 99999",
    "--max-wait soon": "--max-wait must be a number of seconds",
    "--max-wait -1": "--max-wait must be a number of seconds",
    "--log-level loud": "--log-level must be one of",
    "-m TMP/nowhere.gguf": "-m TMP/nowhere.gguf: there is no such file",
    "-m TMP/file": "-m TMP/file: ",
    "-m TMP/models/m.gguf -hf user/repo": "-m and -hf name a model each",
    "-hf user": "-hf 'user': not the name of a model on the Hub",
    "-hf user/repo --offline": "-hf user/repo: not in the cache, and --offline forbids to fetch it",
    "--default-model nowhere": "--default-model nowhere: there is no such model",
    "-m TMP/models/m.gguf --default-model mm": "--default-model mm: there is no such model; did you mean m?",
    "--default-model user/repo --offline": "--default-model user/repo: there is no such model",
    "--log-file TMP/nowhere/log": "--log-file TMP/nowhere/log: cannot be written (No such file or directory)",
    "--models-dir TMP/nowhere": "TMP/nowhere: there is no such folder",
    "--models-dir TMP/file": "TMP/file",
    "--models-preset TMP/nowhere.ini": "TMP/nowhere.ini: cannot be read (No such file or directory)",
    "--models-preset TMP/latin1.ini": "TMP/latin1.ini: cannot be read (line 1 is not UTF-8 text)",
    "--models-preset TMP": "TMP: cannot be read (Is a directory)",
    "--api-key-file TMP/nowhere": "TMP/nowhere",
    "--path TMP/nowhere": "TMP/nowhere: there is no such folder",
    "--host 0.0.0.0": "--allow-open",
    "--host ::": "--allow-open",
    "--host 192.0.2.1 --allow-open": "this machine has no such address",
    "--host no.such.host.invalid --allow-open": "no such address",
    "--host TMP/file.sock": "cannot listen there",
    f"--host /tmp/{'x' * 110}.sock": "longer than the 10",
    "--runtime-dir /proc/nowhere": "set LR_RUNTIME_DIR to a folder that can be written to",
    f"--runtime-dir /tmp/{'y' * 110}": "socket",
    "--engine TMP/nowhere": "TMP/nowhere",
    "--engine TMP/file": "TMP/file",
}


@pytest.mark.timeout(300)  # dozens of routers
def test_what_cannot_be_started_is_one_line_and_exit_code_two(tmp_path: Path, runtime: Path) -> None:
    engine_with(tmp_path)
    (tmp_path / "file").write_text("text", encoding="utf-8")
    (tmp_path / "file.sock").write_text("text", encoding="utf-8")
    (tmp_path / "latin1.ini").write_bytes(b"[m\xe9]\n")
    add_model(tmp_path / "models", "m")

    def run(words: str) -> tuple[str, subprocess.CompletedProcess[str]]:
        return words, serve(tmp_path, runtime, *shlex.split(words.replace("TMP", str(tmp_path))))

    with ThreadPoolExecutor(2) as pool:
        for words, done in pool.map(run, CASES):
            line = refusal(done)
            assert CASES[words].replace("TMP", str(tmp_path)) in line, (words, line)
            assert len(line) < 400, words


def test_a_port_in_use_names_the_process(tmp_path: Path, runtime: Path) -> None:
    engine_with(tmp_path)
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        line = refusal(serve(tmp_path, runtime, "--port", port))
    assert f"port {port} on 127.0.0.1 is in use by process {os.getpid()} (" in line
    assert "--port N" in line


def test_a_runtime_folder_of_somebody_else_is_refused(tmp_path: Path, runtime: Path) -> None:
    engine_with(tmp_path)
    open_to_all = runtime / "open"
    open_to_all.mkdir()
    open_to_all.chmod(0o777)
    line = refusal(serve(tmp_path, runtime, "--runtime-dir", open_to_all))
    assert str(open_to_all) in line
    assert stat.S_IMODE(open_to_all.stat().st_mode) == 0o777


def test_keys_in_the_environment_open_it_to_the_network_and_are_not_shown(tmp_path: Path, runtime: Path) -> None:
    engine_with(tmp_path)
    taken = ("--host", "0.0.0.0", "--host", "192.0.2.1")
    line = refusal(serve(tmp_path, runtime, *taken, LLAMA_API_KEY="sk-CANARY"))
    # The key is enough for the first address; the second one is not of this machine.
    assert "192.0.2.1" in line
    assert "CANARY" not in line


def test_models_that_cannot_be_read_do_not_stop_the_start(tmp_path: Path, runtime: Path) -> None:
    engine_with(tmp_path)
    add_model(tmp_path / "models", "m")
    (tmp_path / "models" / "bad.gguf").write_bytes(b"GGUF")
    (tmp_path / "models" / "gone.gguf").symlink_to("nowhere")
    (tmp_path / "p.ini").write_text("[x]\nfrobnicate = 1\n[y]\nlr-engine = /nowhere\nmodel = m\n", encoding="utf-8")
    # It starts, and the port that is taken by its own second address ends it again.
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        words = ("--models-dir", tmp_path / "models", "--models-preset", tmp_path / "p.ini", "--port", port)
        line = refusal(serve(tmp_path, runtime, *words))
    assert f"port {port}" in line
