"""Where this program keeps what it writes, and how it writes it: whole files, or none.

The state folder holds what is derived or learnt and may be lost; the data folder what was built or fetched for it (a
compiled llama-server).
"""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import Mapping
from pathlib import Path


def state_dir(environ: Mapping[str, str]) -> Path:
    """`$LR_STATE_DIR`, else `$XDG_STATE_HOME/llamarouter`, else `~/.local/state/llamarouter`; it may not exist yet."""
    return _folder(environ, "LR_STATE_DIR", "XDG_STATE_HOME", ".local/state")


def data_dir(environ: Mapping[str, str]) -> Path:
    """`$LR_DATA_DIR`, else `$XDG_DATA_HOME/llamarouter`, else `~/.local/share/llamarouter`; it may not exist yet."""
    return _folder(environ, "LR_DATA_DIR", "XDG_DATA_HOME", ".local/share")


def home_of(environ: Mapping[str, str]) -> str:
    """`$HOME`, else what the user database says."""
    return environ.get("HOME") or os.path.expanduser("~")


def write_atomically(path: Path, content: bytes, mode: int = 0o600) -> None:
    """Replace the file at `path`, creating its folder (0700): a reader, or a crash, sees the old content or the new.

    Raises OSError; then nothing of the new content is left.
    """
    _make_private(path.parent)
    descriptor, temporary = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
            file.flush()
            os.fchmod(file.fileno(), mode)
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(temporary)
        raise
    _sync_folder(path.parent)


def _make_private(folder: Path) -> None:
    """Make what is missing of a path, all of it 0700: `mkdir(parents=True)` leaves the upper ones open."""
    if not folder.parent.exists():
        _make_private(folder.parent)
    folder.mkdir(mode=0o700, exist_ok=True)


def _folder(environ: Mapping[str, str], own: str, xdg: str, below_home: str) -> Path:
    if environ.get(own):
        return Path(os.path.abspath(environ[own]))
    base = environ.get(xdg, "")
    # A relative XDG folder is invalid and to be ignored, says its specification.
    if not os.path.isabs(base):
        base = os.path.join(home_of(environ), below_home)
    return Path(base, "llamarouter")


def _sync_folder(folder: Path) -> None:
    """Make a rename survive a power cut; some file systems cannot, and then the rename alone has to do."""
    with contextlib.suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
