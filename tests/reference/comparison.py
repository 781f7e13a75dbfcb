"""Both routers, the same requests, and what is apart: each difference named by an intended one, or not at all."""

from __future__ import annotations

import contextlib
import http.client
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

from tests.reference import rows_below, rows_fetched, rows_locked, rows_one, rows_timed
from tests.reference.differences import EVERYWHERE, INTENDED, OPEN
from tests.reference.intended import Claim, Difference
from tests.reference.row import ORDER, Row, Rows
from tests.reference.rows_asked import ASKED
from tests.reference.rows_found import FOUND
from tests.reference.rows_lived import LIVED
from tests.reference.rows_started import STARTED
from tests.reference.seen import Apart, Seen, apart
from tests.reference.side import OURS, REFERENCE, Side, running
from tests.reference.world import build

_MAIN = ("--models-dir", "models", "--models-preset", "models.ini", "--models-max", "2", "--offline", "--top-k", "5")
_MAIN_ENVIRON = {"LLAMA_ARG_N_PARALLEL": "2"}


@dataclass(frozen=True)
class Finding:
    """A row, and what is apart in it with the intended difference that says so (None: nobody does)."""

    title: str
    apart: tuple[tuple[Apart, Difference | None], ...]

    @property
    def codes(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys(found.code for _, found in self.apart if found is not None))

    @property
    def verdict(self) -> str:
        """The row in a word, and the differences that it shows."""
        codes = ", ".join(self.codes)
        if not self.apart:
            return "same"
        if self.unexplained:
            return f"NOT INTENDED {codes}".rstrip()
        return f"same but for {codes}" if EVERYWHERE.issuperset(self.codes) else codes

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
    with contextlib.closing(rows_fetched.hub_with((folder / "world" / "models" / "beta.gguf").read_bytes())) as hub:
        pairs = _pairs(
            [
                _Pair(main, folder / "main", _MAIN, _MAIN_ENVIRON),
                _Pair(rows_locked.LOCKED, folder / "locked", rows_locked.ARGUMENTS, rows_locked.ENVIRON),
                _Pair(rows_below.BELOW, folder / "below", rows_below.ARGUMENTS, prefix=rows_below.PREFIX),
                _Pair(rows_fetched.FETCHED, folder / "fetched", rows_fetched.ARGUMENTS, {"HF_ENDPOINT": hub.endpoint}),
                _Pair(rows_one.ONE, folder / "one", rows_one.ARGUMENTS),
                _Pair(rows_timed.TIMED, folder / "timed", rows_timed.ARGUMENTS, rows_timed.ENVIRON),
            ],
            folder / "started",
            only,
        )
    comparison = Comparison()
    comparison = Comparison()
    for there, here in pairs:
        for title in there:
            comparison.add(title, there[title], here[title])
    comparison.findings.sort(key=lambda finding: ORDER.index(finding.title.partition(": ")[0]))
    return comparison


@dataclass(frozen=True)
class _Pair:
    """Rows, and how the two routers are started on which they are looked at."""

    rows: Rows
    folder: Path
    arguments: Sequence[str]
    environ: Mapping[str, str] = field(default_factory=dict)
    prefix: str = ""

    def look(self, side: str, only: str) -> Mapping[str, Seen]:
        """What one side shows."""
        wanted = [row for row in self.rows.rows if only in row.title]
        if not wanted:
            return {}
        root = _world(self.folder, side)
        with running(side, root, self.arguments, prefix=self.prefix, **self.environ) as router:
            return {row.title: _seen(row, router) for row in wanted}


def _pairs(pairs: Sequence[_Pair], started: Path, only: str) -> list[tuple[Mapping[str, Seen], Mapping[str, Seen]]]:
    looks: list[Callable[[str], Mapping[str, Seen]]] = [
        *(lambda side, pair=pair: pair.look(side, only) for pair in pairs),  # type: ignore[misc]
        lambda side: _started(side, started, only),
    ]
    with ThreadPoolExecutor(2 * len(looks)) as pool:
        tasks = [[pool.submit(look, side) for side in (REFERENCE, OURS)] for look in looks]
        return [(there.result(), here.result()) for there, here in tasks]


def _world(folder: Path, side: str) -> Path:
    """A copy of the world for one side."""
    root = folder / side
    shutil.copytree(folder.parent / "world", root, symlinks=True)
    return root


def _seen(row: Row, router: Side) -> Seen:
    try:
        return row.look(router)
    except (AssertionError, OSError, http.client.HTTPException, KeyError) as error:
        # The other rows can still be looked at; this one is apart from whatever the other side did.
        return {"gave up": f"{router.name}: {type(error).__name__} {error}"}


def _started(side: str, folder: Path, only: str) -> Mapping[str, Seen]:
    wanted = [row for row in STARTED if only in row.title]
    if not wanted:
        return {}
    root = _world(folder, side)
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
        yield f"{name:<62} {finding.verdict}"
        shown = finding.apart if fields else [(each, None) for each in finding.unexplained]
        for each, found in shown:
            code = found.code if found else "NOT INTENDED"
            yield f"    {code}: {each.field}: {_short(each.there)} -> {_short(each.here)}"


def _short(value: object) -> str:
    text = str(value)
    return text if len(text) <= 120 else f"{text[:117]}..."
