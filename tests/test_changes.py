"""What is different between two catalogues, and whose child must go for it."""

from __future__ import annotations

from msgspec.structs import replace

from llamarouter.core.catalog import Catalog
from llamarouter.core.changes import changes_between
from llamarouter.core.entry import Entry
from llamarouter.core.launch import Flag, Launch
from llamarouter.core.model import Model, Skipped, Source


def entry(
    id: str, size: str = "512", *, line: int = 1, aliases: tuple[str, ...] = (), problem: str | None = None
) -> Entry:
    launch = Launch(None, (Flag("--ctx-size", (size,), f"p.ini:{line}"),))
    model = Model(id=id, source=Source.PRESET)
    return Entry(model=model, launch=None if problem else launch, problem=problem, aliases=aliases)


WARNING, NEWS = Skipped("p.ini:9", "old"), Skipped("p.ini:10", "new")


def test_only_what_is_different_is_named() -> None:
    before = Catalog(
        [entry("same"), entry("other"), entry("alias"), entry("gone"), entry("breaks"), entry("mends", problem="x")],
        [WARNING],
    )
    after = Catalog(
        [
            entry("same", line=7),
            entry("other", "1024"),
            entry("alias", aliases=("z",)),
            entry("new"),
            entry("breaks", problem="y"),
            entry("mends"),
        ],
        [WARNING, NEWS],
    )
    changes = changes_between(before, after)
    assert changes.added == ("new",)
    assert changes.removed == ("gone",)
    assert changes.changed == ("alias", "breaks", "mends", "other")
    assert changes.stale == ("breaks", "gone", "mends", "other")
    assert changes.warnings == (WARNING, NEWS)
    assert changes.news == (NEWS,)
    assert str(changes) == "added: new; changed: alias, breaks, mends, other; removed: gone"
    assert str(changes_between(after, after)) == "nothing has changed"


def test_other_files_under_the_same_names() -> None:
    before = Catalog([entry("a"), entry("b")])
    model = replace(before.entries["b"].model, stamp=(1, 2, 3))
    changes = changes_between(before, Catalog([entry("a"), replace(before.entries["b"], model=model)]))
    assert (changes.replaced, changes.changed, changes.stale) == (("b",), ("b",), ())
