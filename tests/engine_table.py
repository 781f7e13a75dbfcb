"""The option table of a real llama-server (build b11434), read from its help text as a test datum."""

from __future__ import annotations

from pathlib import Path

from llamarouter.core.flags import OptionTable

HELP = (Path(__file__).parent / "data" / "llama-server-b11434-help.txt").read_text(encoding="utf-8")
TABLE = OptionTable.parse(HELP)
