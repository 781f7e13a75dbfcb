"""The README tells the truth: its map is the house, its commands and files are there."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

from llamarouter.cli.commands import COMMANDS

ROOT = Path(__file__).resolve().parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")


def tracked() -> set[str]:
    listed = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True)
    return set(listed.stdout.split())


def test_the_map_has_every_folder_and_no_other() -> None:
    rows = re.search(r"## The map\n\n.*?\n((?:\|.*\n)+)", README)
    assert rows is not None
    mapped = {row.split("`")[1].rstrip("/") for row in rows[1].splitlines() if "`" in row}
    folders = {path.split("/")[0] for path in tracked() if "/" in path and not path.startswith(".")}
    packages = {"/".join(path.split("/")[:2]) for path in tracked() if re.match(r"llamarouter/\w+/", path)}
    assert mapped == (folders - {"llamarouter"}) | packages


def test_the_two_commands_stand_at_the_top() -> None:
    top = README.splitlines()[:14]
    assert any(line.startswith("scripts/quickstart ") for line in top)
    assert any(line.startswith("scripts/test ") for line in top)


def test_every_script_is_on_the_map() -> None:
    scripts = {path.name for path in (ROOT / "scripts").iterdir()}
    row = next(line for line in README.splitlines() if line.startswith("| `scripts/`"))
    assert set(re.findall(r"`([\w-]+)`", row)) == scripts


def test_links_lead_to_files_of_the_repository() -> None:
    for target in re.findall(r"\]\((?!http)([^)#]+)\)", README):
        assert (ROOT / target).is_file(), target


def test_every_command_of_lr_that_it_shows_exists() -> None:
    shown = set(re.findall(r"(?:^|[`(;] ?|\$ (?:bin/)?)lr ([a-z]+)\b", README, re.MULTILINE))
    assert shown
    assert shown <= set(COMMANDS) | {"serve"}
