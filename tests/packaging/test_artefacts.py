"""Wheel and source distribution hold what they should, and `lr` runs from each of them, installed by pipx.

Built from the files that git knows of, as they are in the working tree: nothing else that lies about gets in.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import stat
import subprocess
import sys
import tarfile
import zipfile
from dataclasses import dataclass
from email import message_from_bytes
from pathlib import Path

import httpx
import pytest

import llamarouter
from tests.e2e.conftest import until
from tests.tiny_gguf import write_llama

ROOT = Path(__file__).resolve().parents[2]
pytestmark = [pytest.mark.pypi, pytest.mark.timeout(400)]  # everything is fetched where nothing is cached
_PATIENCE = 300  # seconds, of pip


@dataclass(frozen=True, slots=True)
class Built:
    """What was built, and the tree that it was built of."""

    tree: Path
    wheel: Path
    sdist: Path

    def tracked(self, below: str = "") -> set[str]:
        return {
            str(file.relative_to(self.tree))
            for file in (self.tree / below).rglob("*")
            if file.is_file() and not {"llamarouter.egg-info", "build"} & set(file.relative_to(self.tree).parts)
        }


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Built:
    folder = tmp_path_factory.mktemp("artefacts")
    tree = folder / "tree"
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    for name in filter(None, listed.split("\0")):
        if (ROOT / name).is_file():
            (tree / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, tree / name)
    # The wheel is made of the source distribution, in an environment that has what pyproject.toml names.
    run(sys.executable, "-m", "build", "--outdir", str(folder), str(tree))
    (wheel,), (sdist,) = folder.glob("*.whl"), folder.glob("*.tar.gz")
    return Built(tree, wheel, sdist)


def run(*argv: str, code: int = 0, **environ: str) -> subprocess.CompletedProcess[str]:
    done = subprocess.run(
        argv,
        env={**os.environ, **environ},
        cwd="/",
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=_PATIENCE,
        check=False,
    )
    assert done.returncode == code, done.stdout + done.stderr
    return done


def test_the_source_distribution_is_a_checkout_without_its_history(built: Built) -> None:
    with tarfile.open(built.sdist) as archive:
        members = {member.name.partition("/")[2]: member for member in archive if member.isfile()}
    own = {"PKG-INFO", "setup.cfg"} | {name for name in members if name.startswith("llamarouter.egg-info/")}
    assert set(members) - own == built.tracked()
    executable = {name for name in members if members[name].mode & stat.S_IXUSR}
    assert {"scripts/quickstart", "scripts/test", "bin/lr", ".ci/run"} <= executable


def test_the_wheel_holds_the_package_its_types_and_its_pages(built: Built) -> None:
    with zipfile.ZipFile(built.wheel) as archive:
        names = set(archive.namelist())
    info, data = (f"llamarouter-{llamarouter.__version__}.{kind}/" for kind in ("dist-info", "data"))
    share = f"{data}data/share/"
    assert {name for name in names if not name.startswith((info, data))} == built.tracked("llamarouter")
    assert "llamarouter/py.typed" in names
    pages = {f"{share}doc/llamarouter/{Path(page).name}" for page in (*built.tracked("docs"), "README.md")}
    presets = {f"{share}llamarouter/{preset}" for preset in built.tracked("presets")}
    assert {name for name in names if name.startswith(data)} == pages | presets
    assert f"{info}licenses/LICENSE" in names


def test_its_metadata_say_what_it_is(built: Built) -> None:
    with zipfile.ZipFile(built.wheel) as archive:
        (name,) = [name for name in archive.namelist() if name.endswith("/METADATA")]
        said = message_from_bytes(archive.read(name))
    assert (said["Name"], said["Version"]) == ("llamarouter", llamarouter.__version__)
    assert (said["License-Expression"], said["License-File"]) == ("MIT", "LICENSE")
    assert said["Description-Content-Type"] == "text/markdown"
    assert said.get_payload() == (built.tree / "README.md").read_text(encoding="utf-8")
    assert set(said.get_all("Provides-Extra")) == {"embedded", "plot", "dev"}
    wanted = [each for each in said.get_all("Requires-Dist") if "extra ==" not in each]
    assert any(each.startswith("starlette") for each in wanted)
    assert not any(each.startswith(("pytest", "xllamacpp", "numpy")) for each in wanted)
    assert said.get_all("Project-URL") is None  # it has no home to point to yet


@dataclass(frozen=True, slots=True)
class Installed:
    """`lr` in an environment of its own, far from any checkout."""

    folder: Path

    @classmethod
    def by_pipx(cls, folder: Path, what: str) -> Installed:
        # As an ordinary user has it: nothing of this environment is seen, but what pip is told of its index.
        places = {
            "PIPX_HOME": "home",
            "PIPX_BIN_DIR": "bin",
            "PIPX_MAN_DIR": "man",
            "PIPX_COMPLETION_DIR": "completion",
        }
        environ = {name: str(folder / place) for name, place in places.items()}
        run(
            sys.executable,
            "-m",
            "pipx",
            "install",
            "--force",
            "--python",
            sys.executable,
            what,
            **environ,
            PYTHONPATH="",
        )
        return cls(folder)

    @property
    def lr(self) -> str:
        return str(self.folder / "bin" / "lr")

    @property
    def environ(self) -> dict[str, str]:
        (self.folder / "run").mkdir(mode=0o700, exist_ok=True)
        return {
            "HOME": str(self.folder),
            "PATH": "/usr/bin:/bin",
            "XDG_RUNTIME_DIR": str(self.folder / "run"),
            "LR_ADMIN_SOCKET": str(self.folder / "none"),
        }

    def says(self, *arguments: str) -> str:
        return run(
            "env", "-i", *(f"{name}={value}" for name, value in self.environ.items()), self.lr, *arguments
        ).stdout


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where pipx keeps its own things: made once, for all."""
    return tmp_path_factory.mktemp("pipx")


def test_the_wheel_of_a_checkout_is_that_of_the_source_distribution(built: Built, tmp_path: Path) -> None:
    # What `pipx install .` does first; from there on it is the wheel that is installed below.
    run(sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--wheel-dir", str(tmp_path), str(built.tree))
    (wheel,) = tmp_path.glob("*.whl")
    with zipfile.ZipFile(built.wheel) as one, zipfile.ZipFile(wheel) as other:
        assert {each.filename: each.CRC for each in one.filelist} == {
            each.filename: each.CRC for each in other.filelist
        }


def test_pipx_installs_it_from_the_source(built: Built, home: Path) -> None:
    installed = Installed.by_pipx(home, str(built.sdist))
    assert installed.says("version").startswith(f"lr {llamarouter.__version__} (Python ")
    assert "lr serve" in installed.says("--help")
    (python,) = (home / "home" / "venvs").glob("*/bin/python")
    where = run(str(python), "-P", "-c", "import llamarouter; print(llamarouter.__file__)").stdout
    assert where.startswith(str(home))


def test_pipx_installs_the_wheel_and_it_serves_a_model(built: Built, home: Path, tmp_path: Path) -> None:
    installed = Installed.by_pipx(home, f"{built.wheel}[embedded]")
    assert json.loads(installed.says("version", "--json"))["lr"] == llamarouter.__version__
    assert "--models-dir" in installed.says("serve", "--help")
    assert "_lr_completion" in installed.says("completion", "bash")
    assert "ExecStart=" in installed.says("service", "install", "--print", "--user")
    assert len([*(home / "home" / "venvs").glob("*/share/doc/llamarouter/nginx.conf")]) == 1
    (tmp_path / "models").mkdir()
    write_llama(tmp_path / "models" / "a.gguf")
    log = tmp_path / "log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            [installed.lr, "serve", "--port", "0", "--models-dir", str(tmp_path / "models"), "--threads", "1"],
            env=installed.environ,
            cwd="/",
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
        )
    try:
        until(lambda: "listening on http" in log.read_text() or process.poll() is not None, seconds=60)
        url = log.read_text().partition("listening on ")[2].split()[0]
        body = {"model": "a", "prompt": "x", "max_tokens": 2}
        answer = httpx.post(f"{url}/v1/completions", json=body, timeout=60, trust_env=False)
        assert answer.status_code == 200, answer.text
        assert answer.json()["usage"]["completion_tokens"] == 2
        assert "a " in installed.says("ls")
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            assert process.wait(30) == 0
        finally:
            process.kill()
            process.wait(10)
