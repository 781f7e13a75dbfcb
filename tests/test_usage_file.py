"""What keys have used, on the disk: what cannot be read is nothing, what cannot be written is no failure."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from llamarouter.host.usage_file import USAGE, UsageFile


def test_what_is_written_is_read(tmp_path: Path) -> None:
    file = UsageFile(tmp_path / "state" / USAGE)
    assert file.read() == (0, {})
    file.write(20_000, {"1.0 ann": 7, 'a "b"': 0})
    assert file.read() == (20_000, {"1.0 ann": 7, 'a "b"': 0})
    assert stat.S_IMODE(os.stat(file.path).st_mode) == 0o600


@pytest.mark.parametrize(
    "text", ["", "day = 1", "day = 'x'\n[tokens]", "day = 1\n[tokens]\na = 'b'", "\0", "day = 1\n#" + "x" * (5 << 20)]
)
def test_what_is_not_ours_counts_as_nothing(tmp_path: Path, text: str) -> None:
    (tmp_path / USAGE).write_text(text)
    assert UsageFile(tmp_path / USAGE).read() == (0, {})


def test_no_key_has_used_less_than_nothing(tmp_path: Path) -> None:
    (tmp_path / USAGE).write_text("day = 1\n[tokens]\na = -5\n")
    assert UsageFile(tmp_path / USAGE).read() == (1, {"a": 0})


def test_a_folder_that_cannot_be_written_costs_the_memory_alone(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    UsageFile(tmp_path / "file" / USAGE).write(1, {})
    assert (tmp_path / "file").read_bytes() == b""
