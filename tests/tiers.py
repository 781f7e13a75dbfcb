"""The tiers of the suite: tests that need a program which may not be here, marked `compiled`, `nginx` or `browser`.

Where the program is missing, its tier is left out as a whole (deselected, not skipped one by one), and the end of the
report names it with what would bring it in: a run that left something out never looks like one that did not.
"""

from __future__ import annotations

import os
import shutil
from collections import Counter
from pathlib import Path

import pytest

ENGINE = Path(__file__).parent.parent / "bin" / "llama-server"
# Debian keeps nginx where the PATH of an ordinary user does not look.
_PATH = os.pathsep.join((os.environ.get("PATH", os.defpath), "/usr/sbin", "/usr/local/sbin"))
_BROWSERS = ("chromium", "chromium-browser", "google-chrome")

_left_out = pytest.StashKey[Counter[str]]()


def why_missing(tier: str) -> str | None:
    """What is missing for a tier, and how to get it; None where its tests can run."""
    match tier:
        case "compiled":
            there, remedy = os.access(ENGINE, os.X_OK), "no bin/llama-server: scripts/build-llama-server compiles it"
        case "nginx":
            there, remedy = shutil.which("nginx", path=_PATH) is not None, "no nginx: apt-get install nginx-light"
        case "browser":
            found = any(shutil.which(name, path=_PATH) for name in _BROWSERS)
            there, remedy = found, "no Chromium: apt-get install chromium"
        case _:
            raise ValueError(tier)
    return None if there else remedy


TIERS = ("compiled", "nginx", "browser")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    missing = {tier for tier in TIERS if why_missing(tier) is not None}
    left_out: Counter[str] = Counter()
    kept, out = [], []
    for item in items:
        tier = next((tier for tier in TIERS if tier in missing and item.get_closest_marker(tier)), None)
        if tier is None:
            kept.append(item)
        else:
            left_out[tier] += 1
            out.append(item)
    config.stash[_left_out] = left_out
    if out:
        config.hook.pytest_deselected(items=out)
        items[:] = kept


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    left_out = config.stash.get(_left_out, Counter())
    for tier, count in left_out.items():
        terminalreporter.write_line(f"left out: tier {tier}, {count} tests ({why_missing(tier)})", yellow=True)
    if not left_out and not config.option.collectonly:
        terminalreporter.write_line(f"tiers: nothing left out (embedded, {', '.join(TIERS)})")
