"""Tables and cells of Markdown."""

from __future__ import annotations

from collections.abc import Iterable, Sequence


def code(text: str) -> str:
    """A piece of code inside a cell."""
    return f"`{cell(text)}`" if text else ""


def cell(text: str) -> str:
    """Text that stays within its cell."""
    return " ".join(text.split()).replace("|", "\\|")


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table; its cells are Markdown already."""
    lines = [head, ["---" for _ in head], *rows]
    return "".join("|" + "|".join(f" {each} " if each else " " for each in line) + "|\n" for line in lines)
