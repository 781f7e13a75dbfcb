"""Reads llama.cpp's own `config.ini`: the system's, and the user's over it (`common/arg.cpp`, build b11434)."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Mapping
from pathlib import Path

from llamarouter.core.config_ini import SYSTEM
from llamarouter.core.ini import Ini, parse_ini


def read_config(environ: Mapping[str, str]) -> Ini | None:
    """What both say; None where neither is there, or can be read."""
    home = environ.get("XDG_CONFIG_HOME") or os.path.join(environ.get("HOME", "/"), ".config")
    config: Ini | None = None
    for path in (SYSTEM, os.path.join(home, "llama.cpp", "config.ini")):
        with contextlib.suppress(OSError, UnicodeDecodeError):
            found = parse_ini(Path(path).read_text(encoding="utf-8-sig"), path)
            config = found if config is None else config.joined(found)
    return config
