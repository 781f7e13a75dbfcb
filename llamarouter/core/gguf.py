"""Reads the header of a GGUF file, however hostile, without reading its weights.

    read_header(read, size) -> Header        or GgufError, with one line that says what is wrong with the file

The file comes through `read(offset, n) -> bytes`; at most HEADER_MAX bytes of it are ever asked for. Nothing is
allocated after a size that the file declares: long strings and arrays of numbers are stepped over by arithmetic, arrays
of strings (a vocabulary) are walked in blocks. Every tensor must end inside the file, which finds truncated downloads.

Layout (little endian; https://github.com/ggml-org/ggml/blob/master/docs/gguf.md, and ggml/src/gguf.cpp of b11434):

    magic "GGUF" | version u32 | tensors u64 | keys u64
    per key:     name, type u32, value           (a string: length u64, bytes; an array: type u32, count u64, values)
    per tensor:  name, dimensions u32, sizes u64..., type u32, offset u64
    padding to `general.alignment`, then the tensors' data
"""

from __future__ import annotations

import struct
from collections import Counter
from collections.abc import Callable, Container, Mapping
from math import prod

from msgspec import Struct, field

from llamarouter.core.gguf_cursor import (
    HEADER_MAX,
    NAME_MAX,
    STRING_MAX,
    Cursor,
    GgufError,
    checked_length,
    fail,
    shown,
)
from llamarouter.core.gguf_types import FILE_TYPES, GUESSED, TENSOR_TYPES
from llamarouter.core.model import Header

__all__ = ["Contents", "GgufError", "header_of", "read_contents", "read_header"]

KEPT_STRING_MAX = 1024  # bytes of a value that is shown to people
KEYS_MAX = 65536
TENSORS_MAX = 65536
DIMENSIONS_MAX = 4  # GGML_MAX_DIMS
ARRAY_MAX = 1024  # numbers of an array that are kept: one a layer

_SMALLEST_KEY = 8 + 4 + 1
_SMALLEST_TENSOR = 8 + 4 + 4 + 8

_STRING, _ARRAY = 8, 9
# The numbers of the scalar types (0 to 7, 10 to 12), and how they are packed; a bool is a byte.
_SCALARS = {kind: struct.Struct(f"<{code}") for kind, code in zip((*range(8), 10, 11, 12), "BbHhIifBQqd", strict=True)}

# What stands behind a tensor's name and the number of its dimensions, by that: sizes, type, offset.
_TENSORS = [struct.Struct(f"<{'Q' * number}IQ") for number in range(DIMENSIONS_MAX + 1)]

# What general.type may be, when it is not a model; and what that is called.
_FOREIGN = {"adapter": "a LoRA adapter", "imatrix": "an importance matrix", "vocab": "a vocabulary"}

_GENERAL = {
    "general.architecture",
    "general.name",
    "general.type",
    "general.file_type",
    "general.alignment",
    "split.no",
    "split.count",
    "clip.has_vision_encoder",
    "clip.has_audio_encoder",
}
_OF_ARCHITECTURE = (
    ".context_length",
    ".embedding_length",
    ".block_count",
    ".vocab_size",
    ".pooling_type",
    ".decision.type",
)
# The models that answer with decisions (`common/common.cpp`, build b11434); of another type it is text.
_DECISIONS = frozenset({"openjev", "lev", "kev", "nimble", "laya", "clef"})
_TOKENS = "tokenizer.ggml.tokens"

Value = int | float | str


class Contents(Struct, frozen=True):
    """What was picked up on the way through a header: the scalar values wanted here, and sums over the tensors."""

    values: Mapping[str, Value]
    n_tokens: int | None
    n_tensors: int
    n_elements: int
    commonest_type: str | None  # the tensor type with the most elements
    arrays: Mapping[str, tuple[Value, ...]] = field(default_factory=dict)  # of numbers, as far as they were wanted


def read_header(read: Callable[[int, int], bytes], size: int) -> Header:
    """The header of a file of `size` bytes; for a shard after the first, `architecture` is empty."""
    return header_of(read_contents(read, size))


def read_contents(
    read: Callable[[int, int], bytes],
    size: int,
    *,
    also: Container[str] = (),
    on_tensor: Callable[[str, int, str], None] | None = None,
) -> Contents:
    """Walk the whole header, checking everything on the way.

    `also`: the keys wanted besides, without what stands before their first dot (the architecture, as a rule); their
    arrays of numbers, too, up to `ARRAY_MAX` each. `on_tensor` hears of every tensor's name, bytes and type.
    """
    cursor = Cursor(read, size)
    n_tensors, n_keys = _read_preamble(cursor)
    values: dict[str, Value] = {}
    arrays: dict[str, tuple[Value, ...]] = {}
    n_tokens = None
    for _ in range(n_keys):
        key = cursor.text(NAME_MAX, "a key")
        kind = cursor.u32()
        more = key.partition(".")[2] in also
        if kind == _ARRAY:
            count = _read_array(cursor, key, arrays if more else None)
            n_tokens = count if key == _TOKENS else n_tokens
        elif more or key in _GENERAL or key.endswith(_OF_ARCHITECTURE):
            if key in values:
                fail(f"the key '{shown(key)}' stands in it twice")
            values[key] = _read_value(cursor, key, kind)
        else:
            _skip_value(cursor, key, kind)
    n_elements, commonest = _read_tensors(cursor, n_tensors, _alignment_of(values), on_tensor)
    return Contents(values, n_tokens, n_tensors, n_elements, commonest, arrays)


def header_of(contents: Contents) -> Header:
    """What the values mean; raises GgufError for a file that is no model."""
    values = contents.values
    foreign = _FOREIGN.get(str(values.get("general.type", "model")))
    if foreign is not None:
        fail(f"{foreign}, not a model")
    architecture = values.get("general.architecture")
    later_shard = _int(values, "split.no") not in (None, 0)
    if not later_shard:
        if not isinstance(architecture, str) or not architecture:
            fail("its header names no architecture")
        if contents.n_tensors == 0 and (_int(values, "split.count") or 0) < 2:
            fail("it holds no tensors (a vocabulary alone?)")
    architecture = shown(architecture) if isinstance(architecture, str) else ""
    name = values.get("general.name")
    return Header(
        architecture=architecture,
        name=shown(name, 200) if isinstance(name, str) and name else None,
        quant=_quant_of(values, contents.commonest_type),
        n_params=contents.n_elements,
        n_ctx_train=_int(values, f"{architecture}.context_length"),
        n_embd=_int(values, f"{architecture}.embedding_length"),
        n_layer=_int(values, f"{architecture}.block_count"),
        n_vocab=contents.n_tokens or _int(values, f"{architecture}.vocab_size"),
        input_modalities=_modalities_of(values, architecture),
        output_modalities=("decisions",) if values.get(f"{architecture}.decision.type") in _DECISIONS else ("text",),
        # Old BERTs have no pooling_type; the engine pools them all the same.
        pooling=bool(_int(values, f"{architecture}.pooling_type")) or "bert" in architecture,
    )


def _read_preamble(cursor: Cursor) -> tuple[int, int]:
    """Magic, version and counts: (tensors, keys)."""
    if cursor.size == 0:
        fail("the file is empty")
    magic = cursor.start(4)
    if magic != b"GGUF":
        fail(_what_it_is(cursor.start(256)))
    cursor.pos = 4
    version = cursor.u32()
    if version & 0xFFFF == 0 and version != 0:
        fail("a big-endian GGUF, which this machine cannot read")
    if version not in (2, 3):
        fail(f"GGUF version {version}, where 2 and 3 can be read")
    n_tensors, n_keys = cursor.u64(), cursor.u64()
    if n_keys > KEYS_MAX or n_tensors > TENSORS_MAX:
        fail(f"its header claims {n_keys} keys and {n_tensors} tensors, which no model has")
    if n_keys * _SMALLEST_KEY + n_tensors * _SMALLEST_TENSOR > cursor.size - cursor.pos:
        fail("truncated: it ends in the middle of its header")
    return n_tensors, n_keys


def _what_it_is(start: bytes) -> str:
    """Name the usual impostors by their first bytes."""
    if start.startswith(b"version https://git-lfs"):
        return "a Git LFS pointer, not the file that it stands for"
    head = start.lstrip()[:64].lower()
    if head.startswith((b"<!doctype", b"<html")):
        return "a web page, not a GGUF"
    if start.startswith((b"ggml", b"lmgg", b"ggjt", b"tjgg", b"ggla", b"algg")):
        return "an old GGML file, not a GGUF"
    if not any(start):
        return "it begins with zeros (a download that never got further?)"
    return "not a GGUF (its magic is wrong)"


def _read_value(cursor: Cursor, key: str, kind: int) -> Value:
    if kind == _STRING:
        return cursor.text(STRING_MAX, f"the value of '{shown(key)}'", keep=KEPT_STRING_MAX)
    layout = _SCALARS.get(kind)
    if layout is None:
        fail(f"the key '{shown(key)}' has the unknown type {kind}")
    value: int | float = cursor.scalar(layout)
    return value


def _skip_value(cursor: Cursor, key: str, kind: int) -> None:
    if kind == _STRING:
        cursor.skip(checked_length(cursor.u64(), STRING_MAX, f"the value of '{shown(key)}'"))
        return
    layout = _SCALARS.get(kind)
    if layout is None:
        fail(f"the key '{shown(key)}' has the unknown type {kind}")
    cursor.skip(layout.size)


def _read_array(cursor: Cursor, key: str, arrays: dict[str, tuple[Value, ...]] | None) -> int:
    """Step over an array, and say how many elements it has; short ones of numbers go into `arrays`."""
    kind, count = cursor.u32(), cursor.u64()
    if arrays is not None and kind in _SCALARS and count <= ARRAY_MAX:
        arrays[key] = tuple(cursor.scalar(_SCALARS[kind]) for _ in range(count))
    elif kind == _STRING:
        cursor.skip_strings(count, key)
    elif kind in _SCALARS:
        cursor.skip(count * _SCALARS[kind].size)
    elif kind == _ARRAY:
        fail(f"the key '{shown(key)}' is an array of arrays, which no engine reads")
    else:
        fail(f"the key '{shown(key)}' is an array of the unknown type {kind}")
    return count


def _alignment_of(values: Mapping[str, Value]) -> int:
    alignment = values.get("general.alignment", 32)
    if not isinstance(alignment, int) or not 0 < alignment <= HEADER_MAX or alignment & (alignment - 1):
        fail(f"its alignment is {shown(str(alignment))}, which is no power of two")
    return alignment


def _read_tensors(
    cursor: Cursor, n_tensors: int, alignment: int, on_tensor: Callable[[str, int, str], None] | None
) -> tuple[int, str | None]:
    """Check where every tensor ends; the elements of all of them, and the type that has most."""
    by_type: Counter[str] = Counter()
    total = 0
    furthest, furthest_name = 0, ""
    for _ in range(n_tensors):
        name = cursor.text(NAME_MAX, "a tensor's name")
        n_dimensions = cursor.u32()
        if n_dimensions > DIMENSIONS_MAX:
            fail(f"the tensor '{shown(name)}' has {n_dimensions} dimensions")
        *lengths, kind, offset = cursor.values(_TENSORS[n_dimensions])
        elements = prod(lengths)
        row = lengths[0] if lengths else 1
        if elements >= 1 << 63:
            fail(f"the tensor '{shown(name)}' has more elements than can be counted")
        if offset % alignment:
            fail(f"the tensor '{shown(name)}' is not aligned")
        type_name, block, block_bytes = TENSOR_TYPES.get(kind, (f"type {kind}", 1, 0))
        if row % block:
            fail(
                f"the tensor '{shown(name)}' has rows of {row} elements, which is no whole number of {type_name} blocks"
            )
        n_bytes = elements // block * block_bytes
        if on_tensor is not None:
            on_tensor(name, n_bytes, type_name)
        end = offset + n_bytes
        if end >= furthest:
            furthest, furthest_name = end, name
        total += elements
        by_type[type_name] += elements
    if n_tensors:
        _check_end(cursor, furthest, furthest_name, alignment)
    return total, max(by_type, key=by_type.__getitem__, default=None)


def _check_end(cursor: Cursor, furthest: int, name: str, alignment: int) -> None:
    data = -(-cursor.pos // alignment) * alignment
    missing = data + furthest - cursor.size
    if missing > 0:
        fail(f"truncated: {missing} bytes are missing at its end (tensor '{shown(name)}')")


def _quant_of(values: Mapping[str, Value], commonest: str | None) -> str | None:
    number = _int(values, "general.file_type")
    named = FILE_TYPES.get(number & ~GUESSED, "-") if number is not None else "-"
    return named if named != "-" else commonest


def _modalities_of(values: Mapping[str, Value], architecture: str) -> tuple[str, ...]:
    """Of a model: text; what its projector adds stands in the projector's own header."""
    if architecture != "clip":
        return ("text",)
    image = bool(values.get("clip.has_vision_encoder"))
    audio = bool(values.get("clip.has_audio_encoder"))
    return (*(("image",) if image else ()), *(("audio",) if audio else ()))


def _int(values: Mapping[str, Value], key: str) -> int | None:
    value = values.get(key)
    return value if isinstance(value, int) else None
