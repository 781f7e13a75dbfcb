"""The header reader: what it tells of real files, and that no bytes whatever make it do anything but refuse."""

from __future__ import annotations

import struct
import tracemalloc
from pathlib import Path
from random import Random

import gguf as reference
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llamarouter.core.gguf import GgufError, read_header
from llamarouter.core.gguf_types import FILE_TYPES, TENSOR_TYPES
from llamarouter.core.model import Header
from tests.tiny_gguf import write_embedding_model, write_llama, write_mmproj, write_sharded_llama

U8, I32, U32, STRING, ARRAY, U64 = 0, 5, 4, 8, 9, 10


def text(value: str | bytes) -> bytes:
    raw = value.encode() if isinstance(value, str) else value
    return struct.pack("<Q", len(raw)) + raw


def key(name: str, kind: int, value: bytes) -> bytes:
    return text(name) + struct.pack("<I", kind) + value


def array(kind: int, count: int, values: bytes) -> bytes:
    return struct.pack("<IQ", kind, count) + values


def tensor(name: str, sizes: tuple[int, ...] = (32,), kind: int = 0, offset: int = 0) -> bytes:
    return text(name) + struct.pack(f"<I{len(sizes)}QIQ", len(sizes), *sizes, kind, offset)


SEEDS = st.integers(0, 1 << 32)
LLAMA = key("general.architecture", STRING, text("llama"))


def file_of(
    keys: list[bytes] | None = None,
    tensors: list[bytes] | None = None,
    *,
    data: int = 128,
    version: int = 3,
    n_keys: int | None = None,
    n_tensors: int | None = None,
    alignment: int = 32,
) -> bytes:
    keys = [LLAMA] if keys is None else keys
    tensors = [tensor("a")] if tensors is None else tensors
    head = b"GGUF" + struct.pack(
        "<IQQ", version, len(tensors) if n_tensors is None else n_tensors, len(keys) if n_keys is None else n_keys
    )
    head += b"".join(keys) + b"".join(tensors)
    return head + bytes(-len(head) % alignment) + bytes(data)


class Bytes:
    """A file in memory, that notes how much was asked of it."""

    def __init__(self, content: bytes, size: int | None = None) -> None:
        self.content = content
        self.size = len(content) if size is None else size
        self.asked = 0

    def read(self, offset: int, count: int) -> bytes:
        assert 0 <= offset <= self.size
        assert 0 < count <= self.size - offset
        assert count <= 1 << 20
        self.asked += count
        return self.content[offset : offset + count]


def header(content: bytes) -> Header:
    file = Bytes(content)
    return read_header(file.read, file.size)


def refusal(content: bytes) -> str:
    with pytest.raises(GgufError) as caught:
        header(content)
    reason = str(caught.value)
    assert "\n" not in reason
    assert len(reason) < 250
    return reason


# --- real files -----------------------------------------------------------------------------------------------------


def test_llama(tmp_path: Path) -> None:
    content = write_llama(tmp_path / "a.gguf", name="Tiny", n_ctx=256, n_layer=3, quant="Q8_0").read_bytes()
    assert header(content) == Header(
        architecture="llama",
        name="Tiny",
        quant="Q8_0",
        n_params=sum(int(t.n_elements) for t in reference.GGUFReader(tmp_path / "a.gguf").tensors),
        n_ctx_train=256,
        n_embd=64,
        n_layer=3,
        n_vocab=378,
    )


def test_embedding_model_is_pooled(tmp_path: Path) -> None:
    assert header(write_embedding_model(tmp_path / "e.gguf").read_bytes()).pooling


@pytest.mark.parametrize(("vision", "audio", "kinds"), [(True, False, ("image",)), (True, True, ("image", "audio"))])
def test_projector(tmp_path: Path, vision: bool, audio: bool, kinds: tuple[str, ...]) -> None:
    found = header(write_mmproj(tmp_path / "mmproj.gguf", vision=vision, audio=audio).read_bytes())
    assert (found.architecture, found.input_modalities) == ("clip", kinds)


@pytest.mark.parametrize(
    ("kind", "output"), [("openjev", "decisions"), ("clef", "decisions"), ("other", "text"), (None, "text")]
)
def test_what_a_model_answers_with(kind: str | None, output: str) -> None:
    keys = [LLAMA] if kind is None else [LLAMA, key("llama.decision.type", 8, text(kind))]
    assert header(file_of(keys)).output_modalities == (output,)
    assert header(file_of([LLAMA, key("other.decision.type", 8, text("clef"))])).output_modalities == ("text",)


def test_shards_tell_their_own_parameters(tmp_path: Path) -> None:
    whole = header(write_llama(tmp_path / "w.gguf").read_bytes())
    parts = [header(path.read_bytes()) for path in write_sharded_llama(tmp_path / "s.gguf")]
    assert [part.architecture for part in parts] == ["llama", ""]
    assert sum(part.n_params for part in parts) == whole.n_params


def test_tables_agree_with_the_gguf_package() -> None:
    for kind, (block, size) in reference.GGML_QUANT_SIZES.items():
        if kind.name != "Q8_1":  # a sum was stored as two floats once; never in files
            assert TENSOR_TYPES[kind.value] == (kind.name, block, size)
    names = {kind.value: kind.name.removeprefix("MOSTLY_").removeprefix("ALL_") for kind in reference.LlamaFileType}
    for number, name in FILE_TYPES.items():
        if number in names and number != 38:  # MXFP4_MOE there
            assert names[number] == name


def test_big_vocabulary_is_walked_in_blocks() -> None:
    tokens = b"".join(text(f"token{n}") for n in range(100_000))
    keys = [
        LLAMA,
        key("tokenizer.ggml.tokens", ARRAY, array(STRING, 100_000, tokens)),
        key("llama.block_count", U32, b"\x07\0\0\0"),
    ]
    found = header(file_of(keys))
    assert (found.n_vocab, found.n_layer) == (100_000, 7)


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 1000), st.lists(st.tuples(st.integers(0, 999), st.integers(100, 70_000)), max_size=4), SEEDS)
def test_strings_of_any_length_are_stepped_over_exactly(
    count: int, long_ones: list[tuple[int, int]], seed: int
) -> None:
    random = Random(seed)
    lengths = [random.choice((0, 1, 5, 8, 127, 128)) for _ in range(count)]
    for index, length in long_ones:
        lengths[index:index] = [length]
    words = b"".join(text(random.randbytes(length)) for length in lengths)
    keys = [LLAMA, key("tokenizer.ggml.tokens", ARRAY, array(STRING, len(lengths), words))]
    content = file_of([*keys, key("llama.context_length", U32, struct.pack("<I", 77))])
    header = read_header(lambda offset, count: content[offset : offset + count], len(content))
    assert (header.n_vocab or 0, header.n_ctx_train) == (len(lengths), 77)


def test_numbers_are_stepped_over_unread() -> None:
    content = Bytes(file_of([LLAMA, key("x", ARRAY, array(U64, 4_000_000, bytes(32_000_000)))]))
    read_header(content.read, content.size)
    assert content.asked < 300_000


def test_names_for_people_are_short_and_printable() -> None:
    found = header(file_of([LLAMA, key("general.name", STRING, text(b"\x1b[31m\xff" + b"x" * 5000))]))
    assert found.name is not None
    assert found.name.isprintable()
    assert len(found.name) <= 200


@pytest.mark.parametrize(
    ("number", "quant"), [(15, "Q4_K_M"), (1024 + 7, "Q8_0"), (38, "MXFP4"), (33, "F32"), (9999, "F32"), (0, "F32")]
)
def test_quant_is_the_file_type_else_the_commonest_tensor_type(number: int, quant: str) -> None:
    assert header(file_of([LLAMA, key("general.file_type", U32, struct.pack("<I", number))])).quant == quant


def test_quant_without_a_file_type() -> None:
    tensors = [tensor("small", (32,)), tensor("large", (256, 4), 12, 128)]
    assert header(file_of(tensors=tensors, data=128 + 4 * 144)).quant == "Q4_K"


def test_tensor_type_of_a_newer_engine_is_no_error() -> None:
    assert header(file_of(tensors=[tensor("a", (32,), kind=77)])).n_params == 32


def test_version_2_and_own_alignment() -> None:
    keys = [LLAMA, key("general.alignment", U32, struct.pack("<I", 64))]
    assert (
        header(file_of(keys, [tensor("a"), tensor("b", offset=128)], data=256, version=2, alignment=64)).n_params == 64
    )


# --- refusals -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "empty"),
        (b"GG", "magic"),
        (b"GGUF", "truncated"),
        (b"version https://git-lfs.github.com/spec/v1\n", "LFS"),
        (b"  <!DOCTYPE html><html>", "web page"),
        (b"lmgg" + bytes(50), "GGML"),
        (bytes(4096), "zeros"),
        (b"This is text", "magic"),
        (file_of(version=1), "version 1"),
        (file_of(version=4), "version 4"),
        (b"GGUF" + struct.pack(">IQQ", 3, 1, 1) + bytes(100), "big-endian"),
        (file_of(n_keys=1 << 60), "no model has"),
        (file_of(n_tensors=1 << 60), "no model has"),
        (file_of(n_keys=60_000), "truncated"),
        (file_of([key("general.name", STRING, text("x"))]), "architecture"),
        (file_of([key("general.architecture", U32, bytes(4))]), "architecture"),
        (file_of([LLAMA, LLAMA]), "twice"),
        (file_of([LLAMA, text("k" * 70_000) + bytes(12)]), "claims to be 70000 bytes"),
        (file_of([LLAMA, key("x", STRING, struct.pack("<Q", 1 << 63))]), "claims to be"),
        (file_of([LLAMA, key("x", STRING, struct.pack("<Q", 1 << 20))]), "truncated"),
        (file_of([LLAMA, key("x", 99, bytes(8))]), "unknown type 99"),
        (file_of([LLAMA, key("general.name", 99, bytes(8))]), "unknown type 99"),
        (file_of([LLAMA, key("x", ARRAY, array(ARRAY, 1, array(U8, 1, b"1")))]), "array of arrays"),
        (file_of([LLAMA, key("x", ARRAY, array(99, 1, b"1"))]), "unknown type 99"),
        (file_of([LLAMA, key("x", ARRAY, array(U64, 1 << 62, b"1"))]), "truncated"),
        (file_of([LLAMA, key("x", ARRAY, array(STRING, 1 << 62, b"1"))]), "no model has"),
        (file_of([LLAMA, key("x", ARRAY, array(STRING, 2, text("a") + struct.pack("<Q", 1 << 50)))]), "truncated"),
        (file_of([LLAMA, key("general.alignment", U32, bytes(4))]), "alignment"),
        (file_of([LLAMA, key("general.alignment", U32, struct.pack("<I", 24))]), "alignment"),
        (file_of([LLAMA, key("general.alignment", STRING, text("32"))]), "alignment"),
        (file_of([LLAMA, key("general.type", STRING, text("adapter"))]), "LoRA"),
        (file_of([LLAMA, key("general.type", STRING, text("imatrix"))]), "importance matrix"),
        (file_of(tensors=[]), "no tensors"),
        (file_of(tensors=[tensor("a", (1, 1, 1, 1, 1))]), "5 dimensions"),
        (file_of(tensors=[tensor("a", (1 << 40, 1 << 40))]), "more elements"),
        (file_of(tensors=[tensor("a", offset=1)]), "not aligned"),
        (file_of(tensors=[tensor("a", (33,), 8)]), "whole number"),
        (file_of(data=127), "1 bytes are missing"),
        (file_of(tensors=[tensor("a", offset=1 << 62)]), "bytes are missing"),
        (file_of(tensors=[tensor("z", offset=0), tensor("a\x1b", offset=4096)]), "'a\ufffd'"),
    ],
)
def test_refuses(content: bytes, words: str) -> None:
    assert words in refusal(content)


def test_header_is_bounded_however_large_the_file() -> None:
    """A vocabulary of long strings that goes on and on, in a file that claims to be a terabyte."""
    start = file_of([LLAMA + key("x", ARRAY, array(STRING, 1_000_000, b""))], [], n_keys=2, data=0, alignment=1)
    token = text("y" * 4088)
    asked = 0

    def read(offset: int, count: int) -> bytes:
        nonlocal asked
        asked += count
        if offset < len(start):
            return (start[offset:] + token * (count // len(token) + 1))[:count]
        into = (offset - len(start)) % len(token)
        return (token * (count // len(token) + 2))[into : into + count]

    with pytest.raises(GgufError, match="longer than 64 MiB"):
        read_header(read, 1 << 40)
    assert asked <= 64 << 20


def test_strings_are_bounded_over_all_arrays() -> None:
    """Walking them is the only thing that takes time."""
    many = array(STRING, 1_500_000, bytes(12_000_000))
    assert "no model has" in refusal(
        file_of([LLAMA, key("x", ARRAY, many), key("y", ARRAY, array(STRING, 1_500_000, b""))])
    )


def test_file_that_shrinks_while_it_is_read() -> None:
    content = file_of()
    with pytest.raises(GgufError, match="while it was read"):
        read_header(lambda offset, count: content[offset : offset + 10], len(content))


# --- properties -----------------------------------------------------------------------------------------------------

_KEYS = [
    LLAMA,
    key("general.name", STRING, text("name")),
    key("tokenizer.ggml.tokens", ARRAY, array(STRING, 3, text("a") + text("bc") + text(""))),
    key("tokenizer.ggml.scores", ARRAY, array(I32, 3, bytes(12))),
    key("llama.context_length", U32, struct.pack("<I", 512)),
    key("general.file_type", U32, struct.pack("<I", 7)),
]
SMALL = file_of(_KEYS, [tensor("a", (32, 2), 8), tensor("b", offset=96)], data=96 + 128)


@given(st.integers(0, len(SMALL) - 1))
def test_every_truncation_is_refused(length: int) -> None:
    refusal(SMALL[:length])


@settings(max_examples=400, deadline=None)
@given(st.lists(st.tuples(st.integers(0, len(SMALL) - 1), st.integers(0, 255)), min_size=1, max_size=8))
def test_changed_bytes_never_do_harm(changes: list[tuple[int, int]]) -> None:
    content = bytearray(SMALL)
    for offset, value in changes:
        content[offset] = value
    _survives(bytes(content))


@settings(max_examples=200, deadline=None)
@given(
    st.integers(0, len(SMALL) - 8),
    st.sampled_from([0, 1, 2**31 - 1, 2**31, 2**32 - 1, 2**62, 2**63 - 1, 2**63, 2**64 - 1]),
)
def test_wild_numbers_never_do_harm(offset: int, number: int) -> None:
    _survives(SMALL[:offset] + struct.pack("<Q", number) + SMALL[offset + 8 :])


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=300))
def test_noise_after_the_magic_never_does_harm(noise: bytes) -> None:
    _survives(b"GGUF\x03\0\0\0" + noise)


def _survives(content: bytes) -> None:
    """Anything but a Header or a GgufError is a failure; so is memory beyond what the file's size explains."""
    tracemalloc.start()
    try:
        header(content)
    except GgufError:
        pass
    finally:
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
    assert peak < 1 << 20


KINDS = st.sampled_from([*range(8), 10, 11, 12])
NAMES = st.text(st.characters(codec="utf-8"), max_size=20)
SIZES = dict(zip((*range(8), 10, 11, 12), (1, 1, 2, 2, 4, 4, 4, 1, 8, 8, 8), strict=True))


@st.composite
def keys_that_nobody_asks_for(draw: st.DrawFn) -> bytes:
    """A key of any type, with a name that means nothing here."""
    name = "x." + draw(NAMES) + ".x"
    kind = draw(st.sampled_from(["number", "text", "numbers", "texts"]))
    if kind == "text":
        return key(name, STRING, text(draw(st.binary(max_size=40))))
    if kind == "texts":
        texts = draw(st.lists(st.binary(max_size=9), max_size=9))
        return key(name, ARRAY, array(STRING, len(texts), b"".join(map(text, texts))))
    of = draw(KINDS)
    if kind == "number":
        return key(name, of, draw(st.binary(min_size=SIZES[of], max_size=SIZES[of])))
    count = draw(st.integers(0, 9))
    return key(name, ARRAY, array(of, count, bytes(count * SIZES[of])))


@settings(max_examples=200, deadline=None)
@given(st.lists(keys_that_nobody_asks_for(), max_size=8), st.integers(0, 8), st.integers(0, 2**32 - 1))
def test_what_is_wanted_is_found_among_whatever_else_there_is(others: list[bytes], at: int, n_ctx: int) -> None:
    wanted = [LLAMA, key("llama.context_length", 4, struct.pack("<I", n_ctx))]
    tensors = [tensor("a", (32, 3)), tensor("b", (32,), offset=384)]
    found = header(file_of([*others[:at], *wanted, *others[at:]], tensors, data=512))
    assert (found.architecture, found.n_ctx_train, found.n_params) == ("llama", n_ctx, 128)


@settings(max_examples=200, deadline=None)
@given(KINDS, st.binary(min_size=8, max_size=8), st.sampled_from(["context_length", "pooling_type", "decision.type"]))
def test_a_wanted_key_of_another_type_is_no_harm(kind: int, value: bytes, name: str) -> None:
    found = header(file_of([LLAMA, key(f"llama.{name}", kind, value[: SIZES[kind]])]))
    assert found.n_ctx_train is None or isinstance(found.n_ctx_train, int)
    assert found.output_modalities == ("text",)


@settings(max_examples=200, deadline=None)
@given(st.integers(0, len(SMALL)), st.integers(0, len(SMALL)), st.binary(max_size=24))
def test_a_piece_cut_out_or_put_in_never_does_harm(first: int, second: int, piece: bytes) -> None:
    start, end = sorted((first, second))
    _survives(SMALL[:start] + piece + SMALL[end:])
