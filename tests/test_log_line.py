"""The lines of the log in both forms, and that docs/logs.md describes them."""

from __future__ import annotations

import json
import re
from pathlib import Path

import msgspec
import pytest

from llamarouter.core.log_line import (
    RequestLine,
    json_of,
    json_of_message,
    text_line,
    text_of,
    text_of_json,
)
from llamarouter.core.shown import harmless, one_line, shown, without_secrets

DOCS = (Path(__file__).parents[1] / "docs" / "logs.md").read_text(encoding="utf-8")


def line(**changes: object) -> RequestLine:
    whole = RequestLine(
        time=1795721397575810,
        level="info",
        id="5f0c9a1b2d3e-2a",
        peer="127.0.0.1:43108",
        key="alice",
        method="POST",
        route="/v1/chat/completions",
        model="small",
        status=200,
        bytes_in=85,
        bytes_out=2073,
        queue_ms=94,
        load_ms=1220,
        first_byte_ms=1514,
        duration_ms=5703,
        prompt_tokens=32,
        cached_tokens=31,
        generated_tokens=5,
        tokens_estimated=False,
        outcome="ok",
        reason=None,
    )
    return msgspec.structs.replace(whole, **changes)


def test_the_page_shows_both_forms_as_they_are() -> None:
    text, as_json = re.findall(r"```(?:json)?\n(.*?)\n```", DOCS, re.DOTALL)
    assert json_of([line()]) == as_json.encode() + b"\n"
    assert text.endswith(f" I {text_of(line())}")
    assert text_of_json(as_json) == text_line(line().time, "info", text_of(line()))


def test_the_page_has_every_field_in_its_order_and_no_other() -> None:
    table = DOCS.split("| field | unit | what |")[1].split("\n\n")[0]
    assert re.findall(r"^\| `(\w+)` \|", table, re.MULTILINE) == list(json.loads(json_of([line()])))


def test_what_there_is_none_of_is_left_out_of_the_text() -> None:
    bare = line(
        peer=None, key=None, model=None, queue_ms=0, load_ms=0, first_byte_ms=None, prompt_tokens=None, status=401,
        outcome="refused", reason="invalid_api_key",
    )  # fmt: skip
    assert text_of(bare) == (
        "POST /v1/chat/completions 401 refused: invalid_api_key in=85 out=2073 took=5703 id=5f0c9a1b2d3e-2a"
    )
    assert "tokens=~32/31/5 " in text_of(line(tokens_estimated=True))


@pytest.mark.parametrize("name", ["a b", 'a" status=200 x="', "a=b", "ü\\"])
def test_a_value_ends_where_it_seems_to(name: str) -> None:
    (said,) = re.findall(r' model=("(?:[^"\\]|\\.)*"|\S+) key=', text_of(line(model=name)))
    assert (json.loads(said) if said.startswith('"') else said) == name


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("plain ü 漢", "plain ü 漢"),
        ("a\nb\r\x1b[2J\x00", "a\\nb\\r\\x1b[2J\\x00"),
        ("\x9b31m\u2028\u202e\ufeff\ud800", "\\x9b31m\\u2028\\u202e\\ufeff\\ud800"),
        ("x" * 200, "x" * 100 + "..."),
    ],
)
def test_what_a_client_wrote_is_one_short_printable_line(text: str, expected: str) -> None:
    assert shown(text) == expected
    assert shown(text).isprintable()


def test_a_message_keeps_its_lines_in_json_and_steers_nothing() -> None:
    said = json_of_message(1_000_000, "warn", 'a "b"\nc\x1b[2J\x9b\u2028\ud800', {"model": "m"})
    assert b"\n" not in said
    assert all(byte >= 0x20 for byte in said)
    assert json.loads(said) == {
        "type": "log", "time": 1_000_000, "level": "warn", "model": "m",
        "msg": 'a "b"\nc\x1b[2J\\x9b\\u2028\\ud800',
    }  # fmt: skip
    assert text_of_json(said.decode()).endswith(' W a "b" c\\x1b[2J\\x9b\\u2028\\ud800')
    assert one_line("a\n  b\x1b") == "a b\\x1b"
    assert harmless("a\nü") == "a\nü"


@pytest.mark.parametrize("text", ["", "torn {", "[1]", '{"type":"request","time":1}', '{"time":"x","level":1,"msg":2}'])
def test_what_is_no_line_is_shown_as_it_is(text: str) -> None:
    assert text_of_json(text) == text


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("/v1/models", "/v1/models"),
        ("/sk-lr-IyyOZAxNIdXpL-4ioS4FL53iRywJ/v1", "/sk-lr-.../v1"),
        ("sk-proj-0123456789 and hf_abcdefghij", "sk-... and hf_..."),
        ("user/task-of-somebody:Q4", "user/task-of-somebody:Q4"),
        ("sk-1", "sk-1"),
    ],
)
def test_a_key_in_a_wrong_place_is_cut_off(text: str, expected: str) -> None:
    assert without_secrets(text) == expected
