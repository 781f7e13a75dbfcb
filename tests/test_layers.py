"""The house stands on its layers: imports point down, never round; the core touches nothing of the world."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.layers import BELOW, complaints_of

PACKAGE = Path(__file__).parent.parent / "llamarouter"


def test_imports_point_down() -> None:
    assert complaints_of(PACKAGE) == []


def test_every_folder_is_a_layer() -> None:
    folders = {path.name for path in PACKAGE.iterdir() if path.is_dir() and path.name != "__pycache__"}
    assert folders == set(BELOW)


def house(folder: Path, **modules: str) -> Path:
    """A package `house` with these modules, `core_a` for `house/core/a.py`."""
    package = folder / "house"
    for layer in ("", *BELOW):
        (package / layer).mkdir(parents=True, exist_ok=True)
        (package / layer / "__init__.py").touch()
    for name, content in modules.items():
        (package / f"{name.replace('_', '/', 1)}.py").write_text(content)
    return package


def test_a_sound_house_has_no_complaints(tmp_path: Path) -> None:
    package = house(
        tmp_path,
        core_a="import re\nfrom http import HTTPStatus\nimport oscar\nfrom dataclasses import dataclass\n",
        core_b="from house.core.a import dataclass\nfrom house.core import a\nfrom . import a as again\n",
        host_a="import os\nfrom house.core.b import a\n",
        relay_a="import asyncio\nimport house.core.b\n",
        server_a="from house.relay import a\nfrom house.host.a import os\n",
        cli_a="import click\n\ndef run():\n    from house.server.a import os\n",
    )
    assert complaints_of(package) == []


@pytest.mark.parametrize(
    ("modules", "complaint"),
    [
        ({"core_a": "import os\n"}, "house.core.a:1: the core imports os"),
        ({"core_a": "def f():\n    from time import time\n"}, "house.core.a:2: the core imports time.time"),
        ({"core_a": "from http import client\n"}, "the core imports http.client"),
        ({"core_a": "import asyncio.events\n"}, "the core imports asyncio.events"),
        ({"core_a": "from house.host import b\n", "host_b": ""}, "core imports house.host.b, which is not below it"),
        ({"core_a": "from ..host import b\n", "host_b": ""}, "core imports house.host.b, which is not below it"),
        ({"core_a": "from ..host.b import x\n", "host_b": "x = 1\n"}, "core imports house.host.b"),
        ({"host_a": "from house.relay.b import x\n", "relay_b": "x = 1"}, "host imports house.relay.b"),
        ({"relay_a": "def f():\n    import house.host\n"}, "relay imports house.host"),
        ({"server_a": "import house.cli\n"}, "server imports house.cli"),
        ({"server_a": "import click\n"}, "click belongs to the command line"),
        ({"core_a": "from house.core import b\n", "core_b": "import house.core.a\n"}, "a circle: "),
        (
            {
                "core_a": "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from house.cli import b\n",
                "cli_b": "",
            },
            "core imports house.cli.b",
        ),
    ],
)
def test_an_arrow_that_points_up_is_found(tmp_path: Path, modules: dict[str, str], complaint: str) -> None:
    complaints = complaints_of(house(tmp_path, **modules))
    assert len(complaints) == 1
    assert complaint in complaints[0]


def test_a_circle_that_only_types_or_calls_draw_is_none(tmp_path: Path) -> None:
    package = house(
        tmp_path,
        core_a="from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from house.core import b\n",
        core_b="from house.core import a\n",
    )
    assert complaints_of(package) == []
