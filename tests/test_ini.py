"""The grammar of presets."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llamarouter.core.ini import KEYS_MAX, Ini, parse_ini


def _values(text: str) -> dict[str, str]:
    ini = parse_ini(text, "p.ini")
    assert [section.problem for section in ini.sections] == [None] * len(ini.sections)
    return {key.name: key.value for section in ini.sections for key in section.keys}


@pytest.mark.parametrize(
    ("written", "value"),
    [
        ("x", "x"),
        ("  x y  ", "x y"),
        ("x ; comment", "x"),
        ("x # comment", "x"),
        ("x\t;comment", "x"),
        ("p#q", "p#q"),
        ("top_k;top_p;temperature", "top_k;top_p;temperature"),
        ("; all comment", ""),
        ("#all comment", ""),
        ("", ""),
        ('"x y"', "x y"),
        ("'x y'", "x y"),
        ('"a ; b" ; comment', "a ; b"),
        ("'a # b'#comment", "a # b"),
        ('"a \\"b\\" c"', 'a "b" c'),
        ('"C:\\models\\x.gguf"', "C:\\models\\x.gguf"),
        ("'\\n'", "\\n"),
        ('""', ""),
        ('" padded "', " padded "),
        ('{"a": "b;c"}', '{"a": "b;c"}'),
        ('{"a": "b ; c", "d": "\\" ; e"} ; comment', '{"a": "b ; c", "d": "\\" ; e"}'),
        ('"a", "b"', '"a", "b"'),
        ("don't stop", "don't stop"),
        ("don't ; stop", "don't"),
        ('5" disk ; comment', '5" disk'),
        ("a=b", "a=b"),
        ("[x]", "[x]"),
        ("größer", "größer"),
    ],
)
def test_value(written: str, value: str) -> None:
    assert _values(f"[s]\nkey = {written}\n") == {"key": value}


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_line_ends_and_a_byte_order_mark(end: str) -> None:
    text = "\ufeff" + end.join(["version = 1", "", "[a]", "  ; comment", "c=1", "[ b c ]  ; comment", "d = 2"])
    ini = parse_ini(text, "p.ini")
    assert [(section.name, section.line) for section in ini.sections] == [("default", 1), ("a", 3), ("b c", 6)]
    assert [(key.name, key.value, key.where) for key in ini.sections[2].keys] == [("d", "2", "p.ini:7")]


def test_keys_may_be_indented() -> None:
    ini = parse_ini("[a]\n  temp = 1\n\tc = 2\n  [b]\n  ; comment\n   x=3  \n", "p.ini")
    found = [(section.name, [(key.name, key.value) for key in section.keys]) for section in ini.sections]
    assert found == [("a", [("temp", "1"), ("c", "2")]), ("b", [("x", "3")])]
    assert [section.problem for section in ini.sections] == [None, None]


def test_nothing_and_comments_only() -> None:
    assert parse_ini("", "p").sections == ()
    assert parse_ini("\n ; x\n# y\n", "p").sections == ()


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("just words", "neither 'key = value', a [section] nor a comment: 'just words'"),
        ("  just words", "neither 'key = value', a [section] nor a comment: 'just words'"),
        ("1x = 1", "begins with a letter"),
        ("a b = 1", "a key is made of"),
        ("= 1", "a key is made of"),
        ('temp = "x', "the quote that begins the value of 'temp' never ends"),
        ("temp = a\x00b", "a control character in the value of 'temp'"),
    ],
)
def test_a_bad_line_spoils_its_section_alone(line: str, reason: str) -> None:
    ini = parse_ini(f"[a]\nx = 1\n[b]\ny = 1\n{line}\nz = 2\n[c]\nw = 1\n", "p.ini")
    good_before, bad, good_after = ini.sections
    assert good_before.problem is None
    assert good_after.problem is None
    assert bad.problem is not None
    assert bad.problem.where == "p.ini:5"
    assert reason in bad.problem.reason
    assert [key.name for key in bad.keys] == ["y", "z"]


@pytest.mark.parametrize("header", ["[b", "[b] c", "[]", "[ ]", "[b\x01]"])
def test_the_keys_under_a_bad_header_go_nowhere_else(header: str) -> None:
    ini = parse_ini(f"[a]\nx = 1\n{header}\ny = 1\n", "p.ini")
    assert [key.name for key in ini.sections[0].keys] == ["x"]
    assert ini.sections[0].problem is None
    problem = ini.sections[1].problem
    assert problem is not None
    assert problem.where == "p.ini:3"


def test_a_section_that_never_ends_is_read_no_further() -> None:
    key = "x = 1\n"
    text = f"[a]\n{key * KEYS_MAX}[b]\n{key * (KEYS_MAX + 9)}[c]\n"
    full, more, after = parse_ini(text, "p").sections
    assert (full.problem, after.problem) == (None, None)
    assert more.problem is not None
    assert str(more.problem) == f"p:{2 * KEYS_MAX + 3}: more than {KEYS_MAX} keys in one section"
    assert len(more.keys) == KEYS_MAX


def test_a_long_bad_line_is_shown_short_and_printable() -> None:
    problem = parse_ini("[a]\n" + "é\x1b" * 500 + "\n", "p.ini").sections[0].problem
    assert problem is not None
    assert len(problem.reason) < 300
    assert problem.reason.isprintable()


def test_files_are_laid_over_each_other_in_order() -> None:
    joined = parse_ini("[*]\na = 1\n", "one").joined(parse_ini("[*]\na = 2\n", "two"))
    assert isinstance(joined, Ini)
    assert [key.where for section in joined.sections for key in section.keys] == ["one:2", "two:2"]


def test_the_last_of_a_repeated_key_is_its_value() -> None:
    section = parse_ini("[a]\nx = 1\nx = 2\n", "p").sections[0]
    assert section.value("x") == "2"
    assert section.value("y") is None


SCRAPS = st.sampled_from(
    ["[", "]", "*", "=", '"', "'", ";", "#", " ", "\t", "\n", "\r", "\\", "a", "model", "é", "\x00"]
)


@settings(max_examples=300, deadline=None)
@given(st.lists(SCRAPS, max_size=60).map("".join))
def test_any_text_has_sections_and_no_key_holds_a_control_character(text: str) -> None:
    ini = parse_ini(text, "p.ini")
    for section in ini.sections:
        assert 1 <= section.line <= text.count("\n") + text.count("\r") + 1
        assert all("\x00" not in key.value and "\n" not in key.value for key in section.keys)


@given(st.text(st.characters(exclude_categories=["C"]), max_size=40))
def test_a_value_in_quotes_is_whole(text: str) -> None:
    escaped = text.replace('"', '\\"')
    if "\\" not in text:
        assert _values(f'[s]\nkey = "{escaped}" ; comment\n') == {"key": text}


LINES = st.sampled_from(
    [
        "[a]",
        "[b]",
        "[*]",
        "[a",
        "[]",
        "k = 1",
        "  k = 2",
        "k",
        "= 1",
        'k = "x',
        "k = 'x ; y' ; z",
        "; c",
        "",
        '\tj = {"a": ";"}',
    ]
)


@settings(max_examples=300, deadline=None)
@given(st.lists(LINES, max_size=12))
def test_every_line_of_a_file_is_in_its_section_or_is_its_problem(lines: list[str]) -> None:
    """Nothing moves from one section to another, and nothing that can be read is lost."""
    ini = parse_ini("\n".join(lines), "p.ini")
    for section in ini.sections:
        begins = section.line if lines[section.line - 1].startswith("[") else 0
        later = [other.line for other in ini.sections if other.line > begins and other is not section]
        ends = min(later, default=len(lines) + 1)
        own = {f"p.ini:{number}": line.strip() for number, line in enumerate(lines, 1) if begins < number < ends}
        readable = {where for where, line in own.items() if line[:1] in ("k", "j") and "=" in line and line != 'k = "x'}
        assert {key.where for key in section.keys} == readable
        spoilt = [where for where, line in own.items() if line in ("k", "= 1", 'k = "x')]
        if section.problem is None:
            assert not spoilt
        else:
            assert section.problem.where in (*spoilt, section.where)


@settings(max_examples=200, deadline=None)
@given(st.text(alphabet=st.characters(exclude_categories=["Cs"]), max_size=80), st.integers(0, 200))
def test_a_file_with_something_inserted_keeps_its_other_sections(scrap: str, at: int) -> None:
    """A scrap of anything inside one section touches no section before it, and none after it that it does not hide."""
    before, inside, after = "[a]\nx = 1\n", "[b]\ny = 1\n", "\n[c]\nz = 1\n"
    at = min(at, len(inside))
    ini = parse_ini(before + inside[:at] + scrap + inside[at:] + after, "p.ini")
    named = {section.name: section for section in ini.sections}
    first = ini.sections[0]
    assert (first.name, first.keys[0].value) == ("a", "1")
    assert [key.value for key in named["c"].keys][-1:] == ["1"]
    assert all(key.name.isascii() for section in ini.sections for key in section.keys)
