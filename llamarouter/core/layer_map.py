"""Which device holds which layer: `llama_model_base::load_tensors` of build b11434, for who has no engine to ask.

------ on the host ------|---- on the devices, in their order, by what is free or by --tensor-split ----
input   layer 0   layer 1   ...                                                  last layer      output
"""

from __future__ import annotations

from collections.abc import Mapping
from itertools import accumulate

from msgspec import Struct

from llamarouter.core.asked import Asked
from llamarouter.core.footprint import HOST


class LayerMap(Struct, frozen=True):
    """Where each layer lies, and the output; the input is always on the host."""

    layers: tuple[str, ...]
    output: str

    @property
    def devices(self) -> tuple[str, ...]:
        """All but the host that hold something."""
        return tuple(dict.fromkeys(name for name in (*self.layers, self.output) if name != HOST))


def layer_map(n_layer: int, asked: Asked, gpus: Mapping[str, int]) -> LayerMap:
    """Where a launch puts its layers. `gpus`: free bytes of each, in the engine's order; 0 where nobody knows."""
    used = used_of(asked, gpus)
    offloaded = min(asked.gpu_layers, n_layer + 1)
    if not used or offloaded <= 0:
        return LayerMap((HOST,) * n_layer, HOST)
    first = max(0, n_layer + 1 - offloaded)
    ends = _ends(asked, [gpus.get(name, 0) for name in used])

    def of(index: int) -> str:
        if index < first:
            return HOST
        at = (index - first) / offloaded
        return next((name for name, end in zip(used, ends, strict=True) if at < end), used[-1])

    return LayerMap(tuple(of(index) for index in range(n_layer)), of(n_layer))


def used_of(asked: Asked, gpus: Mapping[str, int]) -> list[str]:
    """Those of the GPUs that a launch uses, in its order."""
    used = list(gpus)
    if asked.device is not None:
        names = [name.strip() for name in asked.device.split(",")]
        used = [name for name in names if name and name != "none"]
    if asked.split_mode == "none" and used:
        used = [used[asked.main_gpu if 0 <= asked.main_gpu < len(used) else 0]]
    return used


def _ends(asked: Asked, free: list[int]) -> list[float]:
    """Where the share of each GPU ends, of 1."""
    said = [*asked.tensor_split, *(0.0 for _ in free)][: len(free)]
    shares = said if sum(said) > 0 else [float(each) for each in free] if all(free) else [1.0 for _ in free]
    return [end / sum(shares) for end in accumulate(shares)]
