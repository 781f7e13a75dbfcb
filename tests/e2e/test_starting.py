"""The first moments of a router: what it loads by itself, what it says, and that a signal in them is obeyed."""

from __future__ import annotations

import json
import shlex
import signal
from pathlib import Path

import pytest

from tests.e2e.conftest import ENGINES, Serve, until


@pytest.mark.parametrize("engine", ENGINES)
def test_models_are_loaded_at_the_start_as_many_as_there_are_places(
    serve: Serve, engine: Path | None, models_dir: Path, tmp_path: Path
) -> None:
    preset = tmp_path / "p.ini"
    preset.write_text(
        "[*]\nload-on-startup = true\n[a]\nmodel = models/a.gguf\n[b]\nmodel = models/b.gguf\n"
        "[c]\nmodel = models/c.gguf\n[d]\nmodel = models/a.gguf\nload-on-startup = false\n",
        encoding="utf-8",
    )
    router = serve(engine, "--models-preset", preset, "--models-max", 2)
    until(lambda: [router.state(model) for model in "abcd"] == ["loaded", "loaded", "unloaded", "unloaded"], 20)
    assert any("c is not loaded at start: --models-max is 2" in line for line in router.output)
    assert router.stop() == 0


def test_a_model_that_fails_at_the_start_stops_nothing(serve: Serve, models_dir: Path, tmp_path: Path) -> None:
    (models_dir / "b.gguf").write_bytes(b"GGUF")
    preset = tmp_path / "p.ini"
    sections = "".join(f"[{name}]\nmodel = models/{name}.gguf\nload-on-startup = 1\n" for name in "ba")
    hub = "[far]\nhf-repo = user/repo:Q4_0\nload-on-startup = 1\n"
    preset.write_text(sections + hub, encoding="utf-8")
    router = serve(None, "--models-preset", preset, "--offline", "--models-max", 0)
    until(lambda: router.state("a") == "loaded", 20)
    until(lambda: router.models()["far"]["lr"]["failure"], 20)  # type: ignore[index]
    listed = router.models()
    assert listed["b"]["lr"]["problem"]  # type: ignore[index]
    assert "--offline" in json.dumps(listed["far"]["lr"])
    with router.client() as client:
        assert client.get("/readyz").status_code == 200
    assert router.stop() == 0


def test_what_a_file_is_called_steers_no_terminal_and_no_shell(serve: Serve, models_dir: Path, tmp_path: Path) -> None:
    folder = tmp_path / "odd"
    folder.mkdir()
    (models_dir / "a.gguf").rename(folder / "x'; touch pasted; '.gguf")
    (models_dir / "b.gguf").rename(folder / "\x1b[2J\nlistening on http:evil.gguf")
    router = serve(None, "--models-dir", folder)
    until(lambda: [line for line in router.output if line.startswith("try: ")])
    (line,) = [line for line in router.output if line.startswith("try: ")]
    words = shlex.split(line.removeprefix("try: "))
    assert json.loads(words[-1])["model"] == "x'; touch pasted; '"
    assert words[:1] == ["curl"]
    assert len(words) == 4
    assert not [line for line in router.output if "\x1b" in line or line.startswith("listening on http:evil")]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_while_models_load_at_the_start_ends_it_at_once(
    serve: Serve, models_dir: Path, tmp_path: Path, number: int
) -> None:
    preset = tmp_path / "p.ini"
    text = "".join(f"[{name}]\nmodel = models/{name}.gguf\nload-on-startup = 1\n" for name in "abc")
    preset.write_text(text, encoding="utf-8")
    router = serve(None, "--models-preset", preset)
    children = router.children()
    router.process.send_signal(number)
    assert until(lambda: router.process.poll() is not None, 20) < 8
    assert router.process.returncode == 0
    assert not [pid for pid in children if Path(f"/proc/{pid}").exists()]
    assert not [line for line in router.output if "Traceback" in line]
