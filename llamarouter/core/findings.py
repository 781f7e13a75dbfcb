"""What `lr doctor` finds: each with how bad it is, what is wrong, where, and what would mend it.

exit code: 0 nothing to do (notes do not count)   1 something to look at   2 something that does not work
"""

from __future__ import annotations

import enum
from collections.abc import Iterable

from msgspec import Struct


class Severity(enum.Enum):
    """How bad it is; from good to bad."""

    FINE = "fine"
    NOTE = "note"  # worth knowing; nothing has to be done
    WARNING = "warning"  # it works, and will not always
    ERROR = "error"  # it does not work, or is not safe


_ORDER = list(Severity)


class Finding(Struct, frozen=True):
    """One thing that was looked at."""

    area: str  # engine, devices, limits ...
    severity: Severity
    what: str
    where: str = ""  # a path, a flag, `file:line`
    fix: str = ""  # a command, a setting


def sorted_by_severity(findings: Iterable[Finding]) -> list[Finding]:
    """The worst first; of one severity as they came."""
    return sorted(findings, key=lambda each: -_ORDER.index(each.severity))


def exit_code_of(findings: Iterable[Finding]) -> int:
    """0, 1 or 2: after the worst of them."""
    worst = max((_ORDER.index(each.severity) for each in findings), default=0)
    return max(0, worst - 1)
