"""GGUF files for tests: models of about a megabyte with random weights, that a real llama-server loads and runs.

They speak nonsense, but they load, generate, stream, embed and fail like any other model. The same arguments always
give the same bytes. Bigger `n_embd` and `n_layer` make loads and answers slower.
"""

from __future__ import annotations

from pathlib import Path

import gguf
import numpy as np

_CHAT_TEMPLATE = (
    "{% for message in messages %}{{ '<|' + message['role'] + '|>' + message['content'] + '</s>' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|assistant|>' }}{% endif %}"
)
_WORDS = (
    "the",
    "of",
    "and",
    "to",
    "in",
    "is",
    "it",
    "that",
    "was",
    "for",
    "on",
    "are",
    "with",
    "as",
    "his",
    "they",
    "be",
    "at",
    "one",
    "have",
    "this",
    "from",
    "or",
    "had",
)


def _spm_tokens() -> tuple[list[bytes], list[float], list[int]]:
    """A sentencepiece vocabulary: specials, every byte, printable characters and a few words."""
    kinds = gguf.TokenType
    tokens: list[tuple[bytes, float, int]] = [
        (b"<unk>", 0.0, kinds.UNKNOWN),
        (b"<s>", 0.0, kinds.CONTROL),
        (b"</s>", 0.0, kinds.CONTROL),
    ]
    tokens += [(b"<0x%02X>" % byte, 0.0, kinds.BYTE) for byte in range(256)]
    pieces = ["\u2581", *(chr(code) for code in range(33, 127)), *(f"\u2581{word}" for word in _WORDS)]
    tokens += [(piece.encode(), -float(rank), kinds.NORMAL) for rank, piece in enumerate(pieces)]
    return [t[0] for t in tokens], [t[1] for t in tokens], [int(t[2]) for t in tokens]


FIRST_MORE = len(_spm_tokens()[0])


def add_spm_vocabulary(writer: gguf.GGUFWriter, more: tuple[str, ...] = (), *, at_least: int = 0) -> int:
    """How many tokens it has: with `more`, and words of no meaning up to `at_least`."""
    tokens, scores, kinds = _spm_tokens()
    tokens += [token.encode() for token in more]
    scores += [0.0] * len(more)
    kinds += [int(gguf.TokenType.USER_DEFINED)] * len(more)
    fill = range(len(tokens), at_least)
    tokens += [b"word%d" % number for number in fill]
    scores += [-float(number) for number in fill]
    kinds += [int(gguf.TokenType.NORMAL)] * len(fill)
    writer.add_tokenizer_model("llama")
    writer.add_token_list(tokens)
    writer.add_token_scores(scores)
    writer.add_token_types(kinds)
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(2)
    writer.add_unk_token_id(0)
    writer.add_add_bos_token(True)
    writer.add_add_eos_token(False)
    writer.add_chat_template(_CHAT_TEMPLATE)
    return len(tokens)


class _Weights:
    """Adds random tensors to a writer, quantised or not."""

    def __init__(self, writer: gguf.GGUFWriter, seed: int, quant: str) -> None:
        self.writer = writer
        self.random = np.random.default_rng(seed)
        self.kind = gguf.GGMLQuantizationType[quant]

    def matrix(self, name: str, *shape: int) -> None:
        """`shape` as numpy has it: rows (outputs) first, the inputs last."""
        data = self.random.standard_normal(shape, dtype=np.float32) * np.float32(0.1)
        if self.kind == gguf.GGMLQuantizationType.F32:
            self.writer.add_tensor(name, data)
        else:
            self.writer.add_tensor(name, gguf.quants.quantize(data, self.kind), raw_dtype=self.kind)

    def vector(self, name: str, length: int, value: float = 1.0) -> None:
        self.writer.add_tensor(name, np.full(length, value, dtype=np.float32))


def _finish(writer: gguf.GGUFWriter) -> None:
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def write_llama(
    path: Path,
    *,
    seed: int = 0,
    n_ctx: int = 512,
    n_embd: int = 64,
    n_layer: int = 2,
    quant: str = "F32",
    name: str | None = None,
    tokens: tuple[str, ...] = (),
) -> Path:
    """Write a llama with random weights; `quant` is F32, F16, BF16, Q8_0, Q4_0 ... (`n_embd` divisible by 32).

    It has 4 heads and nearly always answers up to `max_tokens`. At the defaults it is about 600 KB. `tokens` come
    behind the vocabulary, each a token of its own, with ids from `FIRST_MORE` on.
    """
    writer = gguf.GGUFWriter(path, "llama")
    _add_llama(writer, seed=seed, n_ctx=n_ctx, n_embd=n_embd, n_layer=n_layer, quant=quant, name=name, tokens=tokens)
    _finish(writer)
    return path


def write_sharded_llama(path: Path, *, tensors_a_shard: int = 12, seed: int = 0, name: str | None = None) -> list[Path]:
    """Write the llama of `write_llama` in shards of so many tensors: `stem-00001-of-00002.gguf` and so on."""
    writer = gguf.GGUFWriter(path, "llama", split_max_tensors=tensors_a_shard)
    _add_llama(writer, seed=seed, n_ctx=512, n_embd=64, n_layer=2, quant="F32", name=name)
    _finish(writer)
    return sorted(path.parent.glob(f"{path.stem}-*-of-*.gguf"))


def write_mmproj(path: Path, *, vision: bool = True, audio: bool = False) -> Path:
    """Write what looks like a projector to a reader of headers; no engine can run it."""
    writer = gguf.GGUFWriter(path, "clip")
    writer.add_type(gguf.GGUFType.MMPROJ)
    writer.add_bool("clip.has_vision_encoder", vision)
    writer.add_bool("clip.has_audio_encoder", audio)
    writer.add_file_type(gguf.LlamaFileType.MOSTLY_F16)
    _Weights(writer, 0, "F16").matrix("mm.0.weight", 32, 32)
    _finish(writer)
    return path


def _add_llama(
    writer: gguf.GGUFWriter,
    *,
    seed: int,
    n_ctx: int,
    n_embd: int,
    n_layer: int,
    quant: str,
    name: str | None,
    tokens: tuple[str, ...] = (),
) -> None:
    n_ff = n_embd * 3
    writer.add_name(name or f"tiny-{seed}")
    writer.add_context_length(n_ctx)
    writer.add_embedding_length(n_embd)
    writer.add_block_count(n_layer)
    writer.add_feed_forward_length(n_ff)
    writer.add_head_count(4)
    writer.add_head_count_kv(4)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_rope_dimension_count(n_embd // 4)
    writer.add_file_type(gguf.LlamaFileType["ALL_F32" if quant == "F32" else f"MOSTLY_{quant}"])
    n_vocab = add_spm_vocabulary(writer, tokens)
    writer.add_vocab_size(n_vocab)
    weights = _Weights(writer, seed, quant)
    weights.matrix("token_embd.weight", n_vocab, n_embd)
    weights.vector("output_norm.weight", n_embd)
    weights.matrix("output.weight", n_vocab, n_embd)
    for layer in range(n_layer):
        block = f"blk.{layer}"
        weights.vector(f"{block}.attn_norm.weight", n_embd)
        weights.vector(f"{block}.ffn_norm.weight", n_embd)
        for part in ("attn_q", "attn_k", "attn_v", "attn_output"):
            weights.matrix(f"{block}.{part}.weight", n_embd, n_embd)
        weights.matrix(f"{block}.ffn_gate.weight", n_ff, n_embd)
        weights.matrix(f"{block}.ffn_up.weight", n_ff, n_embd)
        weights.matrix(f"{block}.ffn_down.weight", n_embd, n_ff)


def write_embedding_model(path: Path, *, seed: int = 0, n_ctx: int = 512, name: str | None = None) -> Path:
    """Write a BERT with mean pooling and random weights: `/v1/embeddings` works with it and generation does not."""
    n_embd, n_ff, n_layer = 64, 128, 2
    writer = gguf.GGUFWriter(path, "bert")
    writer.add_name(name or f"tiny-bert-{seed}")
    writer.add_context_length(n_ctx)
    writer.add_embedding_length(n_embd)
    writer.add_block_count(n_layer)
    writer.add_feed_forward_length(n_ff)
    writer.add_head_count(4)
    writer.add_layer_norm_eps(1e-12)
    writer.add_causal_attention(False)
    writer.add_pooling_type(gguf.PoolingType.MEAN)
    writer.add_file_type(gguf.LlamaFileType.ALL_F32)
    tokens = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    letters = [chr(code) for code in range(33, 127)]
    tokens += [f"\u2581{piece}" for piece in [*letters, *_WORDS]] + letters
    writer.add_tokenizer_model("bert")
    writer.add_token_list(tokens)
    writer.add_token_types([3] * 5 + [1] * (len(tokens) - 5))
    writer.add_token_type_count(2)
    writer.add_bos_token_id(2)
    writer.add_sep_token_id(3)
    writer.add_eos_token_id(3)
    writer.add_unk_token_id(1)
    writer.add_pad_token_id(0)
    writer.add_mask_token_id(4)
    weights = _Weights(writer, seed, "F32")
    weights.matrix("token_embd.weight", len(tokens), n_embd)
    weights.matrix("token_types.weight", 2, n_embd)
    weights.matrix("position_embd.weight", n_ctx, n_embd)
    _norm(weights, "token_embd_norm", n_embd)
    for layer in range(n_layer):
        block = f"blk.{layer}"
        for part in ("attn_q", "attn_k", "attn_v", "attn_output"):
            weights.matrix(f"{block}.{part}.weight", n_embd, n_embd)
            weights.vector(f"{block}.{part}.bias", n_embd, 0.0)
        weights.matrix(f"{block}.ffn_up.weight", n_ff, n_embd)
        weights.vector(f"{block}.ffn_up.bias", n_ff, 0.0)
        weights.matrix(f"{block}.ffn_down.weight", n_embd, n_ff)
        weights.vector(f"{block}.ffn_down.bias", n_embd, 0.0)
        _norm(weights, f"{block}.attn_output_norm", n_embd)
        _norm(weights, f"{block}.layer_output_norm", n_embd)
    _finish(writer)
    return path


def _norm(weights: _Weights, name: str, length: int) -> None:
    weights.vector(f"{name}.weight", length)
    weights.vector(f"{name}.bias", length, 0.0)
