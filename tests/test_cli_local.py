"""`lr ls` and `lr explain` while no router runs: what `lr serve` with the same flags would find and do."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from llamarouter.cli.main import main
from tests.tiny_gguf import write_llama

Captured = pytest.CaptureFixture[str]
FAKE = Path(__file__).with_name("fake_llama_server.py")


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A home of its own: an engine, a folder with one good and one bad file, a preset, and no router."""
    engine = tmp_path / "llama-server"
    engine.write_text(f'#!/bin/sh\nexec {sys.executable} {FAKE} "$@"\n')
    engine.chmod(0o755)
    for name in ("LLAMA_CACHE", "HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE", "HF_HOME", "XDG_CACHE_HOME", "LR_URL"):
        monkeypatch.delenv(name, raising=False)
    for name, value in {
        "HOME": str(tmp_path / "home"),
        "LR_STATE_DIR": str(tmp_path / "state"),
        "LR_DATA_DIR": str(tmp_path / "data"),
        "LR_ENGINE": str(engine),
        "XDG_CONFIG_HOME": str(tmp_path / "config"),
    }.items():
        monkeypatch.setenv(name, value)
    models = tmp_path / "models"
    models.mkdir()
    write_llama(models / "tiny.gguf", n_ctx=512)
    (models / "bad.gguf").write_bytes(b"xx")
    preset = f"[fast]\nmodel = {models / 'tiny.gguf'}\nctx-size = 256\nalias = quick\n[typo]\nmodel = x\nctx-sise = 1\n"
    (tmp_path / "preset.ini").write_text(preset)
    return tmp_path


def test_a_folder_is_listed_and_what_is_bad_in_it_is_said_once(machine: Path, capsys: Captured) -> None:
    assert main(["ls", "--models-dir", str(machine / "models")]) == 0
    shown = capsys.readouterr()
    bad, tiny = (line.split() for line in shown.out.splitlines()[1:])
    assert bad == ["bad", "2", "B", "-", "-", "-", "models_dir", "unusable"]
    assert (tiny[0], tiny[-3:]) == ("tiny", ["512", "models_dir", "unloaded"])
    (warning,) = shown.err.splitlines()
    assert warning.startswith(f"{machine}/models/bad.gguf: ")


def test_the_environment_names_the_folder_too(machine: Path, monkeypatch: pytest.MonkeyPatch, capsys: Captured) -> None:
    monkeypatch.setenv("LLAMA_ARG_MODELS_DIR", str(machine / "models"))
    monkeypatch.setenv("LLAMA_ARG_HOST", "0.0.0.0")  # what `lr serve` refuses without a key is no matter here
    assert main(["ls", "--json", "--models-preset", str(machine / "preset.ini")]) == 0
    told = json.loads(capsys.readouterr().out)
    rows = {row["id"]: row for row in told["models"]}
    assert list(rows) == ["bad", "fast", "tiny", "typo"]
    assert (rows["fast"]["aliases"], rows["fast"]["source"]) == (["quick"], "preset")
    assert (rows["tiny"]["context"], rows["tiny"]["state"]) == (512, "unloaded")
    assert rows["typo"]["state"] == "unusable"
    assert any(f"{machine}/preset.ini:7" in warning["where"] for warning in told["warnings"])


@pytest.mark.parametrize(
    ("flags", "reason"),
    [
        (["--models-dir", "/nowhere"], "--models-dir /nowhere: there is no such folder"),
        (["--models-preset", "/nowhere.ini"], "--models-preset /nowhere.ini: cannot be read"),
    ],
)
def test_what_is_not_there_is_wrong_usage(flags: list[str], reason: str, machine: Path, capsys: Captured) -> None:
    assert main(["ls", *flags]) == 2
    shown = capsys.readouterr()
    assert shown.out == ""
    assert shown.err.startswith(f"lr: {reason}")
    assert shown.err.count("\n") == 1


def test_explain_says_where_each_flag_came_from(machine: Path, capsys: Captured) -> None:
    preset = str(machine / "preset.ini")
    assert main(["explain", "quick", "--json", "--models-preset", preset, "--", "-c", "8192", "--temp", "0.5"]) == 0
    told = json.loads(capsys.readouterr().out)
    origins = {flag["option"]: (flag["values"], flag["origin"]) for flag in told["flags"]}
    assert told["model"] == "fast"
    assert told["command"][0] == str(machine / "llama-server")
    assert origins["--ctx-size"] == (["256"], f"{preset}:3")  # the section wins over the command line
    assert (["0.5"], "command line") in origins.values()
    assert list(told["env"]) == ["XDG_CONFIG_HOME"]


@pytest.mark.parametrize("command", ["explain", "plan"])
def test_what_is_inherited_is_not_shown(
    command: str, machine: Path, capsys: Captured, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("INTERNAL_MIRROR", "https://mirror/in-the-path-of-it-a-secret")
    (machine / "own.ini").write_text(f"[own]\nmodel = {machine}/models/tiny.gguf\nlr-env = A=1\n")
    flags = ["--", "--models-preset", str(machine / "own.ini")]
    assert main([command, "own", "--json", *flags]) == 0
    shown = capsys.readouterr().out
    assert "in-the-path-of-it" not in shown
    assert json.loads(shown)["env"] == {"XDG_CONFIG_HOME": str(machine / "state" / "child-config"), "A": "1"}
    assert main([command, "own", *flags]) == 0
    assert "in-the-path-of-it" not in capsys.readouterr().out


def test_explain_of_an_unknown_model_names_the_nearest(machine: Path, capsys: Captured) -> None:
    assert main(["explain", "quik", "--models-preset", str(machine / "preset.ini")]) == 1
    assert capsys.readouterr() == ("", "lr: there is no model 'quik'; did you mean quick?\n")


def test_explain_of_a_section_that_is_wrong_says_where(machine: Path, capsys: Captured) -> None:
    preset = str(machine / "preset.ini")
    assert main(["explain", "typo", "--models-preset", preset]) == 1
    assert capsys.readouterr().err.startswith(f"lr: typo cannot be started: {preset}:7: ")


def test_the_whole_machine_as_a_preset_for_llama_server(machine: Path, capsys: Captured) -> None:
    preset = str(machine / "preset.ini")
    assert main(["explain", "--llama-server", "--models-preset", preset, "--", "-c", "8192"]) == 0
    whole = capsys.readouterr().out
    assert main(["explain", "quick", "--llama-server", "--models-preset", preset]) == 0
    one = capsys.readouterr().out
    assert f"\n[fast]\nctx-size = 256\nmodel = {machine}/models/tiny.gguf\n" in whole
    assert "[typo] cannot be started" in whole
    assert "[fast]" in one
    assert "typo" not in one
