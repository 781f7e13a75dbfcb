"""A conflict of names is a warning: at the start, and when a reload or a new file brings it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from llamarouter.server import shelf as module
from tests.node_kit import House, add_model, house

pytestmark = pytest.mark.anyio


async def warnings_of(home: House) -> list[str]:
    listed = (await home.client.get("/models")).json()
    return [f"{Path(each['where']).name}: {each['reason']}" for each in listed["warnings"]]


async def meant_by(home: House, name: str) -> Any:
    """The id of the model that answers to a name."""
    answer = await home.client.post("/tokenize", json={"model": name, "content": "x"})
    assert answer.status_code == 200, answer.text
    return home.node.shelf.entry(name).id


async def test_a_new_section_that_takes_known_names_is_served_without_them(tmp_path: Path) -> None:
    file = add_model(tmp_path / "files", "m")
    old = f"[old]\nmodel = {file}\nalias = k\n"
    async with house(tmp_path, preset=old) as home:
        assert await meant_by(home, "k") == "old"
        child = home.node.supervisor.children["old"]
        (tmp_path / "preset.ini").write_text(f"{old}[new]\nmodel = {file}\nalias = old, k, z\n", encoding="utf-8")
        answer = await home.client.get("/models?reload=1")
        assert answer.status_code == 200
        assert [entry["id"] for entry in answer.json()["data"]] == ["new", "old"]
        assert await warnings_of(home) == [
            "preset.ini:6: alias 'k' of [new] is left out: it already means the model 'old'",
            "preset.ini:6: alias 'old' of [new] is left out: it already means the model 'old'",
        ]
        assert [await meant_by(home, name) for name in ("old", "k", "new", "z")] == ["old", "old", "new", "new"]
        assert home.node.supervisor.children["old"] is child  # no name has changed for it


async def test_a_new_section_called_as_an_alias_takes_the_name(tmp_path: Path) -> None:
    file = add_model(tmp_path / "files", "m")
    old = f"[old]\nmodel = {file}\nalias = k\n"
    async with house(tmp_path, preset=old) as home:
        assert await meant_by(home, "k") == "old"
        (tmp_path / "preset.ini").write_text(f"{old}[k]\nmodel = {file}\n", encoding="utf-8")
        assert (await home.client.get("/models?reload=1")).status_code == 200
        assert await warnings_of(home) == [
            "preset.ini:3: alias 'k' of [old] is left out: it already means the model 'k'"
        ]
        assert await meant_by(home, "k") == "k"
        assert await meant_by(home, "old") == "old"


async def test_a_new_file_called_as_an_alias_takes_the_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_LOOK_INTERVAL", 0.0)
    file = add_model(tmp_path / "files", "m")
    async with house(tmp_path, preset=f"[old]\nmodel = {file}\nalias = k\n") as home:
        assert await meant_by(home, "k") == "old"
        add_model(home.models, "k")
        assert await warnings_of(home) == [
            "preset.ini:3: alias 'k' of [old] is left out: it already means the model 'k'"
        ]
        assert await meant_by(home, "k") == "k"


async def test_names_that_no_command_line_can_say_are_answered_to(tmp_path: Path) -> None:
    add_model(tmp_path / "models", "a,b")
    async with house(tmp_path) as home:
        assert await meant_by(home, "a,b") == "a,b"
        command = home.node.supervisor.children["a,b"].command
        assert command[command.index("--alias") + 1] == "a%2Cb"
        assert await meant_by(home, "a%2Cb") == "a,b"
