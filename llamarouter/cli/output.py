"""Words, tables and JSON for the terminal, made by hand: importing rich costs more than most commands take.

Colours only where a terminal reads and neither `NO_COLOR` (https://no-color.org) nor `TERM=dumb` forbids them.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Mapping, Sequence
from typing import IO

import click

from llamarouter.cli.failures import one_line


def say(text: str = "", *, newline: bool = True, err: bool = False) -> None:
    """Write to stdout (or stderr)."""
    click.echo(text, nl=newline, err=err, color=True)  # `styled` has decided; click must not decide again


def say_json(value: object) -> None:
    """Write `value` for programs. ASCII: no locale can break it, no escape in it can reach the terminal."""
    say(json.dumps(value, indent=2))


def is_colourful(stream: IO[str] | None = None) -> bool:
    """Whether colours are wanted on `stream` (by default stdout)."""
    target = sys.stdout if stream is None else stream
    return target.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"


def styled(text: str, *, err: bool = False, fg: str | None = None, bold: bool = False, dim: bool = False) -> str:
    """`text` in a colour, where colours are wanted."""
    if not is_colourful(sys.stderr if err else sys.stdout):
        return text
    return click.style(text, fg=fg, bold=bold or None, dim=dim or None)  # False would be written, too


class StatusLine:
    """One line on stderr that changes and vanishes; nothing where nobody watches. May be used from two threads."""

    def __init__(self) -> None:
        self._wanted = is_colourful(sys.stderr)
        self._shown = False

    def show(self, text: str) -> None:
        if self._wanted and text:
            self._shown = True
            say(f"\r\x1b[K{styled(one_line(text), err=True, dim=True)}", newline=False, err=True)

    def clear(self) -> None:
        if self._shown:
            self._shown = False
            say("\r\x1b[K", newline=False, err=True)


STATE_COLOURS = {
    "loaded": "green",
    "loading": "yellow",
    "downloading": "yellow",
    "sleeping": "cyan",
    "failed": "red",
    "unusable": "red",
}


def table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """Aligned lines, the head first. A column whose name begins with `>` is aligned to the right."""
    heads = [column.removeprefix(">") for column in columns]
    cells = [[one_line(cell) for cell in row] for row in rows]
    widths = [max([len(head), *(len(row[index]) for row in cells)]) for index, head in enumerate(heads)]

    def line(row: Sequence[str]) -> list[str]:
        pairs = zip(row, columns, widths, strict=True)
        return [cell.rjust(width) if column[0] == ">" else cell.ljust(width) for cell, column, width in pairs]

    head = "  ".join(line(heads)).rstrip()
    return [styled(head, dim=True), *("  ".join(_coloured(line(row))).rstrip() for row in cells)]


def _coloured(cells: list[str]) -> list[str]:
    return [styled(cell, fg=STATE_COLOURS[word]) if (word := cell.strip()) in STATE_COLOURS else cell for cell in cells]


def size_of(count: float | None) -> str:
    """Bytes as people say them, in powers of a thousand (as the Hub and `df -H` do): `4.8 GB`."""
    if not count:
        return "-"
    for unit in ("B", "kB", "MB", "GB"):
        if count < 999.5:
            return f"{count:.0f} {unit}" if unit == "B" or count >= 99.95 else f"{count:.1f} {unit}"
        count /= 1000
    return f"{count:.1f} TB"


def by_device(sizes: Mapping[str, int]) -> str:
    """Bytes by device: `CUDA0 5.1 GB + Host 310 MB`; without a name where there is nothing but the host."""
    named = set(sizes) != {"Host"}
    return " + ".join(f"{name} {size_of(size)}" if named else size_of(size) for name, size in sizes.items() if size)


def count_of(number: float | None) -> str:
    """Parameters as models are named after them: `135M`, `4.3B`."""
    if not number:
        return "-"
    for unit in ("", "K", "M", "B"):
        if number < 999.5:
            return f"{number:.1f}{unit}" if unit == "B" and number < 99.95 else f"{number:.0f}{unit}"
        number /= 1000
    return f"{number:.1f}T"


def duration_of(seconds: float | None) -> str:
    """Seconds as people say them: `0.4 s`, `12 s`, `5 min`, `3 h 20 min`, `2 d 4 h`."""
    if seconds is None:
        return "-"
    if seconds < 9.95:
        return f"{max(0.0, seconds):.1f} s"
    if seconds < 119.5:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    hours, days = minutes // 60, minutes // 1440
    if hours == 0:
        return f"{minutes} min"
    if days == 0:
        return f"{hours} h {minutes % 60} min" if minutes % 60 else f"{hours} h"
    return f"{days} d {hours % 24} h" if hours % 24 else f"{days} d"


def number_of(value: object) -> str:
    """A number that may be unknown."""
    if value is None:
        return "-"
    return f"{value:.1f}" if isinstance(value, float) else one_line(value)


def printable(text: str) -> str:
    """What a model wrote, without the control characters that would steer the terminal."""
    return "".join(character for character in text if character in "\n\t" or not _steers(ord(character)))


def _steers(point: int) -> bool:
    return point < 0x20 or 0x7F <= point < 0xA0  # C0, DEL and C1
