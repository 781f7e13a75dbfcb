"""The sections of a preset, under their final names: of those with one name the last. What their keys mean is said in
`wishes`.
"""

from __future__ import annotations

import re

from msgspec import Struct

from llamarouter.core.ids import NUMBERS
from llamarouter.core.ini import DEFAULT_SECTION, GLOBAL_SECTION, Ini, Section
from llamarouter.core.model import Skipped
from llamarouter.core.wishes import ENGINE_KEY, VERSION_KEY

_WORD = re.compile(r"[A-Za-z0-9_]+", re.ASCII)
# The last word of a tag, where it is a type of numbers: `ud-q4_k_xl`, `i1-IQ3_XS`, `BF16`.
_QUANT = re.compile(rf"[-.]({NUMBERS}[a-z0-9_]*)$", re.ASCII | re.IGNORECASE)


class Preset(Struct, frozen=True):
    """The sections of a preset by their final names, in the order of the file."""

    everyone: tuple[Section, ...]  # `[*]`
    sections: tuple[Section, ...]
    warnings: tuple[Skipped, ...] = ()


def canonical_id(name: str) -> str:
    """A section's name as the ids of the cache are written: `user/repo:ud-q4_k_xl` is `user/repo:Q4_K_XL`.

    A tag that does not end in a quant (`Q4_K_XL-thinking`) stays as it is: llama-server would call that `THINKING`,
    and so may clients (`names.names_of`).
    """
    repo, colon, tag = name.rpartition(":")
    if not colon:
        return name
    if _WORD.fullmatch(tag):
        return f"{repo}:{tag.upper()}"
    match = _QUANT.search(tag)
    return f"{repo}:{match[1].upper()}" if match else name


def preset_of(ini: Ini) -> Preset:
    """Sections under their final names; of those with the same name the last one, with a warning."""
    last: dict[str, Section] = {}
    warnings = []
    for section in ini.sections:
        name = canonical_id(section.name)
        if not name.isprintable() or not name:
            # Nobody could ask for it, nor read it in a list.
            reason = section.problem.reason if section.problem is not None else "no name that can be shown"
            warnings.append(Skipped(section.where, f"a section is left out: {reason}"))
            continue
        if name == DEFAULT_SECTION and section.problem is None and all(key.name == VERSION_KEY for key in section.keys):
            continue
        before = last.get(name)
        if before is not None:
            warnings.append(Skipped(before.where, f"section [{before.name}] is replaced by the one at {section.where}"))
        last[name] = Section(name, section.keys, section.file, section.line, section.problem)
    everyone = tuple(section for name, section in last.items() if name == GLOBAL_SECTION)
    sections = tuple(section for name, section in last.items() if name != GLOBAL_SECTION)
    return Preset(everyone, sections, tuple(warnings))


def engine_key_of(section: Section) -> str | None:
    """The `lr-engine` of a section: the command of the engine that its children run on."""
    values = [key.value for key in section.keys if key.name.replace("_", "-") == ENGINE_KEY]
    return values[-1] or None if values else None
