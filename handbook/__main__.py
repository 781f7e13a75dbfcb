"""`scripts/write-reference`: writes the pages that are made of the code; `--check` names those that are out of date."""

from __future__ import annotations

import sys
from pathlib import Path

from handbook.commands import page_of_commands
from handbook.settings import page_of_settings

ROOT = Path(__file__).resolve().parents[1]
PAGES = {"docs/cli.md": page_of_commands, "docs/settings.md": page_of_settings}


def main(arguments: list[str]) -> int:
    """Write the pages, or (`--check`) compare them and end with 1 where one differs."""
    stale = [name for name, write in PAGES.items() if _text(ROOT / name) != write()]
    if arguments == ["--check"]:
        for name in stale:
            print(f"{name} is out of date: scripts/write-reference")
        return 1 if stale else 0
    if arguments:
        print("usage: scripts/write-reference [--check]", file=sys.stderr)
        return 2
    for name in stale:
        (ROOT / name).write_text(PAGES[name](), encoding="utf-8")
        print(f"written: {name}")
    return 0


def _text(file: Path) -> str | None:
    return file.read_text(encoding="utf-8") if file.exists() else None


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
