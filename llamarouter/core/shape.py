"""The shape of a model: what of its header its memory depends on.

    the headers of all its files -> Shape: layers (weights, keys and values, states), heads, experts, vocabulary

Read off the keys, and off the tensors' names where the keys leave it open (which layers of a hybrid attend). Nothing
but sizes: what a launch makes of them is `coarse`'s.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from msgspec import Struct, field

from llamarouter.core.gguf import Contents, read_contents
from llamarouter.core.window import windows_of

# Without the architecture that stands before each.
SHAPE_KEYS = frozenset(
    {
        "feed_forward_length",
        "expert_feed_forward_length",
        "expert_used_count",
        "expert_shared_count",
        "attention.head_count",
        "attention.head_count_kv",
        "attention.key_length",
        "attention.value_length",
        "attention.key_length_swa",
        "attention.value_length_swa",
        "attention.key_length_mla",
        "attention.value_length_mla",
        "attention.sliding_window",
        "attention.sliding_window_pattern",
        "attention.shared_kv_layers",
        "attention.causal",
        "nextn_predict_layers",
        "ssm.conv_kernel",
        "ssm.inner_size",
        "ssm.state_size",
        "ssm.group_count",
        "kda.head_dim",
        "wkv.head_size",
        "token_shift_count",
        "shortconv.l_cache",
        "vision.image_size",
        "vision.patch_size",
        "vision.embedding_length",
        "vision.feed_forward_length",
        "audio.embedding_length",
        "audio.feed_forward_length",
    }
)
_STATE_MARKS = ("ssm_", "shortconv.", "time_mix_")
_KEY_MARKS = ("attn_k.", "attn_kv_a")
# What a CPU build lays out anew, so that it no longer is a page of the file (`ggml-cpu/repack.cpp`, x86 with AVX2).
_REPACKED = frozenset({"Q4_0", "Q4_K", "IQ4_NL", "MXFP4"})
_GEMMA3N_OWN_KV = 20  # `src/models/gemma3n.cpp`


class Block(Struct):
    """The tensors of one layer, in bytes, and the roles that their names tell."""

    total: int = 0
    experts: int = 0
    dense: int = 0  # the feed-forward part that is not of experts
    repacked: int = 0
    has_state: bool = False
    has_keys: bool = False
    has_fused: bool = False


class Layer(Struct, frozen=True, kw_only=True):
    """One layer as its cache sees it."""

    keys: int  # elements of a token's keys; 0 where it does not attend, or looks at those of another layer
    values: int
    windowed: bool  # it sees the last `Shape.window` tokens
    state: int  # bytes of the state that a recurrent layer keeps for each sequence


class Shape(Struct, frozen=True, kw_only=True):
    """What of a model's header its memory depends on. Bytes, where nothing else is said."""

    architecture: str
    blocks: tuple[Block, ...]
    layers: tuple[Layer, ...]
    input_weights: int  # the token embeddings
    output_weights: int  # all that stands in no layer and is not the input
    repacked_output: int
    tied: bool  # the token embeddings serve as the output, too
    n_ctx_train: int
    n_embd: int
    n_vocab: int
    window: int  # tokens; 0: none
    feed: int  # elements that one token takes on its way through the widest layer
    attend: int  # elements that one token takes while it attends, without the scores
    n_head: int
    causal: bool
    unknown_types: tuple[str, ...] = field(default=())

    @property
    def weights(self) -> int:
        return self.input_weights + self.output_weights + sum(block.total for block in self.blocks)


class Tensors:
    """Gathers the tensors of a model's files; `take` is for `read_contents`."""

    def __init__(self) -> None:
        self.blocks: dict[int, Block] = {}
        self.input = 0
        self.output = 0
        self.repacked_output = 0
        self.tied = True
        self.unknown: dict[str, None] = {}

    def take(self, name: str, n_bytes: int, kind: str) -> None:
        """One tensor."""
        if kind.startswith("type "):
            self.unknown[kind] = None
        repacked = n_bytes if kind in _REPACKED and name.endswith(".weight") else 0
        words = name.split(".", 2)
        if words[0] == "blk" and len(words) == 3 and words[1].isdigit():
            block = self.blocks.setdefault(int(words[1]), Block())
            _into(block, words[2], n_bytes, repacked)
        elif name.startswith(("token_embd.", "per_layer_token_embd.")):
            self.input += n_bytes  # the rows of some tokens are read from it, from where it lies
        else:
            self.tied = self.tied and not name.startswith("output.")
            self.output += n_bytes
            self.repacked_output += repacked


def _into(block: Block, role: str, n_bytes: int, repacked: int) -> None:
    block.total += n_bytes
    block.repacked += repacked
    if "_exps" in role:
        block.experts += n_bytes
    elif role.startswith(("ffn_up", "ffn_gate.", "ffn_down")):
        block.dense += n_bytes
    block.has_state = block.has_state or role.startswith(_STATE_MARKS)
    block.has_keys = block.has_keys or role.startswith(_KEY_MARKS)
    block.has_fused = block.has_fused or role.startswith("attn_qkv")


def read_shape(files: Sequence[tuple[Callable[[int, int], bytes], int]]) -> Shape:
    """The shape of the model in these files, each a `read(offset, n)` and its size. Raises GgufError."""
    tensors = Tensors()
    first: Contents | None = None
    for read, size in files:
        contents = read_contents(read, size, also=SHAPE_KEYS, on_tensor=tensors.take)
        first = first or contents
    assert first is not None
    return shape_of(Keys(first), first.n_tokens or 0, tensors)


class Keys:
    """The keys of one architecture, by their names without it."""

    def __init__(self, contents: Contents) -> None:
        self.architecture = str(contents.values.get("general.architecture", ""))
        self._values = contents.values
        self._arrays = contents.arrays

    def number(self, key: str, default: int = 0) -> int:
        """A number, the largest where the key has one for each layer."""
        each = self.each(key)
        return max(each) if each else default

    def each(self, key: str) -> tuple[int, ...]:
        """The numbers of a key: one, or one for each layer; none where it is missing."""
        full = f"{self.architecture}.{key}"
        value = self._values.get(full)
        numbers = self._arrays.get(full, () if value is None else (value,))
        return tuple(int(number) for number in numbers if isinstance(number, int | float))

    def of_layer(self, key: str, layer: int, default: int) -> int:
        """The number of a key in one layer."""
        each = self.each(key)
        return default if not each else each[0] if len(each) == 1 else each[layer] if layer < len(each) else each[-1]


def shape_of(keys: Keys, n_tokens: int, tensors: Tensors) -> Shape:
    """What the keys and the tensors mean."""
    n_layer = max(keys.number("block_count"), 0) - keys.number("nextn_predict_layers")
    blocks = tuple(tensors.blocks.get(index, Block()) for index in range(min(n_layer, 1024)))
    window, windowed = windows_of(keys.architecture, len(blocks), keys.each)
    return Shape(
        architecture=keys.architecture,
        blocks=blocks,
        layers=tuple(_layer(keys, index, block, windowed[index]) for index, block in enumerate(blocks)),
        input_weights=tensors.input,
        output_weights=tensors.output,
        repacked_output=tensors.repacked_output,
        tied=tensors.tied,
        n_ctx_train=keys.number("context_length"),
        n_embd=keys.number("embedding_length"),
        n_vocab=n_tokens or keys.number("vocab_size"),
        window=window,
        feed=_feed(keys),
        attend=_attend(keys),
        n_head=keys.number("attention.head_count"),
        causal=bool(keys.number("attention.causal", 1)) and "bert" not in keys.architecture,
        unknown_types=tuple(tensors.unknown),
    )


def _layer(keys: Keys, index: int, block: Block, windowed: bool) -> Layer:
    n_head = keys.of_layer("attention.head_count", index, 0)
    heads = keys.of_layer("attention.head_count_kv", index, n_head)
    attends = heads > 0 and (block.has_keys or (block.has_fused and not block.has_state)) and _has_own(keys, index)
    width = keys.number("embedding_length") // n_head if n_head else 0
    suffix = "_swa" if windowed else ""
    key = keys.number(f"attention.key_length{suffix}", keys.number("attention.key_length", width))
    value = keys.number(f"attention.value_length{suffix}", keys.number("attention.value_length", width))
    return Layer(
        keys=key * heads if attends else 0,
        values=value * heads if attends and not _is_latent(keys) else 0,
        windowed=windowed,
        state=_state_bytes(keys) if block.has_state else 0,
    )


def _has_own(keys: Keys, index: int) -> bool:
    """Whether a layer keeps keys and values of its own."""
    shared = keys.number("attention.shared_kv_layers")
    own = _GEMMA3N_OWN_KV if keys.architecture == "gemma3n" else keys.number("block_count") - shared
    return index < own


def _is_latent(keys: Keys) -> bool:
    """Multi-head latent attention: the values are a part of the keys."""
    return keys.number("attention.key_length_mla") > 0 and keys.number("attention.value_length_mla") > 0


def _state_bytes(keys: Keys) -> int:
    """`llama_hparams::n_embd_r` and `n_embd_s`: floats of the state of one sequence in one layer."""
    n_embd, n_head = keys.number("embedding_length"), keys.number("attention.head_count")
    conv = max(0, keys.number("ssm.conv_kernel") - 1)
    if head := keys.number("wkv.head_size"):
        elements = keys.number("token_shift_count", 2) * n_embd + n_embd * head
    elif short := keys.number("shortconv.l_cache"):
        elements = n_embd * (short - 1)
    elif head := keys.number("kda.head_dim"):
        elements = 3 * (conv or 3) * n_head * head + head * head * n_head
    else:
        inner, state = keys.number("ssm.inner_size"), keys.number("ssm.state_size")
        elements = conv * (inner + 2 * keys.number("ssm.group_count") * state) + state * inner
    return 4 * elements


def _feed(keys: Keys) -> int:
    """The widest of: gate, up and their product; those of the experts of one token with their results; an inner state.

    Fitted to what the engine reserves for each of the shapes in the tests.
    """
    dense = 3 * keys.number("feed_forward_length")
    used = keys.number("expert_used_count")
    width = keys.number("expert_feed_forward_length", keys.number("feed_forward_length"))
    experts = used * (keys.number("embedding_length") + 3 * width)
    return max(experts if used else dense, 5 * keys.number("ssm.inner_size"))


def _attend(keys: Keys) -> int:
    """The queries and results of all heads; of latent attention also those in between."""
    n_head, n_embd = keys.number("attention.head_count"), keys.number("embedding_length")
    width = n_embd // n_head if n_head else 0
    key, value = keys.number("attention.key_length", width), keys.number("attention.value_length", width)
    if not _is_latent(keys):
        return n_head * key
    rope = max(0, key - value)
    return n_head * (key + value + keys.number("attention.key_length_mla") + rope)
