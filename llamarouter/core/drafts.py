"""Draft models that lie beside a model, by their names: which of them a model is started with.

    mtp-M-Q4_0.gguf  dspark-...  dflash-...  eagle3-...       in the order in which llama-server prefers them

In the hub's cache one is taken only where `--spec-type` asks for its kind (`common/arg.cpp`, build b11434); in a folder
of --models-dir always. The engine reads the kind off the file, but for eagle3: that must be said.
"""

from __future__ import annotations

from collections.abc import Iterable

from llamarouter.core.ids import DRAFT_MARKS, best_sibling, is_draft, tag_of

EAGLE3 = "draft-eagle3"
_TYPES = {f"draft-{mark.rstrip('-')}": mark for mark in DRAFT_MARKS}
_NONE = "none"


def draft_marks(spec_types: str | None, *, by_default: Iterable[str] = ()) -> tuple[str, ...]:
    """The marks of the drafts that a value of `--spec-type` asks for; `by_default` where it asks for nothing."""
    types = [word.strip() for word in (spec_types or _NONE).split(",")]
    if types == [_NONE]:
        return tuple(by_default)
    return tuple(mark for name, mark in _TYPES.items() if name in types)


def best_draft(model: str, paths: Iterable[str], marks: Iterable[str] = DRAFT_MARKS) -> str | None:
    """The draft for `model`: of the first kind that is there; of those the nearest, with its tag, nearest in bits."""
    drafts = [path for path in paths if is_draft(path)]
    for mark in marks:
        of_kind = [path for path in drafts if path.rpartition("/")[2].startswith(mark)]
        if (found := best_sibling(model, of_kind, tag_of(model))) is not None:
            return found
    return None


def is_eagle3(path: str) -> bool:
    return path.rpartition("/")[2].startswith("eagle3-")
