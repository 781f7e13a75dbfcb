"""Which model a body names, and which bodies name none."""

from __future__ import annotations

import contextlib
import inspect
import json
import sys
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llamarouter.core.body import depth_of, form_asks_for_stream, is_multipart, model_of_json, model_of_multipart
from llamarouter.core.errors import (
    BadRequest,
    DuplicateKey,
    InvalidJson,
    JsonTooDeep,
    MissingModel,
    RouterError,
    UnnamedModel,
)


@pytest.mark.parametrize(
    ("body", "model"),
    [
        (b'{"model":"a"}', "a"),
        (b' {"x":{"model":"b","model":"c"},"model":"a"}\n', "a"),
        (b'{"mod\\u0065l":"\\u00fc/\\ud83d\\ude00"}', "ü/😀"),
        ('{"model":"ü","y":"😀"}'.encode(), "ü"),
        (b'{"model" :\t"a" , "stream":true,"other":1,"another":2}', "a"),
    ],
)
def test_the_model_is_read(body: bytes, model: str) -> None:
    assert model_of_json(body) == model


@pytest.mark.parametrize(
    ("body", "error"),
    [
        (b"", InvalidJson),
        (b"{", InvalidJson),
        (b'{"model":"a"}x', InvalidJson),
        (b'{"model":"a",}', InvalidJson),
        (b'{"model":"a" /* */}', InvalidJson),
        (b'\xef\xbb\xbf{"model":"a"}', InvalidJson),
        ('{"model":"a"}'.encode("utf-16"), InvalidJson),
        (b'{"model":"a","x":NaN}', InvalidJson),
        (b'{"model":"a","x":"\xff"}', InvalidJson),
        (b'{"\xff":1,"model":"a"}', InvalidJson),
        (b'{"model":"\\ud800"}', InvalidJson),
        (b'{"model":"\\uzzzz"}', InvalidJson),
        (b'{"model":"\\q"}', InvalidJson),
        (b"[]", UnnamedModel),
        (b'"a"', UnnamedModel),
        (b"null", UnnamedModel),
        (b"{}", UnnamedModel),
        (b'{"model":null}', UnnamedModel),
        (b'{"model":["a"]}', MissingModel),
        (b'{"model":""}', UnnamedModel),
        (b'{"Model":"a"}', UnnamedModel),
        (b'{"model":"a","model":"a"}', DuplicateKey),
        (b'{"model":"a","mod\\u0065l":"b"}', DuplicateKey),
        (b'{"model":"a","stream":true,"stream":false}', DuplicateKey),
    ],
)
def test_what_is_wrong_is_said(body: bytes, error: type[RouterError]) -> None:
    with pytest.raises(error) as caught:
        model_of_json(body)
    assert type(caught.value) is error


def test_an_error_has_the_offset_and_not_the_content() -> None:
    with pytest.raises(InvalidJson, match=r"byte 23") as caught:
        model_of_json(b'{"model":"secret", "x":oops}')
    assert "secret" not in caught.value.message
    assert "oops" not in caught.value.message
    with pytest.raises(InvalidJson, match=r"byte 10"):
        model_of_json(b'{"model": ')
    with pytest.raises(InvalidJson, match=r"byte 6"):
        model_of_json(b'{"x":"\xff"}')


def deep(depth: int) -> bytes:
    return b'{"model":"a","x":' + b"[" * depth + b"]" * depth + b"}"


def test_depth_is_bounded() -> None:
    assert model_of_json(deep(255)) == "a"
    for depth in (600, 5_000, 200_000):
        with pytest.raises(JsonTooDeep):
            model_of_json(deep(depth))
    wide = b'{"model":"a","x":[' + b"[]," * 2000 + b'"' + b"[" * 2000 + b'\\"["]}'
    assert model_of_json(wide) == "a"
    many = json.dumps({"model": "a", "x": [{}] * 400, "y": json.loads("[" * 300 + "]" * 300)}).encode()
    with pytest.raises(JsonTooDeep):
        model_of_json(many)


def test_a_decoder_without_room_on_the_stack_is_no_accident() -> None:
    def deeper(levels: int) -> str:
        return deeper(levels - 1) if levels else model_of_json(deep(250))

    depth = len(inspect.stack(0))
    with pytest.raises(JsonTooDeep):
        deeper(sys.getrecursionlimit() - depth - 100)


def test_brackets_in_strings_are_not_depth() -> None:
    assert depth_of(b'{"a\\"[[":["\\\\",[{}]]}') == 4
    assert depth_of(b'[["[[[[') == 2  # an open string reaches to the end: the decoder refuses it
    assert depth_of(b'[["[[[[\\') == 2
    for length in (1000, 65_535, 65_536, 65_537):  # wherever it is taken to pieces
        assert depth_of(b"[" + b" " * length + b'"' + b"[" * length + b'"' + b'"]",' * 3000 + b"[{}]") == 3


def test_what_is_too_deep_is_looked_at_no_further() -> None:
    before = time.process_time()
    with pytest.raises(JsonTooDeep):
        model_of_json(b'{"model":"a","x":' + b"[" * 300 + b'["",' * 5_000_000)
    assert time.process_time() - before < 0.25  # all of it: 1 s and more


def test_escapes_in_a_string_without_an_end_take_linear_time() -> None:
    before = time.process_time()
    with pytest.raises(InvalidJson):
        model_of_json(b'{"model":"a","x":' + b"[" * 200 + b"[]," * 400 + b'"' + b'\\"' * 30_000)
    assert time.process_time() - before < 1  # in quadratic time: 10 s


def test_grammars_are_bounded() -> None:
    assert model_of_json(json.dumps({"model": "a", "grammar": "root ::= (a [b] {c})"}).encode()) == "a"
    assert model_of_json(json.dumps({"model": "a", "grammar": "(" * 64 + ")" * 64}).encode()) == "a"
    for grammar in ("x" * 70_000, "(" * 65 + ")" * 65, "[(" * 40):
        with pytest.raises(BadRequest, match="grammar"):
            model_of_json(json.dumps({"model": "a", "grammar": grammar}).encode())


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


@settings(deadline=None)
@given(st.dictionaries(st.text() | st.sampled_from(["model", "stream"]), JSON, max_size=5), st.booleans())
def test_it_agrees_with_pythons_own_reader(value: dict[str, object], ascii_only: bool) -> None:
    body = json.dumps(value, ensure_ascii=ascii_only).encode("utf-8", "replace")
    try:
        assert model_of_json(body) == value["model"]
    except MissingModel:
        assert not isinstance(value.get("model"), str) or not value["model"]
    except InvalidJson:
        assert "\\ud" in body.decode().lower()


KEYS = st.sampled_from(
    ['"model"', '"mod\\u0065l"', '"MODEL"', '"stream"', '"grammar"', '"\\"model\\""', '"x"', '"\\q"', '"é"']
)
VALUES = st.sampled_from(
    [
        '"a"',
        '""',
        '"model"',
        '"\\u0061\\n"',
        '"é"',
        "1",
        "null",
        "NaN",
        '{"model":"b"}',
        '["model"]',
        '"\\q"',
        '{"x":1,}',
        '"',
    ]
)


@settings(deadline=None, max_examples=500)
@given(st.lists(st.tuples(KEYS, VALUES), max_size=4), st.sampled_from(["{}", "{", "[]", "{}}", "{},"]))
def test_a_short_body_is_read_as_a_long_one_is(pairs: list[tuple[str, str]], around: str) -> None:
    body = (around[0] + ",".join(f"{key}:{value}" for key, value in pairs) + around[1:]).encode()
    assert _outcome_of(body) == _outcome_of(body + b" " * 512)


def _outcome_of(body: bytes) -> object:
    try:
        return model_of_json(body)
    except RouterError as error:
        return type(error)


@settings(deadline=None)
@given(st.binary(max_size=80))
def test_any_bytes_get_an_answer_or_a_refusal(body: bytes) -> None:
    for read in (model_of_json, lambda body: model_of_multipart(b"multipart/form-data; boundary=b", b"--b" + body)):
        with contextlib.suppress(BadRequest):
            assert isinstance(read(body), str)


# --- multipart ------------------------------------------------------------------------------------------------------


def form(*parts: tuple[bytes, bytes], boundary: bytes = b"b") -> bytes:
    lines = [b"--%b\r\n%b\r\n\r\n%b\r\n" % (boundary, head, value) for head, value in parts]
    return b"".join(lines) + b"--%b--\r\n" % boundary


MODEL = b'Content-Disposition: form-data; name="model"'
FILE = b'Content-Disposition: form-data; name="file"; filename="a\\"; name=\\"model.wav"\r\nContent-Type: audio/wav'
KIND = b"multipart/form-data; boundary=b"


@pytest.mark.parametrize(
    "body",
    [
        form((MODEL, b"m")),
        form((FILE, b"--bx\r\n--c\r\n\x00\xff"), (MODEL, b"m")),
        form((b"content-disposition:form-data;name=model", b"m"), (FILE, b"")),
        form((b'Content-Type: text/plain\r\nContent-Disposition: form-data; name="model"', b"m")),
    ],
)
def test_the_models_field_is_found(body: bytes) -> None:
    assert model_of_multipart(KIND, body) == "m"


def test_a_quoted_boundary() -> None:
    body = form((MODEL, b"m"), boundary=b"a b")
    assert model_of_multipart(b'multipart/form-data; charset=x; boundary="a b"', body) == "m"


@pytest.mark.parametrize(
    ("body", "error"),
    [
        (b"", BadRequest),
        (b"--b--\r\n", UnnamedModel),
        (form((FILE, b"x")), UnnamedModel),
        (form((MODEL, b"")), UnnamedModel),
        (form((MODEL, b"a"), (MODEL, b"b")), DuplicateKey),
        (form((MODEL, b"a"))[:-6], BadRequest),  # no last boundary
        (form((b"X: y", b"a")), BadRequest),
        (form((MODEL + b"\r\n" + MODEL, b"a")), BadRequest),
        (form((MODEL + b'; name="file"', b"a")), BadRequest),
        (form((b'Content-Disposition: form-data; name="mod\\el"', b"a")), BadRequest),
        (form((b"X: " + b"y" * 9000 + b"\r\n" + MODEL, b"a")), BadRequest),
        (form(*[(FILE, b"")] * 65, (MODEL, b"a")), BadRequest),
        (form((MODEL, b"\xff")), BadRequest),
        (b"preamble\r\n" + form((MODEL, b"a")), BadRequest),
    ],
)
def test_forms_that_name_no_model(body: bytes, error: type[RouterError]) -> None:
    with pytest.raises(error) as caught:
        model_of_multipart(KIND, body)
    assert type(caught.value) is error


def test_a_form_without_a_boundary() -> None:
    with pytest.raises(BadRequest, match="boundary"):
        model_of_multipart(b"multipart/form-data", form((MODEL, b"m")))


def test_what_is_multipart() -> None:
    assert is_multipart(b" Multipart/Form-Data; boundary=x")
    assert not is_multipart(b"application/json")
    assert not is_multipart(None)


STREAM = b'Content-Disposition: form-data; name="stream"'


@pytest.mark.parametrize(
    ("body", "streams"),
    [
        (form((FILE, b"RIFF"), (MODEL, b"m"), (STREAM, b"true")), True),
        (form((STREAM, b"true"), (MODEL, b"m"), boundary=b"a b"), True),
        (form((STREAM, b"True"), (MODEL, b"m")), False),  # the reference knows one word
        (form((STREAM, b"false"), (MODEL, b"m")), False),
        (form((STREAM, b"true"), (STREAM, b"true"), (MODEL, b"m")), False),  # a list to the reference
        (form((MODEL, b"true")), False),
        (form((FILE, b"\r\n--c\r\n" + STREAM + b"\r\n\r\ntrue")), False),
        (form((STREAM, b"true"))[:-6], False),
        (b"--b--\r\n", False),
        (b'{"stream": true}', False),
        (b"", False),
    ],
)
def test_a_form_asks_for_a_stream_by_one_word(body: bytes, streams: bool) -> None:
    assert form_asks_for_stream(body) is streams
