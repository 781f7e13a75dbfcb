"""Which model a request's body asks for, read without building the rest.

JSON: only the top-level keys are looked at, and every one of them is seen unescaped, so that a second `model` (also
one written with escapes) is refused instead of being understood differently here and in the child. What would make
the child's parser overflow its stack is refused before it gets there. Multipart: the form field `model`.
The bytes themselves go on as they came.
"""

from __future__ import annotations

import re
from typing import Any

import msgspec

from llamarouter.core.errors import BadRequest, DuplicateKey, InvalidJson, JsonTooDeep, MissingModel, UnnamedModel

MAX_DEPTH = 256
_SHORT = 512  # bytes: there three scans cost less than a look at every key
_MANY_BRACKETS = 512  # fewer than these cannot be too deep by far, and most bodies have fewer
_MAX_GRAMMAR_BYTES = 64 << 10
_MAX_GRAMMAR_DEPTH = 64
_MAX_PARTS = 64
_MAX_PART_HEAD = 8 << 10

_MISSING = "model name is missing from the request"
# A string without an end reaches to the end of the text: were it no match, every escaped quote in it would be tried as
# the beginning of another, in quadratic time.
_STRING = re.compile(rb'"(?:[^"\\]++|\\.)*+(?:"|\\?\Z)', re.DOTALL)
# Some of a text, from outside of strings to outside of strings.
_PIECE = re.compile(rb'(?:[^"]{1,65536}+|' + _STRING.pattern + rb"){1,1024}+", re.DOTALL)
_NO_BRACKETS = bytes(set(range(256)) - set(b"[]{}"))


class _Key:
    """A top-level key. Equal only to itself: a dict keeps both of two equal keys apart."""

    __slots__ = ("name",)

    def __init__(self, name: str) -> None:
        self.name = name


_OTHER = _Key("")
_READ = frozenset(("model", "stream", "grammar"))


def _key_of(_type: type[Any], name: Any) -> _Key:
    return _Key(name) if name in _READ else _OTHER


class _Plain(msgspec.Struct, gc=False):
    """A body that is nothing but plain: read by msgspec alone, which takes the last one of equal keys in silence."""

    model: str


_plain_decoder = msgspec.json.Decoder(_Plain)
_decoder = msgspec.json.Decoder(dict[_Key, msgspec.Raw], dec_hook=_key_of)
_string_decoder = msgspec.json.Decoder(str)


def model_of_json(body: bytes) -> str:
    """The model that a JSON body names.

    Raises `InvalidJson` (with the offset, never with the content), `DuplicateKey`, `JsonTooDeep`, `MissingModel` (as
    `UnnamedModel` where there is not even a wrong name), and `BadRequest` for a grammar that is out of bounds.
    """
    # A short body where it is plain that no key is there twice: one would stand twice as it is, or be written with an
    # escape. (`find`: `in` costs three times as much, because bytes try their argument as a number first.)
    if (
        len(body) <= _SHORT
        and body.isascii()
        and body.count(b'"model"') == 1
        and body.find(b"\\u") < 0
        and body.count(b'"stream"') <= 1
        and body.find(b'"grammar"') < 0
    ):
        try:
            if plain := _plain_decoder.decode(body).model:
                return plain
        except (msgspec.DecodeError, RecursionError):
            pass  # what is wrong with it is found below
    return _model_by_keys(body)


def _model_by_keys(body: bytes) -> str:
    seen: dict[str, msgspec.Raw] = {}
    for key, value in _top_level_of(body).items():
        if key is _OTHER:
            continue
        if key.name in seen:
            raise DuplicateKey(f"the key `{key.name}` stands twice in the request")
        seen[key.name] = value
    if "grammar" in seen:
        _check_grammar(bytes(seen["grammar"]))
    model = seen.get("model")
    if model is None:
        raise UnnamedModel(_MISSING)
    try:
        return _string_decoder.decode(model) or _unnamed()
    except msgspec.ValidationError:  # no string
        raise (UnnamedModel if bytes(model) == b"null" else MissingModel)(_MISSING) from None
    except msgspec.DecodeError as error:
        raise InvalidJson(f"the name of the model is not a valid string: {error}") from error


class _Streamed(msgspec.Struct, gc=False):
    stream: bool = False


_stream_decoder = msgspec.json.Decoder(_Streamed)


def asks_for_stream(body: bytes) -> bool:
    """Whether `stream` is literally true in a body that was found good; no other body asks for a stream."""
    try:
        return _stream_decoder.decode(body).stream
    except (msgspec.DecodeError, RecursionError):
        return False


def _top_level_of(body: bytes) -> dict[_Key, msgspec.Raw]:
    try:
        if not body.isascii():
            body.decode()
        if has_many_brackets(body) and depth_of(body) > MAX_DEPTH:
            raise JsonTooDeep(f"the JSON is nested more than {MAX_DEPTH} deep")
        return _decoder.decode(body)
    except UnicodeDecodeError as error:
        raise InvalidJson(f"the body is not UTF-8 (byte {error.start})") from None
    except RecursionError:
        raise JsonTooDeep(f"the JSON is nested more than {MAX_DEPTH} deep") from None
    except msgspec.ValidationError:  # an array, a number: valid, but no object
        raise UnnamedModel(_MISSING) from None
    except msgspec.DecodeError as error:
        text = str(error) if "byte" in str(error) else f"{error} (byte {len(body)})"
        raise InvalidJson(f"the body is not valid JSON: {text}") from None


def has_many_brackets(body: bytes) -> bool:
    """Whether the depth of a body has to be looked at, which takes time."""
    return len(body) > _MANY_BRACKETS and body.count(b"{") + body.count(b"[") > _MANY_BRACKETS


def depth_of(text: bytes, limit: int = MAX_DEPTH) -> int:
    """How deep brackets nest, outside of strings; looks no further when it is more than `limit`."""
    deepest = depth = 0
    for piece in _PIECE.finditer(text):
        for bracket in _STRING.sub(b"", piece[0]).translate(None, _NO_BRACKETS):
            if bracket in b"[{":
                depth += 1
                if depth > deepest:
                    deepest = depth
                    if deepest > limit:
                        return deepest
            else:
                depth -= 1
    return deepest


def _check_grammar(raw: bytes) -> None:
    if len(raw) > _MAX_GRAMMAR_BYTES:
        raise BadRequest(f"`grammar` is longer than {_MAX_GRAMMAR_BYTES >> 10} KiB")
    deepest = depth = 0
    for letter in raw:
        if letter in b"([{":
            depth += 1
            deepest = max(deepest, depth)
        elif letter in b")]}":
            depth -= 1
    if deepest > _MAX_GRAMMAR_DEPTH:
        raise BadRequest(f"`grammar` is nested more than {_MAX_GRAMMAR_DEPTH} deep")


# --- multipart ------------------------------------------------------------------------------------------------------

_BOUNDARY = re.compile(rb';\s*boundary=(?:"([^"\\\r\n]{1,70})"|([^\s";,]{1,70}))\s*(?:;|$)', re.IGNORECASE)
_DISPOSITION = re.compile(rb"^content-disposition:[ \t]*form-data[ \t]*(;[^\r\n]*)$", re.IGNORECASE | re.MULTILINE)
_PARAMETER = re.compile(rb';\s*([a-z0-9*_-]+)=("(?:[^"\\]|\\.)*"|[^\s";]*)[ \t]*', re.IGNORECASE)


def is_multipart(content_type: bytes | None) -> bool:
    return content_type is not None and content_type.lstrip()[:10].lower() == b"multipart/"


def model_of_multipart(content_type: bytes, body: bytes) -> str:
    """The model that a multipart form names. Raises `BadRequest`, `DuplicateKey`, `UnnamedModel`."""
    found = _BOUNDARY.search(content_type)
    if found is None:
        raise BadRequest("the multipart body has no boundary")
    models = _values_of(b"model", body, b"--" + (found[1] or found[2]))
    if not models:
        raise UnnamedModel(_MISSING)
    if len(models) > 1:
        raise DuplicateKey("the field `model` stands twice in the request")
    try:
        model = models[0].decode()
    except UnicodeDecodeError:
        raise BadRequest("the name of the model is not UTF-8") from None
    return model or _unnamed()


def form_asks_for_stream(body: bytes) -> bool:
    """Whether the field `stream` of a form that was found good is the word true, as llama-server reads it."""
    delimiter = body[: max(0, body.find(b"\r\n"))]
    try:
        return delimiter.startswith(b"--") and _values_of(b"stream", body, delimiter) == [b"true"]
    except BadRequest:  # it is something else
        return False


def _unnamed() -> str:
    raise UnnamedModel(_MISSING)


def _values_of(name: bytes, body: bytes, delimiter: bytes) -> list[bytes]:
    """What the form's parts of this name hold. The others, files too, are passed over."""
    if not body.startswith(delimiter):
        raise BadRequest("the multipart body does not begin with its boundary")
    values: list[bytes] = []
    parts = 0
    at = len(delimiter)
    while body[at : at + 2] != b"--":
        if body[at : at + 2] != b"\r\n" or parts == _MAX_PARTS:
            raise BadRequest(f"the multipart body is malformed, or has more than {_MAX_PARTS} parts")
        head_end = body.find(b"\r\n\r\n", at, at + _MAX_PART_HEAD)
        end = body.find(b"\r\n" + delimiter, head_end + 4)
        if head_end < 0 or end < 0:
            raise BadRequest("a part of the multipart body has no end, or no head within 8 KiB")
        parts += 1
        if _name_of(body[at + 2 : head_end]) == name:
            values.append(body[head_end + 4 : end])
        at = end + 2 + len(delimiter)
    return values


def _name_of(part_head: bytes) -> bytes:
    dispositions = _DISPOSITION.findall(part_head.replace(b"\r\n", b"\n"))
    if len(dispositions) != 1:
        raise BadRequest("a part of the multipart body has no single form-data disposition")
    parameters = _PARAMETER.findall(dispositions[0])
    names = [value.strip(b'"') for key, value in parameters if key.lower() == b"name"]
    if len(names) != 1 or b"\\" in names[0]:
        raise BadRequest("a part of the multipart body has no plain name")
    return bytes(names[0])
