"""What is kept of a run, and what has become worse since the last one."""

from __future__ import annotations

import json
import os
import platform
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from bench.measure import Measure

_NOTEWORTHY = 0.10  # of a figure: less is the machine's mood


def machine() -> str:
    """On what this was measured, in a line."""
    names = {
        line.partition(":")[2].strip()
        for line in Path("/proc/cpuinfo").read_text().splitlines()
        if line.startswith("model name")
    }
    return (
        f"{os.cpu_count()} cores, {', '.join(sorted(names)) or platform.machine()}; Python {platform.python_version()}"
    )


def save(measures: list[Measure], path: Path, before: Sequence[Measure] = ()) -> None:
    """Keep everything that was measured, and of what was measured `before` the rows that this run has left out."""
    path.parent.mkdir(parents=True, exist_ok=True)
    names = {measure.name for measure in measures}
    rows = [*measures, *(measure for measure in before if measure.name not in names)]
    kept = {"machine": machine(), "load": os.getloadavg()[0], "measures": [asdict(row) for row in rows]}
    path.write_text(json.dumps(kept, indent=1) + "\n", encoding="utf-8")


def last(path: Path) -> list[Measure]:
    """What the last run has kept; nothing where there was none, or one of another form."""
    try:
        return [Measure(**each) for each in json.loads(path.read_text(encoding="utf-8"))["measures"]]
    except (OSError, ValueError, KeyError, TypeError):
        return []


def worse(before: list[Measure], now: list[Measure]) -> list[str]:
    """The rows that have become noticeably worse, each in a line.

    Ratios are compared where there are some, since the machine may have another mood today; else the figures.
    """
    lines = []
    known = {measure.name: measure for measure in before}
    for measure in now:
        other = known.get(measure.name)
        if other is None:
            continue
        kind, then, today = "", other.ratio(), measure.ratio()
        if then is None or today is None:
            kind, then, today = f" {measure.unit}", other.median("lr"), measure.median("lr")
        if not then or today is None:
            continue
        change = today / then - 1 if measure.better == "less" else then / max(today, 1e-9) - 1
        if change > _NOTEWORTHY:
            against = "" if kind else " of the reference"
            lines.append(f"{measure.name}: {today:.3g}{kind}{against}, last time {then:.3g}")
    return lines
