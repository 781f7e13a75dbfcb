"""What was found, as it is found: tables and lines at once, figures for a file, and what had to hold.

A part that fails is said with its reason, counts as not well, and the next one goes on.
"""

from __future__ import annotations

import json
import sys
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path

from llamarouter.cli.output import table


def _print(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


@dataclass(frozen=True, slots=True)
class Check:
    """Something that had to hold. `said`: the figures."""

    name: str
    held: bool
    said: str = ""


@dataclass(slots=True)
class Report:
    """`say` prints a line; `figures` is what a program may read afterwards."""

    say: Callable[[str], None] = _print
    figures: dict[str, object] = field(default_factory=dict)
    checks: list[Check] = field(default_factory=list)

    @contextmanager
    def trying(self, what: str) -> Iterator[None]:
        """Whatever goes wrong within is said and counted, and ends nothing else."""
        try:
            yield
        except Exception as error:  # noqa: BLE001 (what follows knows nothing of it, and such a machine is dear)
            self.say(traceback.format_exc().rstrip())
            self.check(f"{what}: it runs to its end", False, f"{type(error).__name__}: {error}"[:300])

    @contextmanager
    def part(self, title: str) -> Iterator[None]:
        """A part of it, with a heading and the time that it took."""
        began = time.monotonic()
        self.say(f"\n== {title}")
        with self.trying(title):
            yield
        seconds = time.monotonic() - began
        self.say(f"   ({seconds:.1f} s)")
        self.figures[f"seconds: {title}"] = round(seconds, 1)

    def table(self, name: str, columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
        """Show rows (a column whose name begins with `>` is one of numbers), and keep them."""
        for line in table(columns, rows):
            self.say(line)
        heads = [column.removeprefix(">") for column in columns]
        self.figures[name] = [dict(zip(heads, row, strict=True)) for row in rows]

    def check(self, name: str, held: bool, said: str = "") -> None:
        """Note whether it holds; what does not is said at once."""
        self.checks.append(Check(name, held, said))
        if not held:
            self.say(f"NOT WELL  {name}: {said}")

    @property
    def is_well(self) -> bool:
        """Whether there were checks, and all held."""
        return bool(self.checks) and all(check.held for check in self.checks)

    def end(self) -> None:
        """Say what did not hold, and how many did."""
        failed = [check for check in self.checks if not check.held]
        self.say("")
        for check in failed:
            self.say(f"NOT WELL  {check.name}: {check.said}")
        self.say(f"{'well' if self.is_well else 'NOT WELL'}: {len(self.checks)} checks, {len(failed)} failed")

    def save(self, path: Path) -> None:
        """Everything, as JSON."""
        path.parent.mkdir(parents=True, exist_ok=True)
        kept = {"well": self.is_well, "checks": [asdict(check) for check in self.checks], **self.figures}
        path.write_text(json.dumps(kept, indent=1, default=str) + "\n", encoding="utf-8")
