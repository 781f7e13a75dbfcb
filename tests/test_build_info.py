"""The build of an engine in one word, which clients read as that of a llama-server."""

from __future__ import annotations

import pytest

from llamarouter.core.build_info import build_info_of


@pytest.mark.parametrize(
    ("build", "word"),
    [
        ("0.6.0-dev (build 11434, commit unknown)", "b11434-unknown"),
        ("0.6.0-dev (build 7, commit c0ffee1)", "b7-c0ffee1"),
        ("11549 (xllamacpp 2026.10.11549)", "b11549"),
        ("b1", "b0"),
        ("unknown", "b0"),
    ],
)
def test_it_is_one_word(build: str, word: str) -> None:
    assert build_info_of(build) == word
