"""The list of mutants keeps in step with the code: each changes one place, and it compiles."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.mutants.scheduler import MUTANTS, Mutant

CORE = Path(__file__).parent.parent / "llamarouter" / "core"


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.what)
def test_it_changes_one_place(mutant: Mutant) -> None:
    source = (CORE / mutant.file).read_text()
    assert source.count(mutant.old) == 1
    compile(source.replace(mutant.old, mutant.new), mutant.file, "exec")
