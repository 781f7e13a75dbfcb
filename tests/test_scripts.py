"""The scripts: short, sound, and with one line and the remedy where something is missing on a fresh machine."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
SCRIPTS = sorted(path for path in (ROOT / "scripts").iterdir() if path.is_file())


@pytest.mark.parametrize("script", [*SCRIPTS, ROOT / ".ci" / "run"], ids=lambda path: str(path.name))
def test_they_are_short_executable_and_parse(script: Path) -> None:
    lines = script.read_text().splitlines()
    shell = lines[0].removeprefix("#!").removeprefix("/usr/bin/env ")
    assert len(lines) <= 40
    assert script.stat().st_mode & 0o111
    assert subprocess.run([shell, "-n", str(script)], check=False).returncode == 0


class FreshMachine:
    """A clone's scripts, with a PATH that has only what is put there."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.programs = folder / "programs"
        self.programs.mkdir()
        for name in ("dirname", "cat", "cksum", "sh"):
            (self.programs / name).symlink_to(shutil.which(name) or name)
        shutil.copytree(ROOT / "scripts", folder / "scripts")
        shutil.copy(ROOT / "pyproject.toml", folder)
        (folder / "llamarouter").mkdir()
        shutil.copy(ROOT / "llamarouter" / "__init__.py", folder / "llamarouter")

    def python(self, name: str, without: str = "") -> None:
        """A Python of that name; what is asked of it with the text `without` in it fails."""
        script = f'#!/bin/sh\ncase "$*" in *"{without or "?"}"*) exit 1 ;; esac\nexec {sys.executable} "$@"\n'
        (self.programs / name).write_text(script)
        (self.programs / name).chmod(0o755)

    def installed(self, pip_status: int = 0) -> None:
        """A virtual environment whose pip writes down what it is asked to install."""
        python = self.folder / ".venv" / "bin" / "python"
        python.parent.mkdir(parents=True)
        python.write_text(f'#!/bin/sh\necho "$*" >> {self.folder}/calls\nexit {pip_status}\n')
        python.chmod(0o755)

    def set_up(self, *extras: str) -> subprocess.CompletedProcess[str]:
        return self.run("set-up", *extras)

    def run(self, script: str, *arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [self.folder / "scripts" / script, *arguments],
            env={"PATH": str(self.programs)},
            capture_output=True,
            text=True,
            check=False,
        )

    def calls(self) -> list[str]:
        return [line for line in (self.folder / "calls").read_text().splitlines() if " install " in line]


@pytest.fixture
def machine(tmp_path: Path) -> FreshMachine:
    return FreshMachine(tmp_path)


def test_no_python_or_an_old_one_is_one_line(machine: FreshMachine) -> None:
    machine.python("python3", without="version_info <")
    result = machine.set_up()
    assert result.returncode == 2
    assert result.stderr.startswith("Python 3.11 or newer is needed: sudo apt-get install python3.11")
    assert result.stderr.count("\n") == 1


def test_no_venv_is_one_line_with_the_package(machine: FreshMachine) -> None:
    machine.python("python3", without="import venv, ensurepip")
    result = machine.set_up()
    version = f"python3.{sys.version_info[1]}"
    assert result.returncode == 2
    assert result.stderr == f"Python's venv is missing: sudo apt-get install {version}-venv\n"


def test_a_newer_python_beside_an_old_one_is_taken(machine: FreshMachine) -> None:
    machine.python("python3", without="version_info <")
    machine.python("python3.12", without="ensurepip")
    assert "venv is missing" in machine.set_up().stderr


def test_it_installs_once_for_each_set_of_extras(machine: FreshMachine) -> None:
    machine.python("python3")
    machine.installed()
    for extras in ("embedded", "embedded", "embedded,dev", "embedded,dev"):
        assert machine.set_up(extras).returncode == 0
    assert machine.set_up().returncode == 0
    assert [call.rpartition(" ")[2] for call in machine.calls()] == [".[embedded]", ".[embedded,dev]", "."]


def test_it_installs_again_when_the_project_has_changed(machine: FreshMachine) -> None:
    machine.python("python3")
    machine.installed()
    machine.set_up()
    with (machine.folder / "pyproject.toml").open("a") as stream:
        stream.write("# another dependency\n")
    machine.set_up()
    assert len(machine.calls()) == 2


def test_what_failed_is_tried_again(machine: FreshMachine) -> None:
    machine.python("python3")
    machine.installed(pip_status=1)
    first = machine.set_up()
    assert first.returncode == 2
    assert "there is no pip in .venv" in first.stderr
    shutil.rmtree(machine.folder / ".venv")
    machine.installed()
    assert machine.set_up().returncode == 0
    assert len(machine.calls()) == 1


DEMO = "--models-preset presets/demo.ini"


@pytest.mark.parametrize(
    ("arguments", "pulled", "served"),
    [
        ([], None, DEMO),
        (["--port", "9000", "-c", "a b"], None, f"{DEMO} --port 9000 -c a b"),
        (["--model", "u/m"], "u/m", ""),
        (["--model", "u/m:Q8_0", "--port", "9000"], "u/m:Q8_0", "--port 9000"),
        (["--port", "9000", "--model", "u/m"], "u/m", "--port 9000"),
        (["--port", "9000", "--model=u/m", "-c", "512", "--no-ui"], "u/m", "--port 9000 -c 512 --no-ui"),
        (["--alias", "", "--model", "u/m"], "u/m", "--alias "),
    ],
)
def test_the_quickstart_takes_its_model_from_anywhere(
    machine: FreshMachine, arguments: list[str], pulled: str | None, served: str
) -> None:
    machine.python("python3")
    machine.installed()
    (machine.folder / "bin").mkdir()
    shutil.copy(ROOT / "bin" / "lr", machine.folder / "bin")
    result = machine.run("quickstart", *arguments)
    assert result.returncode == 0, result.stderr
    lines = [line for line in (machine.folder / "calls").read_text().splitlines() if line.startswith("-m llamarouter")]
    first = f"-m llamarouter pull {pulled}" if pulled else f"-m llamarouter.host.demo {' '.join(arguments)}".rstrip()
    assert [line.rstrip() for line in lines] == [first, f"-m llamarouter serve {served}".rstrip()]


def test_the_quickstart_needs_a_name_behind_model(machine: FreshMachine) -> None:
    result = machine.run("quickstart", "--port", "9000", "--model")
    assert (result.returncode, result.stderr) == (2, "quickstart: --model takes user/model[:QUANT]\n")
