"""Real shells complete commands, options and models of `lr`; what takes too long or goes wrong is no names."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from llamarouter.cli.completion import SHELLS, in_time
from llamarouter.cli.failures import RouterFailure
from tests.router_double import Reply, routing
from tests.terminal import Terminal
from tests.tiny_gguf import write_llama

MODELS = {
    "data": [{"id": name, "status": {"value": "unloaded"}} for name in ("small", "user/big:Q4_K_M", "user/big:Q8_0")]
}


@pytest.fixture
def environ(tmp_path: Path) -> dict[str, str]:
    """Where `lr` is on the PATH, and nothing of whoever runs the tests."""
    programs = tmp_path / "programs"
    programs.mkdir()
    (programs / "lr").write_text(f'#!/bin/sh\nexec "{sys.executable}" -m llamarouter "$@"\n')
    (programs / "lr").chmod(0o755)
    (tmp_path / "run").mkdir(mode=0o700)
    return {
        "PATH": f"{programs}:{os.environ['PATH']}",
        "HOME": str(tmp_path),
        "XDG_RUNTIME_DIR": str(tmp_path / "run"),
        "LR_ADMIN_SOCKET": str(tmp_path / "none"),
        "LR_COMPLETION_SECONDS": "15",  # this machine may be busy
        "PYTHONPATH": str(Path(__file__).parents[1]),
    }


@pytest.fixture
def router(environ: dict[str, str]) -> Iterator[None]:
    with routing({"GET /models": Reply(MODELS)}) as double:
        environ["LR_URL"] = double.url
        yield


def run(argv: list[str], environ: dict[str, str]) -> subprocess.CompletedProcess[str]:
    done = subprocess.run(argv, env=environ, capture_output=True, text=True, timeout=30, check=False)
    assert done.stderr == ""
    return done


def in_bash(line: str, environ: dict[str, str], settings: str = "") -> list[str]:
    """What bash would offer for a line with the cursor at its end."""
    ask = 'eval "$(lr completion bash)"\nCOMP_LINE=$1 COMP_POINT=${#1}\n_lr_completion lr\n'
    ask += 'printf "%s\\n" "${COMPREPLY[@]}"'
    done = run(["bash", "--norc", "-c", f"{settings}\n{ask}", "bash", line], environ)
    return done.stdout.split("\n")[:-1] if done.stdout != "\n" else []


@pytest.mark.usefixtures("router")
@pytest.mark.parametrize(
    ("line", "offered"),
    [
        ("lr un", ["unload", "unpin"]),
        ("lr load s", ["small"]),
        ("lr load ", ["small", "user/big:Q4_K_M", "user/big:Q8_0"]),
        ("lr load user/b", ["user/big:Q4_K_M", "user/big:Q8_0"]),
        ("lr load user/big:", ["Q4_K_M", "Q8_0"]),  # bash replaces what stands behind the colon
        ("lr load small user/big:Q8", ["Q8_0"]),
        ("lr load 'user/big:Q8", ["user/big:Q8_0"]),  # within quotes a colon ends no word
        ("lr events --model=user/big:Q8", ["Q8_0"]),
        ("lr events --mo", ["--model"]),
        ("lr key ro", ["rotate"]),
        ("lr serve --memory-b", ["--memory-budget"]),
        ("lr nothing ", []),
        ("lr load nobody", []),
    ],
)
def test_bash_offers_what_may_stand_there(line: str, offered: list[str], environ: dict[str, str]) -> None:
    assert in_bash(line, environ) == offered


@pytest.mark.usefixtures("router")
def test_bash_that_takes_a_colon_for_a_letter_gets_the_whole_name(environ: dict[str, str]) -> None:
    assert in_bash("lr load user/big:Q8", environ, "COMP_WORDBREAKS=' '") == ["user/big:Q8_0"]


@pytest.mark.usefixtures("router")
def test_a_person_at_bash_presses_tab(environ: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "rc").write_text('PS1="ready> "\neval "$(lr completion bash)"\n')
    for name, value in environ.items():
        monkeypatch.setenv(name, value)
    code = "import os, sys; os.execvp('bash', ['bash', '--noprofile', '--rcfile', sys.argv[1], '-i'])"
    terminal = Terminal(str(tmp_path / "rc"), program=["-c", code])
    terminal.until("ready> ")
    terminal.type("echo asked: ; lr load user/big:Q8\t\b\b\b\x01#\r")
    assert terminal.until("_0 ").endswith("lr load user/big:Q8")  # as it stands in the line, once
    terminal.until("ready> ")
    terminal.type("exit\r")
    terminal.end()


@pytest.mark.shells
@pytest.mark.usefixtures("router")
def test_fish_offers_names_of_models(environ: dict[str, str]) -> None:
    for line, offered in (("lr load user/big:Q8", ["user/big:Q8_0"]), ("lr unl", ["unload"])):
        done = run(["fish", "-N", "-c", 'lr completion fish | source; complete -C "$argv"', line], environ)
        assert [each.partition("\t")[0] for each in done.stdout.splitlines()] == offered


@pytest.mark.shells
@pytest.mark.usefixtures("router")
def test_a_person_at_zsh_presses_tab(environ: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rc = 'PS1="ready> "\nautoload -U compinit; compinit -D -u\neval "$(lr completion zsh)"\nlr() { echo "asked: $*" }\n'
    (tmp_path / ".zshrc").write_text(rc)
    for name, value in environ.items():
        monkeypatch.setenv(name, value)
    code = "import os; os.execvp('zsh', ['zsh', '-d', '-i'])"
    terminal = Terminal(program=["-c", code])
    terminal.until("ready> ")
    terminal.type("lr load user/big:Q8\t\r")
    terminal.until("asked: ")
    assert terminal.until("ready> ").partition("\r")[0] == "load user/big:Q8_0"
    terminal.type("exit\r")
    terminal.end()


@pytest.mark.parametrize("shell", SHELLS)
def test_what_a_shell_gets_is_sound(shell: str, environ: dict[str, str]) -> None:
    script = run(["lr", "completion", shell], environ).stdout
    assert "_lr_completion" in script
    assert script == run(["lr", "completion"], {**environ, "SHELL": f"/opt/{shell}"}).stdout
    if shutil.which(shell) is not None:
        parsed = subprocess.run([shell, "-n"], input=script, capture_output=True, text=True, timeout=30, check=False)
        assert (parsed.returncode, parsed.stderr) == (0, "")


def test_an_unknown_shell_is_one_line(environ: dict[str, str]) -> None:
    done = subprocess.run(
        ["lr", "completion"],
        env={**environ, "SHELL": "/bin/dash"},
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert (done.returncode, done.stderr) == (2, "lr: for which shell? lr completion bash|zsh|fish\n")


def test_without_a_router_the_folders_are_asked(environ: dict[str, str], tmp_path: Path) -> None:
    (tmp_path / "models").mkdir()
    write_llama(tmp_path / "models" / "local.gguf")
    environ["LLAMA_ARG_MODELS_DIR"] = str(tmp_path / "models")
    assert in_bash("lr explain lo", environ) == ["local"]


def test_a_router_that_does_not_answer_keeps_nobody_waiting() -> None:
    asked = threading.Event()
    began = time.monotonic()
    assert in_time(lambda: [str(asked.wait(20))]) == []
    assert time.monotonic() - began < 2


@pytest.mark.parametrize("said", ["", "soon", "-1", "nan", "1e9"])
def test_how_long_is_a_number_of_seconds_or_it_is_not_said(said: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LR_COMPLETION_SECONDS", said)
    asked = threading.Event()
    began = time.monotonic()
    assert in_time(lambda: [str(asked.wait(20))]) == []
    assert time.monotonic() - began < 2


def test_what_goes_wrong_is_no_names() -> None:
    def refused() -> list[str]:
        raise RouterFailure(401, "Invalid API Key", "invalid_api_key")

    assert in_time(refused) == []
    assert in_time(lambda: ["a"]) == ["a"]
