"""Every route of the application, as it stands in its table: what a test that walks them all goes by."""

from __future__ import annotations

from pathlib import Path

from llamarouter.server.app import application
from llamarouter.server.guard import Guard
from tests.node_kit import house


async def route_table(folder: Path) -> list[tuple[str, str]]:
    """Methods and paths; `folder`: for a house that nobody lives in."""
    async with house(folder) as home:
        app = application(home.node, trusted=False)
        assert isinstance(app, Guard)
        return [(method, route.path) for route in app._routes for method in sorted(route.methods or ())]
