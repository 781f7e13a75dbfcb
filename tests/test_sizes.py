"""Numbers of bytes as people write them."""

from __future__ import annotations

import pytest

from llamarouter.core.sizes import bytes_of


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("0", 0),
        ("1048576", 1 << 20),
        (" 512M ", 512 << 20),
        ("512 MiB", 512 << 20),
        ("1.5g", 3 << 29),
        ("2TB", 2 << 40),
        ("7kb", 7 << 10),
        ("12B", 12),
    ],
)
def test_what_is_a_size(text: str, number: int) -> None:
    assert bytes_of(text) == number


@pytest.mark.parametrize("text", ["", "M", "-1", "1e9", "50%", "1 M M", "1P", "٣"])
def test_what_is_none(text: str) -> None:
    assert bytes_of(text) is None
