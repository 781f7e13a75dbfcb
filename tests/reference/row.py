"""A row of the comparison: something that is done to both routers, and what is looked at."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from tests.reference.seen import Seen
from tests.reference.side import Side

# What the rows are about, in the order of the table.
COMMAND_LINE = "command line"
DISCOVERY = "discovery"
PRESETS = "presets"
ENDPOINTS = "endpoints"
MODELS = "models"
EVENTS = "events"
RELAYED = "relayed"
LIFE = "life of a model"
PAGE = "page"
ORDER = (COMMAND_LINE, DISCOVERY, PRESETS, ENDPOINTS, MODELS, EVENTS, RELAYED, LIFE, PAGE)

Look = Callable[[Side], Seen]


@dataclass(frozen=True)
class Row:
    """`look` does it to one side and says what it saw."""

    about: str
    name: str
    look: Look

    @property
    def title(self) -> str:
        return f"{self.about}: {self.name}"


class Rows:
    """Rows that are looked at on one pair of running routers, in the order in which they are written."""

    def __init__(self) -> None:
        self.rows: list[Row] = []

    def row(self, about: str, name: str) -> Callable[[Look], Look]:
        """Make the decorated function a row."""

        def add(look: Look) -> Look:
            self.rows.append(Row(about, name, look))
            return look

        return add

    def ask(self, about: str, name: str, method: str, path: str, body: object = None, **options: object) -> None:
        """A row that is one request: status, headers and body of its answer."""
        self.rows.append(Row(about, name, lambda side: side.see(method, path, body, **options)))
