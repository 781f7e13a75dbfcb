"""What a model would need in another place than the one that its footprint is of, by proportion.

    weights and KV cache   go with their layers        the last layers are the first to go to a GPU (llama.cpp)
    compute buffers        on every GPU that takes part, and on the host as soon as a layer stays there
    projector, draft       on the first GPU

Good for choosing among layouts; where the engine can be asked for the chosen one, its own figure is the better one.
Layers count as equal, which those of most models are. The output is the last of them: with a large vocabulary it weighs
as much as several, and where its size is not known it counts as one.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Mapping
from itertools import accumulate

from llamarouter.core.footprint import Footprint, Parts, together
from llamarouter.core.memory import HOST
from llamarouter.core.placement import Layout, NeedsOf

PartsOf = Callable[[Layout], Mapping[str, Parts] | None]


def scaled(footprint: Footprint, layers: int | None) -> NeedsOf:
    """Needs by layout. `footprint`: with all layers on GPUs, or without any; `layers`: that can be offloaded."""
    parts_of = scaled_parts(footprint, layers)

    def needs_of(layout: Layout) -> Mapping[str, int] | None:
        needs = parts_of(layout)
        return None if needs is None else {device: parts.total for device, parts in needs.items() if parts.total}

    return needs_of


def scaled_parts(footprint: Footprint, layers: int | None) -> PartsOf:
    """The same part by part."""
    gpus = [parts for device, parts in footprint.needs.items() if device != HOST]
    host = footprint.needs.get(HOST, Parts())
    movable = together(*({HOST: parts} for parts in gpus))[HOST] if gpus else host
    staying = host if gpus else Parts()
    units = max(1, layers or 1)
    output = footprint.output if units > 1 and (footprint.output or 0) <= movable.weights else None

    def share_of(count: int, *, ends: bool) -> tuple[int, int]:
        """Weights and cache of so many layers. `ends`: the output is one of them, which has no cache."""
        if output is None:
            return movable.weights * count // units, movable.kv * count // units
        within = count - ends
        weights = (movable.weights - output) * within // (units - 1)
        return weights + output * ends, movable.kv * within // (units - 1)

    def parts_of(layout: Layout) -> Mapping[str, Parts] | None:
        if layout.layers is not None and layers is None:
            return None  # how many there are is not known
        counts = _layers_of(layout, units)
        last = next((device for device in reversed(counts) if counts[device]), None)
        needs: dict[str, Parts] = {}
        for device, count in counts.items():
            weights, kv = share_of(count, ends=device == last)
            needs[device] = Parts(
                weights=weights,
                kv=kv,
                compute=movable.compute,
                projector=0 if needs else movable.projector,
                other=0 if needs else movable.other,
            )
        left = units - sum(counts.values())
        weights, kv = share_of(left, ends=last is None)
        here = Parts(
            weights=weights,
            kv=kv,
            compute=movable.compute if left else 0,
            projector=0 if counts else movable.projector,
            other=0 if counts else movable.other,
            # What is on no GPU is pages of the file, if what stays on the host anyway is.
            mapped=(weights if staying.mapped else 0) if gpus else movable.mapped * left // units,
        )
        needs[HOST] = staying + here
        return {device: parts for device, parts in needs.items() if parts.total}

    return parts_of


def _layers_of(layout: Layout, units: int) -> dict[str, int]:
    """How many layers each GPU of a layout takes, as llama.cpp deals them out (`llama_model_base::load_tensors`)."""
    if not layout.devices:
        return {}
    offloaded = units if layout.layers is None else min(layout.layers, units)
    shares = layout.split or (1,) * len(layout.devices)
    edges = [edge / sum(shares) for edge in accumulate(shares)]
    counts = dict.fromkeys(layout.devices, 0)
    for layer in range(offloaded):
        at = min(bisect_right(edges, layer / offloaded), len(edges) - 1)
        counts[layout.devices[at]] += 1
    return counts
