"""INI presets, as text: sections of keys, each with its file and line. What a key means is said in `wishes`.

    ; comment            # comment               a comment begins a line, or follows a blank
    version = 1                                  keys before any section belong to `default`
    [*]                                          for every model
    [user/repo:Q4_K_M]                           a section's name: anything but `]`, blanks round it dropped
    temp = 0.6                                   blanks before a key are nothing

The grammar is llama-server's (`common/preset.cpp`, build b11434) with these differences, on purpose:

- `;` and `#` begin a comment only at the start of a line or after a blank, so `samplers = top_k;temperature` and
  `p#q` are whole; between double quotes, wherever they are in the value, they never do, so JSON is whole.
- A value that is all in one pair of quotes, "..." or '...', loses them. In double ones `\\"` is a quote; every other
  backslash stays. A quote inside a value (JSON, an apostrophe) is kept as it is.
- A key may be indented.
- A line that cannot be read (no `=`, a quote that never ends) spoils the section that it stands in, not the
  file. A header that cannot be read spoils the section that it begins, so that its keys go nowhere else.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

from msgspec import Struct, field

from llamarouter.core.model import Skipped

DEFAULT_SECTION = "default"
GLOBAL_SECTION = "*"
KEYS_MAX = 2_000  # in a section; llama-server has some 260 options. What lies beyond is no preset, and is not read

_LINE_END = re.compile(r"\r\n|\n|\r")
_HEADER = re.compile(r"[ \t]*\[([^]]*)\][ \t]*(?:[;#].*)?")
_KEY = re.compile(r"([A-Za-z_][A-Za-z0-9_.-]*)[ \t]*=[ \t]*(.*)")
_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f]")
_BLANKS = " \t"


class Key(Struct, frozen=True):
    """`name = value`, and where it stands. Line 0: in no file; then `file` says where."""

    name: str
    value: str
    file: str
    line: int

    @property
    def where(self) -> str:
        return f"{self.file}:{self.line}" if self.line else self.file


class Section(Struct, frozen=True):
    """`[name]` with its keys in the order of the file; `problem` is its first line that cannot be read."""

    name: str
    keys: tuple[Key, ...]
    file: str
    line: int
    problem: Skipped | None = None

    @property
    def where(self) -> str:
        return f"{self.file}:{self.line}" if self.line else self.file

    def value(self, name: str) -> str | None:
        """The last value of a key."""
        return next((key.value for key in reversed(self.keys) if key.name == name), None)


class Ini(Struct, frozen=True):
    """One file, or several laid over each other."""

    file: str
    sections: tuple[Section, ...]

    def joined(self, over: Ini) -> Ini:
        """Both files, `over` being read after this one."""
        return Ini(over.file, self.sections + over.sections)


class _Open(Struct):
    """The section that lines are being added to."""

    name: str
    line: int
    keys: list[Key] = field(default_factory=list)
    problem: Skipped | None = None

    def spoil(self, file: str, line: int, reason: str) -> None:
        self.problem = self.problem or Skipped(f"{file}:{line}", reason)

    def closed(self, file: str) -> Section:
        return Section(self.name, tuple(self.keys), file, self.line, self.problem)


def parse_ini(text: str, file: str) -> Ini:
    """The sections of `text` in its order, repeated ones too; never raises: a bad line spoils its section alone."""
    lines = _LINE_END.split(text.removeprefix("\ufeff"))
    sections = [_Open(DEFAULT_SECTION, 1)]
    for number, line in enumerate(lines, 1):
        bare = line.strip(_BLANKS)
        if not bare or bare[0] in ";#":
            continue
        if bare[0] == "[":
            sections.append(_header(line, number, file))
        else:
            _add_key(sections[-1], line, number, file)
    first = sections[0]
    used: Iterable[_Open] = sections if first.keys or first.problem else sections[1:]
    return Ini(file, tuple(section.closed(file) for section in used))


def _header(line: str, number: int, file: str) -> _Open:
    match = _HEADER.fullmatch(line)
    name = (match[1] if match else line.strip(_BLANKS).lstrip("[")).strip(_BLANKS)
    section = _Open(name, number)
    if match is None:
        section.spoil(file, number, "a section's name must end in ']', with nothing but a comment behind it")
    elif not name:
        section.spoil(file, number, "a section needs a name: [*] or the id of a model")
    elif _CONTROL.search(name):
        section.spoil(file, number, "a control character in the section's name")
    return section


def _add_key(section: _Open, line: str, number: int, file: str) -> None:
    if len(section.keys) == KEYS_MAX:
        section.spoil(file, number, f"more than {KEYS_MAX} keys in one section")
        return
    match = _KEY.fullmatch(line.lstrip(_BLANKS))
    if match is None:
        section.spoil(file, number, _what_is_wrong(line))
        return
    value = _value_of(match[2])
    if value is None:
        section.spoil(file, number, f"the quote that begins the value of {match[1]!r} never ends")
    elif _CONTROL.search(value):
        section.spoil(file, number, f"a control character in the value of {match[1]!r}")
    else:
        section.keys.append(Key(match[1], value, file, number))


def _what_is_wrong(line: str) -> str:
    shown = line.strip(_BLANKS)
    shown = ascii(shown if len(shown) <= 40 else shown[:39] + "...")
    if "=" not in line:
        return f"neither 'key = value', a [section] nor a comment: {shown}"
    return f"a key is made of letters, digits and _ . - and begins with a letter: {shown}"


def _value_of(text: str) -> str | None:
    """The value in what follows the `=`: without its comment and its quotes; None where its first quote stays open."""
    if text[:1] in ("'", '"') and text:
        end = _closing(text, 0)
        if end is None:
            return None
        rest = text[end + 1 :].strip(_BLANKS)
        if not rest or (rest[0] in ";#" and text[end + 1] in _BLANKS + ";#"):
            inner = text[1:end]
            return inner.replace('\\"', '"') if text[0] == '"' else inner
    return _without_comment(text).strip(_BLANKS)


def _without_comment(text: str) -> str:
    at = 0
    while at < len(text):
        letter = text[at]
        if letter == '"':
            # A lone quote (5" disk) protects nothing.
            at = _closing(text, at) or at
        elif letter in ";#" and (at == 0 or text[at - 1] in _BLANKS):
            return text[:at]
        at += 1
    return text


def _closing(text: str, start: int) -> int | None:
    """Where the quote that opens at `start` closes; a backslash takes the next character along in double quotes."""
    quote = text[start]
    at = start + 1
    while at < len(text):
        if text[at] == "\\" and quote == '"':
            at += 1
        elif text[at] == quote:
            return at
        at += 1
    return None
