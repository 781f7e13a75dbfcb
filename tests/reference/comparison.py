"""Both routers, the same requests, and what is apart: each difference named by an intended one, or not at all."""

from __future__ import annotations

import contextlib
import http.client
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

from tests.reference import rows_locked, rows_timed
from tests.reference.differences import INTENDED, OPEN
from tests.reference.intended import Claim, Difference
from tests.reference.row import ORDER, Rows
from tests.reference.rows_asked import ASKED
from tests.reference.rows_found import FOUND
from tests.reference.rows_lived import LIVED
from tests.reference.rows_started import STARTED
from tests.reference.seen import Apart, Seen, apart
from tests.reference.side import OURS, REFERENCE, running
from tests.reference.world import build

_MAIN = ("--models-dir", "models", "--models-preset", "models.ini", "--models-max", "2", "--offline")


@dataclass(frozen=True)
class Finding:
    """A row, and what is apart in it with the intended difference that says so (None: nobody does)."""

    title: str
    apart: tuple[tuple[Apart, Difference | None], ...]

    @property
    def codes(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys(found.code for _, found in self.apart if found is not None))

    @property
    def unexplained(self) -> tuple[Apart, ...]:
        return tuple(each for each, found in self.apart if found is None)


@dataclass
class Comparison:
    """Everything that was looked at."""

    findings: list[Finding] = field(default_factory=list)
    occurred: set[Claim] = field(default_factory=set)

    def add(self, title: str, there: Seen, here: Seen) -> None:
        named = []
        for each in apart(title, there, here):
            found = None
            for difference in (*INTENDED, *OPEN):
                claim = difference.claim_on(each)
                if claim is not None:
                    found = found or difference
                    self.occurred.add(claim)
            named.append((each, found))
        self.findings.append(Finding(title, tuple(named)))

    def unexplained(self) -> list[Apart]:
        return [each for finding in self.findings for each in finding.unexplained]

    def outdated(self) -> list[str]:
        """Claims of intended differences that did not occur."""
        return [
            f"{difference.code}: {claim}"
            for difference in INTENDED
            for claim in difference.claims
            if claim not in self.occurred
        ]


def compare(folder: Path, only: str = "") -> Comparison:
    """Look at every row whose title holds `only`, on both sides at once; `folder` is empty and short."""
    build(folder / "world")
    main = Rows()
    main.rows = [*FOUND.rows, *ASKED.rows, *LIVED.rows]
    groups: list[Callable[[str], Mapping[str, Seen]]] = [
        lambda side: _looked_at(main, side, folder / "main", only, _MAIN),
        lambda side: _looked_at(
            rows_locked.LOCKED, side, folder / "locked", only, rows_locked.ARGUMENTS, **rows_locked.ENVIRON
        ),
        lambda side: _looked_at(
            rows_timed.TIMED, side, folder / "timed", only, rows_timed.ARGUMENTS, **rows_timed.ENVIRON
        ),
        lambda side: _started(side, folder / "started", only),
    ]
    comparison = Comparison()
    with ThreadPoolExecutor(2 * len(groups)) as pool:
        tasks = [[pool.submit(group, side) for side in (REFERENCE, OURS)] for group in groups]
        pairs = [(there.result(), here.result()) for there, here in tasks]
    for there, here in pairs:
        for title in there:
            comparison.add(title, there[title], here[title])
    comparison.findings.sort(key=lambda finding: ORDER.index(finding.title.partition(": ")[0]))
    return comparison


@contextlib.contextmanager
def _world(folder: Path, side: str) -> Iterator[Path]:
    """A copy of the world for one side; the folder is called the same for both."""
    root = folder / side
    shutil.copytree(folder.parent / "world", root, symlinks=True)
    yield root


def _looked_at(
    rows: Rows, side: str, folder: Path, only: str, arguments: Sequence[str], **environ: str
) -> Mapping[str, Seen]:
    wanted = [row for row in rows.rows if only in row.title]
    if not wanted:
        return {}
    with _world(folder, side) as root, running(side, root, arguments, **environ) as running_side:
        seen = {}
        for row in wanted:
            try:
                seen[row.title] = row.look(running_side)
            except (AssertionError, OSError, http.client.HTTPException, KeyError) as error:
                # The other rows can still be looked at; this one is apart from whatever the other side did.
                seen[row.title] = {"gave up": f"{side}: {type(error).__name__} {error}"}
        return seen


def _started(side: str, folder: Path, only: str) -> Mapping[str, Seen]:
    wanted = [row for row in STARTED if only in row.title]
    if not wanted:
        return {}
    with _world(folder, side) as root:
        return {row.title: row.look(side, root) for row in wanted}


# --- the table ------------------------------------------------------------------------------------------------------


def table(comparison: Comparison, *, fields: bool = False) -> Iterator[str]:
    """The rows as text: what they are about, and `same`, the intended differences, or what nobody intends."""
    about = ""
    for finding in comparison.findings:
        subject, _, name = finding.title.partition(": ")
        if subject != about:
            about = subject
            yield f"\n## {about}"
        yield f"{name:<62} {'same' if not finding.apart else ', '.join(finding.codes)}".rstrip()
        shown = finding.apart if fields else [(each, None) for each in finding.unexplained]
        for each, found in shown:
            code = found.code if found else "NOT INTENDED"
            yield f"    {code}: {each.field}: {_short(each.there)} -> {_short(each.here)}"


def _short(value: object) -> str:
    text = str(value)
    return text if len(text) <= 120 else f"{text[:117]}..."
