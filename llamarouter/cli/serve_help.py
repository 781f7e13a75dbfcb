"""`lr serve --help`, printed from the table of our own options; the engine's own are its `--help`'s matter."""

from __future__ import annotations

import textwrap
from itertools import groupby

import click

from llamarouter.core.own_option import OwnOption
from llamarouter.core.own_options import OWN

_COLUMN = 34
_WIDTH = 100

_HEAD = """\
Usage: lr serve [OPTIONS] [ANY OPTION OF llama-server]

  Serve every model that is found, each in a llama-server process of its own, loaded at the first request.
  Models are found in the Hugging Face cache, in llama.cpp's cache, in --models-dir and in --models-preset.

  With -m or -hf only that one is served, and what --models-dir and --models-preset name beside it.

  Options of llama-server are given to every model: lr serve -c 8192 -ngl 99
  A model's own section of the preset wins over them; lr explain MODEL shows where each value comes from.

Examples:
  lr serve -hf ggml-org/gemma-3-4b-it-GGUF --alias gemma
  lr serve --models-dir ~/models
  lr serve --models-preset presets/one-24gb-gpu.ini --models-max 2
  lr serve --host 0.0.0.0 --api-key-file keys.txt
"""

_TAIL = """
Signals: TERM and INT drain and end (a second one hurries), HUP reads preset, folders and certificate again.
Exit codes: 0 ended as asked, 1 failed, 2 wrong usage.
"""


def show_help() -> None:
    """Print the help."""
    lines = [_HEAD]
    for group, rows in groupby(OWN, key=lambda row: row.group):
        lines.append(f"{group}:")
        for row in rows:
            lines.extend(_lines_of(row))
        lines.append("")
    click.echo("\n".join(lines).rstrip() + "\n" + _TAIL, nl=False)


def _lines_of(row: OwnOption) -> list[str]:
    option = row.option
    spellings = ", ".join((*option.names, *option.negatives)) + (f" {option.hint}" if option.hint else "")
    notes = "; ".join(
        note
        for note in (
            f"default: {row.default}" if row.default else "",
            f"env: {', '.join(option.envs)}" if option.envs else "",
        )
        if note
    )
    text = option.help + (f" ({notes})" if notes else "")
    wrapped = textwrap.wrap(text, _WIDTH - _COLUMN)
    head = f"  {spellings}"
    first = [f"{head:<{_COLUMN}}{wrapped[0]}"] if len(head) < _COLUMN - 1 else [head, " " * _COLUMN + wrapped[0]]
    return [*first, *(" " * _COLUMN + line for line in wrapped[1:])]
