"""What a binary says of itself: asked once, remembered until its file changes, and never trusted too far."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from llamarouter.core.flags import OptionTable
from llamarouter.host import option_table
from llamarouter.host.option_table import EngineProblem, words_of

ROOT = Path(__file__).parent.parent


@pytest.fixture
def environ(tmp_path: Path) -> dict[str, str]:
    return {"PATH": "/usr/bin:/bin", "LR_STATE_DIR": str(tmp_path / "state")}


def script(path: Path, body: str) -> str:
    path.write_text(f"#!/bin/sh\n{body}\n")
    path.chmod(0o755)
    return str(path)


def engine(folder: Path, text: str = "-m, --model FNAME") -> str:
    """A binary that answers like llama-server, and counts how often it was run."""
    return script(folder / "llama-server", f'echo run >> {folder}/runs\nif [ "$1" = --help ]; then echo "{text}"; fi')


def runs(folder: Path) -> int:
    return len((folder / "runs").read_text().splitlines())


def test_it_is_asked_once(tmp_path: Path, environ: dict[str, str]) -> None:
    binary = engine(tmp_path)
    first = words_of([binary], [binary], environ)
    assert "--model" in first.help
    assert runs(tmp_path) == 2
    stamped = tmp_path / "stamped"
    stamped.write_bytes(b"\x7fELF")
    for _ in range(2):  # remembered as another command, by a file that is no script
        assert words_of(["/usr/bin/env", binary], [str(stamped)], environ).help == first.help
    assert runs(tmp_path) == 4


def test_what_a_script_runs_is_asked_for_its_version_each_time(tmp_path: Path, environ: dict[str, str]) -> None:
    behind = tmp_path / "behind"
    behind.write_text("-m, --model FNAME|version: 1")
    binary = script(tmp_path / "llama-server", f'[ "$1" = --help ] && cut -d"|" -f1 {behind} || cut -d"|" -f2 {behind}')
    assert "version: 1" in words_of([binary], [binary], environ).version
    behind.write_text("-m, --model FNAME, --new|version: 1")
    assert "--new" not in words_of([binary], [binary], environ).help  # nobody can know
    behind.write_text("-m, --model FNAME, --new|version: 2")
    words = words_of([binary], [binary], environ)
    assert "--new" in words.help
    assert "version: 2" in words.version
    assert words_of([binary], [binary], environ) == words
    behind.unlink()
    with pytest.raises(EngineProblem, match="--version failed"):
        words_of([binary], [binary], environ)


def test_another_file_is_asked_again(tmp_path: Path, environ: dict[str, str]) -> None:
    binary = engine(tmp_path)
    words_of([binary], [binary], environ)
    engine(tmp_path, "-m, --model FNAME and more")
    assert "and more" in words_of([binary], [binary], environ).help


def test_a_damaged_cache_is_written_again(tmp_path: Path, environ: dict[str, str]) -> None:
    binary = engine(tmp_path)
    first = words_of([binary], [binary], environ)
    for cache in (tmp_path / "state" / "engines").iterdir():
        cache.write_bytes(b'{"files": 3')
    assert words_of([binary], [binary], environ) == first
    assert runs(tmp_path) == 4
    assert words_of([binary], [binary], environ) == first
    assert runs(tmp_path) == 5  # the version, as it is a script


def test_a_state_folder_that_cannot_be_written_costs_a_run_only(tmp_path: Path, environ: dict[str, str]) -> None:
    binary = engine(tmp_path)
    (tmp_path / "state").write_text("a file where the folder should be")
    assert "--model" in words_of([binary], [binary], environ).help


def test_the_environment_of_the_asker_does_not_show(tmp_path: Path, environ: dict[str, str]) -> None:
    binary = script(tmp_path / "llama-server", 'echo "--model $LLAMA_ARG_CTX_SIZE$LR_API_KEY$HF_TOKEN."')
    secrets = {"LLAMA_ARG_CTX_SIZE": "1", "LR_API_KEY": "2", "HF_TOKEN": "3"}
    assert words_of([binary], [binary], environ | secrets).help == "--model .\n"


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ("echo hello", "not a llama-server"),
        ("echo 'libfoo.so.1: cannot open shared object file' >&2; exit 127", "libfoo.so.1"),
        ("exit 3", "exit code 3"),
        ("kill -ILL $$", "exit code -4"),
    ],
)
def test_what_is_no_engine_is_said_in_one_line(tmp_path: Path, environ: dict[str, str], body: str, said: str) -> None:
    binary = script(tmp_path / "llama-server", body)
    with pytest.raises(EngineProblem, match=said) as problem:
        words_of([binary], [binary], environ)
    assert "\n" not in str(problem.value)


def test_a_foreign_executable_is_said_so(tmp_path: Path, environ: dict[str, str]) -> None:
    binary = tmp_path / "llama-server"
    binary.write_bytes(b"\x7fELF\x02\x01\x01" + bytes(64))
    binary.chmod(0o755)
    with pytest.raises(EngineProblem, match=r"cannot be run \(Exec format error\)"):
        words_of([str(binary)], [str(binary)], environ)


def test_a_missing_file_is_said_so(environ: dict[str, str]) -> None:
    with pytest.raises(EngineProblem, match="No such file"):
        words_of(["/nowhere/llama-server"], ["/nowhere/llama-server"], environ)


def test_one_that_hangs_is_given_up(tmp_path: Path, environ: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(option_table, "_SECONDS", 0.2)
    binary = script(tmp_path / "llama-server", "exec sleep 60")
    with pytest.raises(EngineProblem, match="no answer to --help"):
        words_of([binary], [binary], environ)


@pytest.mark.compiled
def test_both_engines_share_their_options(environ: dict[str, str]) -> None:
    """What is written for one is understood by the other, but for what one of the two releases does not have yet."""
    binary = str(ROOT / "bin" / "llama-server")
    compiled = OptionTable.parse(words_of([binary], [binary], environ).help)
    embedded = OptionTable.parse(words_of([sys.executable, "-m", "llamarouter.host.embedded"], [], environ).help)
    assert len(compiled.options) > 250
    ours = {(option.names, option.negatives, option.arity) for option in compiled.options}
    theirs = {(option.names, option.negatives, option.arity) for option in embedded.options}
    assert len(ours ^ theirs) < 10
