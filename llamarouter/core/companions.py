"""What lies beside a model and goes with it, by the names: projectors and draft models.

    mmproj-M-F16.gguf                                        a projector: what makes a model see or hear
    mtp-M-Q4_0.gguf  dspark-...  dflash-...  eagle3-...      drafts, in the order in which llama-server prefers them

In the hub's cache a draft is taken only where `--spec-type` asks for its kind (`common/arg.cpp`, build b11434); in a
folder of --models-dir always. The engine reads the kind off the file, but for eagle3: that must be said.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

from llamarouter.core.ids import DRAFT_MARKS, NUMBERS, SUFFIX, best_sibling, is_draft, name_of, tag_of

EAGLE3 = "draft-eagle3"
_TYPES = {f"draft-{mark.rstrip('-')}": mark for mark in DRAFT_MARKS}
_NONE = "none"

_WORDS = re.compile(r"[^\W_]+")
_MARKS = frozenset(("mmproj", *(mark.rstrip("-") for mark in DRAFT_MARKS)))
_QUANT = re.compile(rf"[-.](?:ud[-.])?{NUMBERS}\w*\Z", re.ASCII | re.IGNORECASE)


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


def belonging(model: str, companions: Sequence[str], models: Iterable[str]) -> list[str]:
    """Those of `companions` that carry the model's name; else those that carry the name of none of `models`.

    In a folder of several models `mmproj-A-F16.gguf` goes with `A-Q4_0.gguf` and not with `B-Q4_0.gguf`, where llama-
    server gives it to whatever it finds.
    """
    named = [each for each in companions if _carries_name(each, model)]
    return named or [each for each in companions if not any(_carries_name(each, other) for other in models)]


def _carries_name(companion: str, model: str) -> bool:
    wanted, words = _words_of(companion), _words_of(model)
    starts = range(len(words) - len(wanted) + 1)
    return bool(wanted) and any(words[start : start + len(wanted)] == wanted for start in starts)


def _words_of(path: str) -> list[str]:
    """The words of a name, in lower case, without what tells the kind of file and its quantisation."""
    file = path.rpartition("/")[2]
    name = name_of(file)
    stem = name.stem if name is not None else file.removesuffix(SUFFIX)
    return [word for word in _WORDS.findall(_QUANT.sub("", stem).lower()) if word not in _MARKS]
