"""What every test shares: the event loop that the router itself runs on."""

from __future__ import annotations

import pytest

pytest_plugins = ("tests.tiers",)


@pytest.fixture
def anyio_backend() -> tuple[str, dict[str, bool]]:
    return "asyncio", {"use_uvloop": True}
