"""How `lr pull` shows what happens: bars on a terminal, lines elsewhere, JSON lines for programs."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Protocol

from llamarouter.cli.failures import one_line
from llamarouter.cli.output import duration_of, say, size_of
from llamarouter.core.fetch_events import Failed, Fetched, FetchEvent, Noted, Planned, Progressed, encode_event

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID

LINE_EVERY_SECONDS = 10.0


class Display(Protocol):
    def tell(self, event: FetchEvent) -> None: ...


@contextmanager
def display_for(as_json: bool) -> Iterator[Display]:
    """The display for where stdout goes."""
    if as_json:
        yield _Json()
    elif sys.stdout.isatty():
        with _Bars.shown() as bars:
            yield bars
    else:
        yield _Lines()


class _Json:
    def tell(self, event: FetchEvent) -> None:
        say(encode_event(event).decode(), newline=False)


class _Words:
    """What both displays for people say besides progress."""

    def __init__(self) -> None:
        self._began = time.monotonic()
        self._size = 0

    def tell(self, event: FetchEvent) -> None:
        match event:
            case Planned():
                self._size = event.missing
                self._say(_plan_in_words(event))
                self.planned(event)
            case Progressed():
                self.progressed(event)
            case Noted():
                self._say(one_line(f"{event.path}: {event.message}" if event.path else event.message))
            case Fetched():
                self.ended()
                say(self._end_in_words(event))
            case Failed():
                self.ended()
                say(f"lr: {one_line(event.message)}", err=True)

    def planned(self, event: Planned) -> None:
        """The plan was said."""

    def progressed(self, event: Progressed) -> None:
        raise NotImplementedError

    def ended(self) -> None:
        """The last word comes next."""

    def _say(self, text: str) -> None:
        say(text)

    def _end_in_words(self, event: Fetched) -> str:
        seconds = time.monotonic() - self._began
        name = one_line(event.id)
        if self._size == 0 and event.commit:
            return f"{name} is here already, and whole; `lr run {name}` talks to it"
        came = f" ({size_of(self._size)} in {duration_of(seconds)})" if self._size else ""
        return f"{name} is here{came}; `lr run {name}` talks to it"


def _plan_in_words(plan: Planned) -> str:
    count = f"{len(plan.files)} file{'s' if len(plan.files) != 1 else ''}"
    there = plan.size - plan.missing
    here = f", {size_of(there)} of it here already" if there else ""
    return one_line(f"{plan.id} into {plan.cache}: {count}, {size_of(plan.size)}{here}")


class _Lines(_Words):
    """A line for each file every ten seconds, and one when it is whole."""

    def __init__(self) -> None:
        super().__init__()
        self._said: dict[str, tuple[float, int]] = {}  # when, and how much was here then
        self._whole: set[str] = set()

    def progressed(self, event: Progressed) -> None:
        now = time.monotonic()
        when, before = self._said.setdefault(event.url, (now, event.done))
        whole = event.done >= event.total
        if event.url in self._whole or not (whole or now - when >= LINE_EVERY_SECONDS):
            return
        if whole:
            self._whole.add(event.url)
        speed = (event.done - before) / (now - when) if now > when else 0.0
        self._said[event.url] = (now, event.done)
        left = f", {duration_of((event.total - event.done) / speed)} left" if speed and not whole else ""
        rate = f", {size_of(speed)}/s" if speed else ""
        share = event.done / max(1, event.total)
        say(one_line(f"{event.path}  {share:4.0%}  {size_of(event.done)} of {size_of(event.total)}{rate}{left}"))


class _Bars(_Words):
    """One bar a file: what is here, how fast it comes, how long it will take."""

    def __init__(self, progress: Progress) -> None:
        super().__init__()
        self._progress = progress
        self._tasks: dict[str, TaskID] = {}

    @classmethod
    @contextmanager
    def shown(cls) -> Iterator[_Bars]:
        from rich.console import Console
        from rich.progress import (
            BarColumn,
            DownloadColumn,
            Progress,
            TaskProgressColumn,
            TextColumn,
            TimeRemainingColumn,
            TransferSpeedColumn,
        )
        from rich.table import Column

        name = TextColumn("{task.description}", markup=False, table_column=Column(ratio=1, no_wrap=True))
        columns = (BarColumn(24), TaskProgressColumn(), DownloadColumn(), TransferSpeedColumn(), TimeRemainingColumn())
        with Progress(name, *columns, console=Console(highlight=False), expand=True) as progress:
            yield cls(progress)

    def planned(self, event: Planned) -> None:
        for file in event.files:
            self._bar(file.path, file.url, file.size if file.cached else file.have, file.size)

    def progressed(self, event: Progressed) -> None:
        self._progress.update(self._bar(event.path, event.url, event.done, event.total), completed=event.done)

    def _bar(self, path: str, url: str, done: int, total: int) -> TaskID:
        task = self._tasks.get(url)
        if task is None:
            shown = one_line(path.rpartition("/")[2])
            task = self._tasks[url] = self._progress.add_task(shown, total=total, completed=done)
        return task

    def ended(self) -> None:
        self._progress.stop()

    def _say(self, text: str) -> None:
        self._progress.console.print(text, markup=False, soft_wrap=True)
