"""Reads llama.cpp's own `config.ini`: the system's, and the user's over it (`common/arg.cpp`, build b11434)."""

from __future__ import annotations

import os
from collections.abc import Mapping

from llamarouter.core.config_ini import SYSTEM
from llamarouter.core.ini import GLOBAL_SECTION, Ini, Section
from llamarouter.core.model import Skipped
from llamarouter.host.ini_file import UnreadableIni, read_ini


def read_config(environ: Mapping[str, str], system: str = SYSTEM) -> Ini | None:
    """What both say; None where neither is there. One that cannot be read says nothing but that, in a warning."""
    home = environ.get("XDG_CONFIG_HOME") or os.path.join(environ.get("HOME", "/"), ".config")
    config: Ini | None = None
    for path in (system, os.path.join(home, "llama.cpp", "config.ini")):
        if os.path.lexists(path):
            found = _read(path)
            config = found if config is None else config.joined(found)
    return config


def _read(path: str) -> Ini:
    try:
        return read_ini(path)
    except UnreadableIni as error:
        problem = Skipped(path, f"left out: cannot be read ({error})")
        return Ini(path, (Section(GLOBAL_SECTION, (), path, 0, problem),))
