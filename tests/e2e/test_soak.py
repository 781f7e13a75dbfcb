"""`scripts/soak` itself, for moments: it comes to its end, and to a table."""

from __future__ import annotations

import subprocess
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def test_some_moments_of_it_are_well() -> None:
    options = ["--minutes", "0.05", "--warm-up", "0.02", "--clients", "4", "--engine", "embedded"]
    done = subprocess.run(
        [ROOT / "scripts" / "soak", *options], capture_output=True, text=True, timeout=55, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "What became of the requests" in done.stdout
    assert " 0 lost; " in done.stdout
