"""What the keys, values and states of a model take, to the byte: `llama-kv-cache*.cpp`, `llama-memory-recurrent.cpp`.

cells: the context, padded; for windowed layers the window of each slot and a batch; in each of the streams
bytes: cells x (elements of keys x their type + elements of values x their type), and a state for each slot
"""

from __future__ import annotations

from collections.abc import Mapping

from msgspec import Struct

from llamarouter.core.asked import Asked
from llamarouter.core.gguf_types import TENSOR_TYPES
from llamarouter.core.shape import Layer, Shape

_PAD = 256
# Elements and bytes of a block, by the names that `--cache-type-k` takes.
_TYPES: Mapping[str, tuple[int, int]] = {name.lower(): (block, size) for name, block, size in TENSOR_TYPES.values()}


class Cells(Struct, frozen=True, kw_only=True):
    """Tokens that there is room for, in each of the streams."""

    full: int
    windowed: int
    streams: int


def cells_of(shape: Shape, asked: Asked) -> Cells:
    """The cells of a launch."""
    context = padded(asked.ctx_size or shape.n_ctx_train)
    streams = 1 if asked.unified else max(1, asked.parallel)
    full = context if streams == 1 else padded(context // streams)
    slots = asked.parallel if asked.unified else 1
    windowed = full if asked.swa_full else padded(min(full, shape.window * slots + min(context, asked.ubatch)))
    return Cells(full=full, windowed=windowed, streams=streams)


def cache_by_layer(shape: Shape, asked: Asked) -> list[int]:
    """Bytes of keys, values and states, layer by layer."""
    if not shape.causal:
        return [0] * len(shape.layers)
    cells = cells_of(shape, asked)
    # Without flash attention the values lie transposed, and every layer's as wide as the widest.
    widest = max((layer.values for layer in shape.layers), default=0)
    return [_bytes_of(layer, cells, asked, widest) + layer.state * max(1, asked.parallel) for layer in shape.layers]


def _bytes_of(layer: Layer, cells: Cells, asked: Asked, widest: int) -> int:
    values = widest if layer.values and not asked.flash_attn else layer.values
    row = row_bytes(layer.keys, asked.type_k) + row_bytes(values, asked.type_v)
    return row * (cells.windowed if layer.windowed else cells.full) * cells.streams


def row_bytes(elements: int, type_name: str) -> int:
    """Bytes of so many elements; of a type that nobody knows as those of f16."""
    block, size = _TYPES.get(type_name.lower(), (1, 2))
    return -(-elements // block) * size


def padded(tokens: int) -> int:
    return -(-tokens // _PAD) * _PAD
