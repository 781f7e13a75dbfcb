"""Asking `llama-fit-params`: where it lies, what it is told, and what happens where it is missing, fails or hangs."""

from __future__ import annotations

import os
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest

from llamarouter.host.engine import Engine, EngineKind
from llamarouter.host.fit_params import FitProblem, fit_program_of, run_fit
from tests.engine_table import HELP, TABLE

PRINTS = "-fitp, --fit-print [on|off]             print the estimated required memory\n"
FIT_HELP = (
    "-m,    --model FNAME                    model path to load\n"
    "-c,    --ctx-size N                     size of the prompt context\n"
    "-np,   --parallel N                     number of parallel sequences to decode\n"
    "-ngl,  --gpu-layers, --n-gpu-layers N   max. number of layers\n"
    "-ctk,  --cache-type-k TYPE              type of keys\n"
    "-ctv,  --cache-type-v TYPE              type of values\n"
    "-dev,  --device <dev1,dev2,..>          devices\n"
    "-fit,  --fit [on|off]                   whether to adjust\n" + PRINTS
)


def engine_in(folder: Path, kind: EngineKind = EngineKind.COMPILED) -> Engine:
    return Engine(
        command=(str(folder / "llama-server"),),
        kind=kind,
        origin="test",
        build="1",
        unix_socket=True,
        state_lines=True,
        table=TABLE,
        help_text=HELP,
    )


def write_program(folder: Path, body: str, help_text: str = FIT_HELP) -> Path:
    """A program in the place of `llama-fit-params`: `body` is Python, with the arguments in `argv`."""
    path = folder / "llama-fit-params"
    path.write_text(
        f"#!{sys.executable}\n"
        "import os, sys, time\n"
        "argv = sys.argv[1:]\n"
        f"if argv == ['--help']: print({help_text!r}); sys.exit()\n"
        "if argv == ['--version']: print('version: 1 (fake)'); sys.exit()\n"
        f"{body}\n"
    )
    path.chmod(0o755)
    return path


@pytest.fixture
def environ(tmp_path: Path) -> dict[str, str]:
    return {"HOME": str(tmp_path), "PATH": os.environ["PATH"], "LLAMA_ARG_CTX_SIZE": "1", "LR_API_KEY": "x"}


def ask(folder: Path, environ: dict[str, str], *arguments: str, seconds: float = 10.0, **own: str) -> str:
    return run_fit(fit_program_of(engine_in(folder), environ), arguments, environ, own, seconds=seconds)


def test_it_prints_and_is_told_not_to_fit(tmp_path: Path, environ: dict[str, str]) -> None:
    write_program(tmp_path, "print(argv, sorted(set(os.environ) & {'LLAMA_ARG_CTX_SIZE', 'LR_API_KEY', 'OWN'}))")
    said = ask(tmp_path, environ, "--model", "m.gguf", OWN="1")
    assert said == "['--model', 'm.gguf', '--fit', 'off', '--fit-print', 'on'] ['OWN']\n"


def test_what_nobody_waits_for_takes_what_others_leave(tmp_path: Path, environ: dict[str, str]) -> None:
    write_program(tmp_path, "print(os.nice(0))")
    program = fit_program_of(engine_in(tmp_path), environ)
    assert run_fit(program, [], environ, {}) == f"{os.nice(0)}\n"
    assert run_fit(program, [], environ, {}, leisurely=True) == f"{min(19, os.nice(0) + 15)}\n"


def test_it_lies_beside_the_server_or_beside_what_that_leads_to(tmp_path: Path, environ: dict[str, str]) -> None:
    real, links = tmp_path / "real", tmp_path / "links"
    real.mkdir()
    links.mkdir()
    program = write_program(real, "")
    (real / "llama-server").touch()
    (links / "llama-server").symlink_to(real / "llama-server")
    assert fit_program_of(engine_in(links), environ).command == (str(program),)
    behind = replace(engine_in(links), command=("env", "-i", str(links / "llama-server")))
    assert fit_program_of(behind, environ).command == ("env", "-i", str(program))


def test_where_there_is_none(tmp_path: Path, environ: dict[str, str]) -> None:
    with pytest.raises(FitProblem, match=f"there is no llama-fit-params beside {tmp_path}"):
        fit_program_of(engine_in(tmp_path), environ)
    (tmp_path / "llama-fit-params").touch()  # not executable
    with pytest.raises(FitProblem, match="there is no"):
        fit_program_of(engine_in(tmp_path), environ)
    with pytest.raises(FitProblem, match="the embedded engine has no llama-fit-params"):
        fit_program_of(engine_in(tmp_path, EngineKind.EMBEDDED), environ)


def test_one_that_cannot_print(tmp_path: Path, environ: dict[str, str]) -> None:
    write_program(tmp_path, "", FIT_HELP.replace(PRINTS, ""))
    with pytest.raises(FitProblem, match="cannot print what is needed"):
        fit_program_of(engine_in(tmp_path), environ)


def test_one_that_is_something_else(tmp_path: Path, environ: dict[str, str]) -> None:
    write_program(tmp_path, "", "usage: cat")
    with pytest.raises(FitProblem, match="knows no --model"):
        fit_program_of(engine_in(tmp_path), environ)


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        ("sys.stderr.write('first\\n\\nE failed to load model\\n\\n'); sys.exit(1)", "failed: E failed to load model"),
        ("sys.exit(3)", "failed: code 3"),
        ("os.kill(os.getpid(), 9)", "failed: code -9"),
    ],
)
def test_one_that_fails_says_why(tmp_path: Path, environ: dict[str, str], body: str, reason: str) -> None:
    write_program(tmp_path, body)
    with pytest.raises(FitProblem, match=reason):
        ask(tmp_path, environ)


def test_one_that_hangs_is_killed(tmp_path: Path, environ: dict[str, str]) -> None:
    write_program(tmp_path, f"open({str(tmp_path / 'pid')!r}, 'w').write(str(os.getpid())); time.sleep(60)")
    began = time.monotonic()
    with pytest.raises(FitProblem, match="did not answer within 4 s"):
        ask(tmp_path, environ, seconds=4.0)
    assert time.monotonic() - began < 30
    with pytest.raises(ProcessLookupError):
        os.kill(int((tmp_path / "pid").read_text()), 0)


def test_one_that_went_away_or_cannot_be_asked(tmp_path: Path, environ: dict[str, str]) -> None:
    path = write_program(tmp_path, "")
    program = fit_program_of(engine_in(tmp_path), environ)
    with pytest.raises(FitProblem, match="cannot be run"):
        run_fit(program, ["a\0b"], environ, {})
    path.unlink()
    with pytest.raises(FitProblem, match=r"cannot be run|failed"):
        run_fit(program, [], environ, {})
