"""`lr engine` and `lr engine build`, from the outside."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from llamarouter.cli.main import main
from llamarouter.host import build, engine
from llamarouter.host.build_plan import Backend

SERVER = """#!/bin/sh
case "$1" in
--help) echo '-m, --model FNAME                       model'; echo '--host HOST  address' ;;
--version) echo 'version: 42 (abc)' ;;
--list-devices) printf 'Available devices:\\n  CUDA0: A GPU (24 GiB)\\n' ;;
esac
"""


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A llama-server on PATH, and nothing anywhere else."""
    monkeypatch.setenv("LR_STATE_DIR", str(tmp_path / "state"))
    monkeypatch.setenv("LR_DATA_DIR", str(tmp_path / "data"))
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    monkeypatch.delenv("LR_ENGINE", raising=False)
    monkeypatch.setattr(engine, "checkout_of", lambda: None)
    path = tmp_path / "llama-server"
    path.write_text(SERVER)
    path.chmod(0o755)
    return path


def test_it_says_which_and_why(server: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["engine"]) == 0
    output = capsys.readouterr().out
    for said in (str(server), "llama-server on PATH", "42 (abc)", "CUDA, CPU", "CUDA0: A GPU (24 GiB)", "/health"):
        assert said in output
    assert "first try" not in output
    assert f"* llama-server on PATH: {server}" in output


def test_it_says_how_to_get_better_than_the_embedded_one(server: Path, capsys: pytest.CaptureFixture[str]) -> None:
    server.unlink()
    assert main(["engine"]) == 0
    output = capsys.readouterr().out
    assert "* the embedded engine" in output
    assert "lr engine build" in output


def test_json_for_programs(server: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["engine", "--json"]) == 0
    answer = json.loads(capsys.readouterr().out)
    assert answer["command"] == [str(server)]
    assert answer["kind"] == "compiled"
    assert answer["backends"] == ["CUDA", "CPU"]
    assert answer["options"] == 2
    assert not answer["unix_socket"]
    assert len(answer["candidates"]) == 3


@pytest.mark.usefixtures("server")
@pytest.mark.parametrize("wanted", ["/nowhere/llama-server", "'open", ""])
def test_what_is_none_is_one_line_and_code_2(wanted: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["engine", "--engine", wanted]) == 2
    output = capsys.readouterr()
    assert output.err.startswith("lr: --engine: ")
    assert output.err.count("\n") == 1
    assert output.out == ""


def test_a_build_that_fails_ends_in_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    asked = []

    def fail(backend: Backend, *, into: Path, **_: object) -> None:
        asked.append((backend, into))
        raise build.BuildFailed("cmake failed, see log.txt", ["some error"])

    monkeypatch.setattr(build, "build", fail)
    monkeypatch.setattr(build, "checkout_of", lambda: None)
    monkeypatch.setenv("LR_DATA_DIR", str(tmp_path))
    assert main(["engine", "build", "--backend", "vulkan"]) == 1
    assert asked == [(Backend.VULKAN, tmp_path / "bin")]
    assert capsys.readouterr().err == "some error\nlr: cmake failed, see log.txt\n"
