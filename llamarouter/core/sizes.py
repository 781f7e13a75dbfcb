"""Numbers of bytes as people write them: `1048576`, `512M`, `1.5G`, `2GiB`. K, M, G and T are binary multiples."""

from __future__ import annotations

import re

_SIZE = re.compile(r"([0-9]{1,18}(?:\.[0-9]{1,6})?) *([KMGT]?)(?:i?B)?", re.ASCII | re.IGNORECASE)
_POWERS = {"": 0, "K": 10, "M": 20, "G": 30, "T": 40}


def bytes_of(text: str) -> int | None:
    """The number of bytes that a text says; None where it says none."""
    found = _SIZE.fullmatch(text.strip())
    return None if found is None else int(float(found[1]) * (1 << _POWERS[found[2].upper()]))


def said(size: int) -> str:
    """A number of bytes for people: `12.5 GiB`, `640 MiB`."""
    return f"{size / (1 << 30):.1f} GiB" if size >= 1 << 30 else f"{size / (1 << 20):.0f} MiB"
