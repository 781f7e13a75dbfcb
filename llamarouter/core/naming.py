"""What somebody may have meant by a name that does not exist."""

from __future__ import annotations

from collections.abc import Iterable


def nearest(asked: str, names: Iterable[str]) -> str:
    """`; did you mean X?`, or nothing where no name is near.

    Near is: the same but for case, a name that contains what was asked, or one a few letters away.
    """
    wanted = asked.casefold()
    folded = {name.casefold(): name for name in names}
    found = folded.get(wanted) or _containing(wanted, folded) or _similar(wanted, folded)
    return f"; did you mean {found}?" if found else ""


def _containing(wanted: str, folded: dict[str, str]) -> str | None:
    if len(wanted) < 3:
        return None
    # The shortest one: it has the least that was not asked for.
    matches = sorted((name for name in folded if wanted in name), key=lambda name: (len(name), name))
    return folded[matches[0]] if matches else None


def _similar(wanted: str, folded: dict[str, str]) -> str | None:
    from difflib import get_close_matches

    close = get_close_matches(wanted, folded, n=1, cutoff=0.6)
    return folded[close[0]] if close else None
