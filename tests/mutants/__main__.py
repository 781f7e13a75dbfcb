"""Tries every mutant on the tests of the scheduler, and prints the one that kills it.

    python -m tests.mutants [WORD ...]      only those whose description has one of the words

The stories come first; whom they let live meets the properties.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from tests.mutants.scheduler import MUTANTS, Mutant

ROOT = Path(__file__).parents[2]
STORIES = ("appraisals", "holdings", "rooms", "victims", "eviction", "foresight")
ROUNDS = (
    [
        *(f"tests/test_{name}.py" for name in STORIES),
        *sorted(f"tests/{path.name}" for path in (ROOT / "tests").glob("test_scheduler_*.py")),
    ],
    ["tests/properties/test_memory_properties.py"],
    ["tests/properties/test_scheduler_properties.py"],
)


def killer_of(mutant: Mutant, folder: Path) -> str | None:
    """The first test that fails with it; None: it lives."""
    file = folder / "llamarouter" / "core" / mutant.file
    good = file.read_text()
    file.write_text(good.replace(mutant.old, mutant.new))
    try:
        for tests in ROUNDS:
            command = [sys.executable, "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", "-p", "no:xdist", *tests]
            run = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
            if run.returncode:
                failed = re.search(r"^(?:FAILED|ERROR) (\S+)", run.stdout, re.MULTILINE)
                return failed[1].removeprefix("tests/") if failed else run.stdout[-300:] + run.stderr[-300:]
    finally:
        file.write_text(good)
    return None


def main(words: list[str]) -> int:
    chosen = [one for one in MUTANTS if not words or any(word in one.what for word in words)]
    alive = 0
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        for name in ("llamarouter", "tests", "docs", "pyproject.toml"):
            source = ROOT / name
            (shutil.copytree if source.is_dir() else shutil.copy)(source, folder / name)
        for number, mutant in enumerate(chosen, start=1):
            killer = killer_of(mutant, folder)
            alive += killer is None
            print(f"{number:2} {mutant.file:14} {mutant.what}: {killer or 'ALIVE'}", flush=True)  # noqa: T201
    print(f"{len(chosen) - alive} of {len(chosen)} killed")  # noqa: T201
    return 1 if alive else 0


sys.exit(main(sys.argv[1:]))
