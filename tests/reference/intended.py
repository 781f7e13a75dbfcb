"""What an intended difference is: a short code, what either side does and why, and the rows and fields that it is
allowed to show in. A difference that no claim covers fails the comparison; so does a claim that covers none."""

from __future__ import annotations

from dataclasses import dataclass
from fnmatch import fnmatchcase

from tests.reference.seen import Apart

ANY = "(any)"


@dataclass(frozen=True)
class Claim:
    """Rows and fields in which a difference is expected: patterns (`*`, `?`), and perhaps the two values."""

    row: str
    field: str
    there: object = ANY
    here: object = ANY

    def __hash__(self) -> int:
        return hash((self.row, self.field, str(self.there), str(self.here)))

    def covers(self, each: Apart) -> bool:
        return (
            _matches(each.row, self.row)
            and _matches(each.field, self.field)
            and self.there in (ANY, each.there)
            and self.here in (ANY, each.here)
        )


def _matches(text: str, pattern: str) -> bool:
    return text == pattern or fnmatchcase(text, pattern.replace("[", "[[]"))


@dataclass(frozen=True)
class Difference:
    """One intended difference: `there` the reference, `here` this router."""

    code: str
    there: str
    here: str
    why: str
    claims: tuple[Claim, ...]

    def claim_on(self, each: Apart) -> Claim | None:
        """The first claim that expects this difference."""
        return next((claim for claim in self.claims if claim.covers(each)), None)
