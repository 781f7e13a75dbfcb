"""`scripts/compare-with-llama-server`: the comparison for people, as a table."""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path

from tests.reference.comparison import compare, table
from tests.reference.document import write


def main() -> int:
    parser = argparse.ArgumentParser(prog="scripts/compare-with-llama-server", description=__doc__)
    parser.add_argument("-k", dest="only", default="", metavar="TEXT", help="only rows whose title holds TEXT")
    parser.add_argument("--fields", action="store_true", help="show every field that differs, intended or not")
    parser.add_argument("--write", action="store_true", help="write docs/differences.md from the tables instead")
    given = parser.parse_args()
    if given.write:
        write()
        return 0
    with tempfile.TemporaryDirectory(prefix="lr-", dir="/tmp") as folder:
        comparison = compare(Path(folder), given.only)
    for line in table(comparison, fields=given.fields):
        sys.stdout.write(line + "\n")
    unexplained, outdated = comparison.unexplained(), [] if given.only else comparison.outdated()
    for line in outdated:
        sys.stdout.write(f"did not occur: {line}\n")
    rows = comparison.findings
    same = sum(not row.apart for row in rows)
    nearly = sum(row.verdict.startswith("same but") for row in rows)
    sys.stdout.write(
        f"\n{len(rows)} rows: {same} the same, {nearly} but for what differs everywhere, "
        f"{len(rows) - same - nearly} apart, {len(unexplained)} fields not intended\n"
    )
    return 1 if unexplained or outdated else 0


if __name__ == "__main__":
    sys.exit(main())
