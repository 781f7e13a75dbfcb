"""A tier whose program is missing is left out and named; one whose program is there runs."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests import tiers, upstream_ui

ROOT = Path(__file__).parent.parent

SUITE = """
import pytest

@pytest.mark.nginx
def test_with_nginx():
    pass

@pytest.mark.browser
def test_with_a_browser():
    pass

def test_plain():
    pass
"""


@pytest.fixture
def run(tmp_path: Path) -> Callable[[str], str]:
    (tmp_path / "test_suite.py").write_text(SUITE)

    def run_suite(path: str) -> str:
        # The places outside of PATH are emptied too, by a module that is imported before the plug-in.
        start = f"from tests import tiers; tiers._PATH = {path!r}; import pytest; "
        command = f"import sys; {start}sys.exit(pytest.main(sys.argv[1:], plugins=[tiers]))"
        options = ("-q", "-p", "no:cacheprovider", "-c", f"{ROOT}/pyproject.toml", "--rootdir", str(tmp_path))
        argv = [sys.executable, "-c", command, *options, str(tmp_path)]
        result = subprocess.run(argv, cwd=ROOT, env=os.environ, capture_output=True, text=True)
        assert result.returncode == 0, result.stdout + result.stderr
        return result.stdout

    return run_suite


def test_a_missing_tier_is_named_and_the_rest_runs(run: Callable[[str], str], tmp_path: Path) -> None:
    output = run(str(tmp_path)).splitlines()
    assert "left out: tier nginx, 1 tests (no nginx: apt-get install nginx-light)" in output
    assert "left out: tier browser, 1 tests (no Chromium: apt-get install chromium)" in output
    assert output[-1].startswith("1 passed, 2 deselected")


def test_a_tier_that_is_there_runs(run: Callable[[str], str], tmp_path: Path) -> None:
    for name in ("nginx", "chromium"):
        (tmp_path / name).touch(mode=0o755)
    output = run(str(tmp_path)).splitlines()
    assert output[-1].startswith("3 passed")
    assert not any(line.startswith("left out") for line in output)


def test_the_compiled_tier_is_there_with_its_binary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tiers, "ENGINE", tmp_path / "llama-server")
    assert tiers.why_missing("compiled") is not None
    (tmp_path / "llama-server").touch(mode=0o755)
    assert tiers.why_missing("compiled") is None


def test_the_tier_of_the_page_is_there_once_it_is_fetched(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(upstream_ui, "FOLDER", tmp_path / "cache" / "ui")
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    upstream_ui.folder.cache_clear()
    why = tiers.why_missing("ui")
    assert why is not None
    assert why.startswith(f"pip download {upstream_ui.WHEEL}: ERROR: No matching distribution")
    assert list((tmp_path / "cache").iterdir()) == []
    (tmp_path / "cache" / "ui").mkdir()
    assert tiers.why_missing("ui") is None
    upstream_ui.folder.cache_clear()
