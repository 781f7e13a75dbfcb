"""The end of it on a terminal: what became of the requests, what was done, what is left; then one line."""

from __future__ import annotations

from dataclasses import dataclass

from rich.console import Console
from rich.table import Table

from soak.book import Book
from soak.census import Row
from soak.verdict import Fate


@dataclass(frozen=True, slots=True)
class End:
    """`warm`: the book of the warm-up, in which nothing may be lost either; `code`: of the router, None: it stayed."""

    warm: Book
    book: Book
    rows: list[Row]
    code: int | None
    left: list[str]
    tracebacks: list[str]

    @property
    def complaints(self) -> list[str]:
        """What is not well, a line each."""
        said = []
        for when, book in (("", self.book), ("warm-up: ", self.warm)):
            said += [f"{when}{each}" for each in book.lost] + [f"{when}{each}" for each in book.misdone]
        said += [f"{row.name}: {row.after}, {row.bar} at most" for row in self.rows if not row.is_well]
        if self.code != 0:
            said.append(f"the router did not end within its time, or not well: exit code {self.code}")
        return said + [f"left behind: {each}" for each in self.left] + self.tracebacks

    @property
    def is_well(self) -> bool:
        return not self.complaints


def show(end: End, console: Console) -> None:
    console.print(_fates(end.book), _deeds(end.book), _rows(end.rows))
    for complaint in end.complaints:
        console.print(complaint, style="red", markup=False, highlight=False)
    lost = end.book.count(Fate.LOST) + end.warm.count(Fate.LOST)
    said = f"{end.book.requests} requests, {lost} lost; {end.book.deeds.total()} deeds, {end.book.failures} not as said"
    console.print(f"{'well' if end.is_well else 'NOT WELL'}: {said}")


def _fates(book: Book) -> Table:
    table = Table("requests", *(fate.value for fate in Fate), "slowest", title="What became of the requests")
    for kind in sorted(book.slowest):
        counts = (str(book.fates[kind, fate] or "") for fate in Fate)
        table.add_row(kind, *counts, f"{book.slowest[kind]:.1f} s")
    table.add_section()
    table.add_row("all", *(str(book.count(fate)) for fate in Fate), "")
    return table


def _deeds(book: Book) -> Table:
    table = Table("deed", "times", title="What was done meanwhile")
    for name, times in sorted(book.deeds.items()):
        table.add_row(name, str(times))
    return table


def _rows(rows: list[Row]) -> Table:
    table = Table("at rest", "after the warm-up", "at the end", "at most", "", title="What it holds")
    for row in rows:
        table.add_row(row.name, str(row.before), str(row.after), str(row.bar), "ok" if row.is_well else "MISSED")
    return table
