"""What every test shares: the event loop that the router itself runs on; a browser where one is asked for."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.chromium import Browser

pytest_plugins = ("tests.bounds", "tests.tiers")


@pytest.fixture
def anyio_backend() -> tuple[str, dict[str, bool]]:
    return "asyncio", {"use_uvloop": True}


@pytest.fixture
def browser(tmp_path: Path) -> Iterator[Browser]:
    """A headless Chromium; its tests are marked `browser`."""
    folder = tmp_path / "browser"
    folder.mkdir()
    with Browser(folder) as browser:
        yield browser
