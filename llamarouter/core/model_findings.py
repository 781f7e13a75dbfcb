"""What is wrong with the models that lie here: broken, twice, half, or of no use to the preset."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from msgspec import Struct

from llamarouter.core.findings import Finding, Severity
from llamarouter.core.model import Skipped, Source

AREA = "models"
_MOST = 5  # ids in a line


class Seen(Struct, frozen=True, kw_only=True):
    """One model as the doctor sees it."""

    id: str
    source: Source
    path: str | None
    size: int
    problem: str | None
    removable: bool = False
    sample: str = ""  # equal for files of equal content, another for every other; empty: not taken


class Unfinished(Struct, frozen=True):
    """A download that has not come to its end. `age`: seconds since a byte came."""

    path: str
    size: int
    age: float


def model_findings(models: Sequence[Seen], skipped: Iterable[Skipped], preset: str | None) -> Iterator[Finding]:
    """`skipped`: the warnings of the catalogue; `preset`: the path of one that is in use."""
    usable = [each for each in models if each.problem is None]
    size = sum({each.path: each.size for each in usable}.values())
    if usable:
        yield Finding(AREA, Severity.FINE, f"{len(usable)} can be started, {size / 1e9:.1f} GB of files")
    else:
        fix = "`lr pull user/model` fetches one, `lr serve --models-dir PATH` serves a folder"
        yield Finding(AREA, Severity.WARNING, "there is none that can be started", fix=fix)
    said, sections = set(), set()
    for note in skipped:
        said.add(note.where)
        sections.add(note.reason.partition("] ")[0])
        yield _skipped(note)
    for model in models:
        if model.problem is not None and model.path not in said and f"[{model.id}" not in sections:
            yield Finding(AREA, Severity.WARNING, f"{model.id}: {model.problem}", model.path or "", _fix_of(model))
    yield from _duplicates(usable)
    if preset is not None and (unused := [each.id for each in usable if each.source is not Source.PRESET]):
        what = f"{_listed(unused)} lie{'s' if len(unused) == 1 else ''} here and stand{'s' if len(unused) == 1 else ''}"
        yield Finding(
            AREA, Severity.NOTE, f"{what} in no section", preset, "served with the settings of [*] all the same"
        )


def unfinished_findings(found: Iterable[Unfinished]) -> Iterator[Finding]:
    """Downloads that wait for their rest; one that still moves is none of them."""
    for each in found:
        if each.age > 60:
            what = f"an unfinished download of {each.size / 1e6:.1f} MB, untouched for {_days(each.age)}"
            yield Finding(AREA, Severity.WARNING, what, each.path, "`lr pull` of the same model goes on; or delete it")


def _skipped(note: Skipped) -> Finding:
    spoiled = "cannot be used" in note.reason
    fix = "mend it there, then `lr reload`" if ":" in note.where or spoiled else "replace or delete it"
    return Finding(AREA, Severity.ERROR if spoiled else Severity.WARNING, note.reason, note.where, fix)


def _fix_of(model: Seen) -> str:
    return f"`lr rm {model.id}`, then `lr pull` it again" if model.removable else "replace or delete it"


def _duplicates(models: Sequence[Seen]) -> Iterator[Finding]:
    """Files of the same content in several places; several ids over one file are meant so."""
    by_sample: dict[tuple[int, str], dict[str, Seen]] = {}
    for model in models:
        if model.sample and model.path is not None:
            by_sample.setdefault((model.size, model.sample), {}).setdefault(model.path, model)
    for (size, _), same in by_sample.items():
        if len(same) > 1:
            ids = [each.id for each in same.values()]
            what = f"{_listed(ids)} are the same file {len(same)} times: {(len(same) - 1) * size / 1e6:.1f} MB too many"
            spare = next((each.id for each in same.values() if each.removable), None)
            fix = f"`lr rm {spare}`" if spare is not None else "delete one; an alias gives it two names"
            yield Finding(AREA, Severity.NOTE, what, ", ".join(same), fix)


def _listed(ids: Sequence[str]) -> str:
    more = f" and {len(ids) - _MOST} more" if len(ids) > _MOST else ""
    return ", ".join(ids[:_MOST]) + more


def _days(seconds: float) -> str:
    return f"{seconds / 86400:.0f} days" if seconds > 2 * 86400 else f"{seconds / 60:.0f} min"
