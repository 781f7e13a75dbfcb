"""A model's footprint by a formula on its header: the last resort, where no engine can be asked.

Weights, keys and values are what the engine allocates, to the byte where it goes by the usual rules. Compute buffers
are fitted to what build b11434 reserves on a CPU for the shapes in the tests; they are small beside the rest.
"""

from __future__ import annotations

from collections.abc import Mapping

from llamarouter.core.asked import Asked
from llamarouter.core.cache_size import cache_by_layer, cells_of
from llamarouter.core.footprint import HOST, Footprint, Parts, Source, together
from llamarouter.core.layer_map import LayerMap, layer_map, used_of
from llamarouter.core.shape import Block, Shape

_FLOAT = 4
# Vectors of the model's width that live while a layer is computed.
_STREAMS = 5


def coarse_footprint(shape: Shape, asked: Asked, gpus: Mapping[str, int] | None = None) -> Footprint:
    """What the model needs, without projector, draft and adapters. `gpus`: free bytes of each, in their order."""
    where = layer_map(len(shape.blocks), asked, gpus or {})
    used = used_of(asked, gpus or {})
    needs = together(_weights(shape, asked, where, used), _cache(shape, asked, where), _compute(shape, asked, where))
    doubts = []
    if shape.unknown_types:
        doubts.append(f"tensors of an unknown type are not counted ({', '.join(shape.unknown_types)})")
    if asked.overrides:
        doubts.append("where --override-tensor puts tensors is not counted")
    return Footprint(needs=needs, source=Source.HEADER, prompt_cache_limit=asked.cache_ram, doubts=tuple(doubts))


def _weights(shape: Shape, asked: Asked, where: LayerMap, gpus: list[str]) -> dict[str, Parts]:
    """Weights by device, and how much of the host's are pages of the file."""
    held: dict[str, int] = {HOST: shape.input_weights}
    anew = 0
    for index, (block, device) in enumerate(zip(shape.blocks, where.layers, strict=True)):
        stays = 0 if device == HOST else _kept_on_host(block, index, asked)
        held[device] = held.get(device, 0) + block.total - stays
        held[HOST] += stays
        anew += block.repacked if device == HOST else 0
    held[where.output] = held.get(where.output, 0) + shape.output_weights
    if where.output != HOST and shape.tied:
        held[where.output] += shape.input_weights
    if where.output == HOST:
        anew += shape.repacked_output
    if gpus or not asked.repack:  # beside a GPU nothing is laid out anew
        anew = 0
    mapped = held[HOST] - anew if asked.mapped else 0
    return {name: Parts(weights=size, mapped=mapped if name == HOST else 0) for name, size in held.items()}


def _kept_on_host(block: Block, index: int, asked: Asked) -> int:
    experts = block.experts if index < asked.host_experts else 0
    return experts + (block.dense if index < asked.host_dense else 0)


def _cache(shape: Shape, asked: Asked, where: LayerMap) -> dict[str, Parts]:
    held = {HOST: output_buffer(shape, asked)}
    by_layer = cache_by_layer(shape, asked)
    for device, size in zip(where.layers, by_layer, strict=True):
        on = device if asked.kv_offload else HOST
        held[on] = held.get(on, 0) + size
    return {name: Parts(kv=size) for name, size in held.items()}


def output_buffer(shape: Shape, asked: Asked) -> int:
    """The logits that the host gets to see: a row for each slot."""
    return shape.n_vocab * max(1, asked.parallel) * _FLOAT


def _compute(shape: Shape, asked: Asked, where: LayerMap) -> dict[str, Parts]:
    names = (*where.devices, HOST)
    return {name: Parts(compute=compute_on(name, shape, asked, where)) for name in names}


def compute_on(device: str, shape: Shape, asked: Asked, where: LayerMap) -> int:
    """What one of the devices, or the host, reserves for its part."""
    if device in (*where.layers, where.output):
        return compute_bytes(shape, asked, asked.outputs if device == where.output else 0)
    return _inputs(shape, asked)


def compute_bytes(shape: Shape, asked: Asked, outputs: int) -> int:
    """What one device reserves to compute a batch, of which the logits of `outputs` tokens are wanted.

    The widest step counts: a layer's feed-forward part, its attention, or the head with its row for each token.
    """
    tokens = _tokens(shape, asked)
    steps = (
        shape.feed * tokens,
        shape.attend * tokens + _scores(shape, asked, tokens),
        shape.n_vocab * min(outputs, tokens),
    )
    return (_STREAMS * shape.n_embd * tokens + max(steps)) * _FLOAT + masks(shape, asked)


def _tokens(shape: Shape, asked: Asked) -> int:
    return min(asked.ubatch, asked.ctx_size or shape.n_ctx_train or asked.ubatch)


def _scores(shape: Shape, asked: Asked, tokens: int) -> int:
    """Without flash attention every head keeps how each token looks at each cell."""
    if asked.flash_attn:
        return 0
    cells = cells_of(shape, asked)
    return shape.n_head * tokens * cells.full


def masks(shape: Shape, asked: Asked) -> int:
    """Who sees whom: a row of cells for each token, for each kind of layer."""
    cells = cells_of(shape, asked)
    width = 2 if asked.flash_attn else 6  # halves; and without flash attention as floats, too
    kinds = {layer.windowed for layer in shape.layers if layer.keys}
    seen = sum(cells.windowed if windowed else cells.full for windowed in kinds)
    return seen * _tokens(shape, asked) * width if shape.causal else 0


def _inputs(shape: Shape, asked: Asked) -> int:
    """What the host hands to devices that compute all layers: the embeddings of a batch, and the masks."""
    return shape.n_embd * _tokens(shape, asked) * _FLOAT + masks(shape, asked)
