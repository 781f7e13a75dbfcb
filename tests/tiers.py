"""The tiers of the suite: tests that need what may not be here, marked `compiled`, `nginx`, `browser`, `cc`,
`systemd`, `shells`, `pypi` or `ui`.

Where the program is missing, its tier is left out as a whole (deselected, not skipped one by one), and the end of the
report names it with what would bring it in: a run that left something out never looks like one that did not.
"""

from __future__ import annotations

import functools
import os
import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from tests import upstream_ui

ENGINE = Path(__file__).parent.parent / "bin" / "llama-server"
# Debian keeps nginx where the PATH of an ordinary user does not look.
_PATH = os.pathsep.join((os.environ.get("PATH", os.defpath), "/usr/sbin", "/usr/local/sbin"))
_BROWSERS = ("chromium", "chromium-browser", "google-chrome")

_left_out = pytest.StashKey[Counter[str]]()
_reasons = pytest.StashKey[dict[str, str | None]]()


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
        case "cc":
            there, remedy = shutil.which("cc") is not None, "no C compiler: apt-get install gcc"
        case "systemd":
            there, remedy = shutil.which("systemd-analyze") is not None, "no systemd-analyze: apt-get install systemd"
        case "shells":
            there, remedy = all(map(shutil.which, ("zsh", "fish"))), "no zsh or no fish: apt-get install zsh fish"
        case "pypi":
            return _why_no_pypi()
        case "ui":
            return _why_no_ui()
        case _:
            raise ValueError(tier)
    return None if there else remedy


def _why_no_pypi() -> str | None:
    ask = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--no-cache-dir", "--retries", "0"]
    with tempfile.TemporaryDirectory() as folder:
        done = subprocess.run(
            [*ask, "--disable-pip-version-check", "--timeout", "5", "--dest", folder, "wheel"],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=60,
            check=False,
        )
    return None if done.returncode == 0 else "pip reaches no index of packages: a network, or a mirror in pip.conf"


def _why_no_ui() -> str | None:
    try:
        upstream_ui.folder()
    except (upstream_ui.NotFetched, OSError, zipfile.BadZipFile) as error:
        return str(error)
    return None


TIERS = ("compiled", "nginx", "browser", "cc", "systemd", "shells", "pypi", "ui")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    # Asked only where some test needs it: the last one may have to be fetched.
    why = functools.cache(why_missing)
    left_out: Counter[str] = Counter()
    kept, out = [], []
    for item in items:
        tier = next((tier for tier in TIERS if item.get_closest_marker(tier) and why(tier) is not None), None)
        if tier is None:
            kept.append(item)
        else:
            left_out[tier] += 1
            out.append(item)
    _note(config, left_out, {tier: why(tier) for tier in left_out})
    if out:
        config.hook.pytest_deselected(items=out)
        items[:] = kept


def _note(config: pytest.Config, left_out: Counter[str], reasons: dict[str, str | None]) -> None:
    config.stash[_left_out], config.stash[_reasons] = left_out, reasons
    if hasattr(config, "workeroutput"):  # one of several processes: the one that reports has collected nothing itself
        config.workeroutput.update(left_out=dict(left_out), reasons=reasons)


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any) -> None:
    """A process of pytest-xdist has ended; each of them has collected everything."""
    said = getattr(node, "workeroutput", {})
    if "left_out" in said:
        _note(node.config, Counter(said["left_out"]), said["reasons"])


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    left_out, reasons = config.stash.get(_left_out, Counter()), config.stash.get(_reasons, {})
    for tier, count in left_out.items():
        terminalreporter.write_line(f"left out: tier {tier}, {count} tests ({reasons[tier]})", yellow=True)
    if not left_out and not config.option.collectonly:
        terminalreporter.write_line(f"tiers: nothing left out (embedded, {', '.join(TIERS)})")
