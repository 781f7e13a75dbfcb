"""Rows on discovery and on the grammar of presets: what `GET /models` says after one start, before any load."""

from __future__ import annotations

from tests.reference.row import DISCOVERY, PRESETS, Rows
from tests.reference.seen import Seen
from tests.reference.side import Side

FOUND = Rows()

# Every model that one of the two finds in the world, but for the sections of the preset.
_FOUND = (
    "alpha",
    "beta",
    "gamma",
    "long-a",
    "long-b",
    "broken",
    "no-model",
    "upper",
    "linked",
    "top",
    "top-00001-of-00002",
    "top-00002-of-00002",
    "one",
    "seeing",
    "quants",
    "quants/q-Q4_0",
    "quants/q-Q8_0",
    "drafted",
    "deep",
    "deep/deeper",
    "deep/deeper/nested",
    "nothing",
    "user/repo:Q8_0",
    "user/repo:Q4_K_XL",
    "user/repo:BF16",
    "user/repo:IMATRIX",
    "user/no-refs:Q8_0",
    "user/with--dashes:Q8_0",
)
_SECTIONS = (
    "sectioned",
    "negated",
    "not-negated",
    "cut",
    "quoted",
    "repeated",
    "spellings",
    "blanks",
    "blanks ",
    "prefilled",
    "truthy",
    "empty-value",
    "missing-file",
    "default",
)
# In which file a model's weights are found is looked at; the rest of a command line is in the rows on presets.
_FILES = ("--model", "--mmproj", "--model-draft", "--spec-draft-model", "--hf-repo")


def _entry(side: Side, model: str) -> Seen:
    entry = side.models().get(model)
    if entry is None:
        return {"listed": False}
    seen = {key: entry[key] for key in ("aliases", "tags", "source", "can_remove", "architecture")}
    files = {name: value for name, value in _options(side, entry).items() if name in _FILES}
    return {"listed": True, **seen, "files": files}


def _options(side: Side, entry: dict[str, object]) -> dict[str, object]:
    """The command line of a model as options and values."""
    status = entry["status"]
    assert isinstance(status, dict)
    options: dict[str, object] = {}
    name = ""
    for word in status.get("args", [])[1:]:
        word = side.normalizer.text(word).replace("ROOT/", "")
        if word.startswith("--"):
            name = word
            options[name] = "(flag)"
        else:
            options[name] = word
    return options


def _add_found(model: str) -> None:
    @FOUND.row(DISCOVERY, model)
    def look(side: Side) -> Seen:
        return _entry(side, model)


def _add_section(model: str) -> None:
    @FOUND.row(PRESETS, f"[{model}]")
    def look(side: Side) -> Seen:
        entry = side.models().get(model)
        if entry is None:
            return {"listed": False}
        return {"listed": True, "aliases": entry["aliases"], "tags": entry["tags"], "argument": _options(side, entry)}


for _model in _FOUND:
    _add_found(_model)
for _model in _SECTIONS:
    _add_section(_model)


@FOUND.row(DISCOVERY, "nothing else is found")
def _others(side: Side) -> Seen:
    return {"others": sorted(set(side.models()) - set(_FOUND) - set(_SECTIONS) - {"sleeper", "embedder"})}


@FOUND.row(DISCOVERY, "order of the list")
def _order(side: Side) -> Seen:
    listed = list(side.models())
    return {"sorted": listed == sorted(listed)}


@FOUND.row(PRESETS, "a section over a model that was found")
def _over(side: Side) -> Seen:
    entry = side.models()["alpha"]
    return {"source": entry["source"], "tags": entry["tags"], "argument": _options(side, entry)}
