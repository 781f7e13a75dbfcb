"""The grammar of presets."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llamarouter.core.ini import Ini, parse_ini


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


def test_nothing_and_comments_only() -> None:
    assert parse_ini("", "p").sections == ()
    assert parse_ini("\n ; x\n# y\n", "p").sections == ()


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("just words", "neither 'key = value', a [section] nor a comment: 'just words'"),
        ("  temp = 1", "a key must begin in the first column"),
        ("\ttemp = 1", "a key must begin in the first column"),
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
