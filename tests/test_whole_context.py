"""The context of a model of which nobody has said how long it is to be."""

from __future__ import annotations

import pytest

from llamarouter.core.model import Header
from llamarouter.core.whole_context import context_to_tell
from tests.catalogs import LOCAL, catalog_of, entry_of
from tests.engine_table import TABLE

HEADER = Header(
    architecture="llama", name=None, quant=None, n_params=1, n_ctx_train=512, n_embd=1, n_layer=1, n_vocab=1
)


@pytest.mark.parametrize(
    ("argv", "told"),
    [
        ([], None),  # four slots that have one cache together
        (["--parallel", "2"], 1024),
        (["--parallel", "2", "--kv-unified"], None),
        (["--parallel", "1"], None),
        (["--parallel", "2", "-c", "100"], None),
        (["--parallel", "2", "-c", "0"], 1024),
        (["--parallel", "2", "--fit", "off"], None),
        (["--parallel", "2", "--fit", "on"], 1024),
    ],
)
def test_as_much_for_each_slot_as_it_was_trained_for(argv: list[str], told: int | None) -> None:
    launch = entry_of(catalog_of(models=[LOCAL], argv=argv), "local").launch
    assert launch is not None
    assert context_to_tell(launch, HEADER, TABLE) == told
    assert context_to_tell(launch, None, TABLE) is None
