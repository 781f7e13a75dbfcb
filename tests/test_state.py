"""Where state is kept, and that a file is written whole or not at all."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from llamarouter.host.state import data_dir, home_of, state_dir, write_atomically


@pytest.mark.parametrize(
    ("environ", "folder"),
    [
        ({"LR_STATE_DIR": "/s", "XDG_STATE_HOME": "/x", "HOME": "/h"}, "/s"),
        ({"XDG_STATE_HOME": "/x", "HOME": "/h"}, "/x/llamarouter"),
        ({"XDG_STATE_HOME": "relative", "HOME": "/h"}, "/h/.local/state/llamarouter"),
        ({"LR_STATE_DIR": "", "HOME": "/h"}, "/h/.local/state/llamarouter"),
    ],
)
def test_state_dir(environ: dict[str, str], folder: str) -> None:
    assert state_dir(environ) == Path(folder)


def test_data_dir() -> None:
    assert data_dir({"HOME": "/h"}) == Path("/h/.local/share/llamarouter")
    assert data_dir({"XDG_DATA_HOME": "/x"}) == Path("/x/llamarouter")
    assert data_dir({"LR_DATA_DIR": "d"}) == Path.cwd() / "d"


def test_home_without_a_variable() -> None:
    assert os.path.isabs(home_of({}))


def test_writes_with_folder_and_mode(tmp_path: Path) -> None:
    path = tmp_path / "a" / "b" / "file"
    write_atomically(path, b"one")
    write_atomically(path, b"two", mode=0o644)
    assert path.read_bytes() == b"two"
    assert stat.S_IMODE(path.stat().st_mode) == 0o644
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    assert [entry.name for entry in path.parent.iterdir()] == ["file"]


def test_private_by_default(tmp_path: Path) -> None:
    write_atomically(tmp_path / "file", b"")
    assert stat.S_IMODE((tmp_path / "file").stat().st_mode) == 0o600


def test_a_failure_leaves_the_old_file_and_nothing_else(tmp_path: Path) -> None:
    (tmp_path / "target" / "inside").mkdir(parents=True)
    with pytest.raises(OSError, match="directory"):
        write_atomically(tmp_path / "target", b"new")  # a folder cannot be replaced by a file
    assert [entry.name for entry in tmp_path.iterdir()] == ["target"]


def test_every_folder_that_is_made_on_the_way_is_private(tmp_path: Path) -> None:
    write_atomically(tmp_path / "state" / "engines" / "x.json", b"x")
    modes = [stat.S_IMODE((tmp_path / name).stat().st_mode) for name in ("state", "state/engines")]
    assert modes == [0o700, 0o700]
