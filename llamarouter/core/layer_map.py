"""Which device holds which layer: `llama_model_base::load_tensors` of build b11434, for who has no engine to ask.

------ on the host ------|---- on the devices, in their order, by what is free or by --tensor-split ----
input   layer 0   layer 1   ...                                                  last layer      output
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from llamarouter.core.asked import Asked
from llamarouter.core.footprint import HOST


@dataclass(frozen=True, slots=True)
class Device:
    """A device that an engine can compute on, as it names it. `free`: bytes; 0 where nobody knows."""

    name: str
    free: int = 0


@dataclass(frozen=True, slots=True)
class LayerMap:
    """Where each layer lies, and the output; the input is always on the host."""

    layers: tuple[str, ...]
    output: str

    @property
    def devices(self) -> tuple[str, ...]:
        """All but the host that hold something."""
        return tuple(dict.fromkeys(name for name in (*self.layers, self.output) if name != HOST))


def layer_map(n_layer: int, asked: Asked, devices: Sequence[Device]) -> LayerMap:
    """Where a launch puts its layers."""
    used = devices_of(asked, devices)
    offloaded = min(asked.gpu_layers, n_layer + 1)
    if not used or offloaded <= 0:
        return LayerMap((HOST,) * n_layer, HOST)
    first = max(0, n_layer + 1 - offloaded)
    ends = _ends(asked, used)

    def of(index: int) -> str:
        if index < first:
            return HOST
        at = (index - first) / offloaded
        return next((used[i].name for i, end in enumerate(ends) if at < end), used[-1].name)

    return LayerMap(tuple(of(index) for index in range(n_layer)), of(n_layer))


def devices_of(asked: Asked, devices: Sequence[Device]) -> list[Device]:
    """Those of `devices` that a launch uses, in its order."""
    if asked.device is not None:
        names = [name.strip() for name in asked.device.split(",")]
        by_name = {device.name: device for device in devices}
        used = [by_name.get(name, Device(name)) for name in names if name and name != "none"]
    else:
        used = list(devices)
    if asked.split_mode == "none" and used:
        used = [used[asked.main_gpu if 0 <= asked.main_gpu < len(used) else 0]]
    return used


def _ends(asked: Asked, used: Sequence[Device]) -> list[float]:
    """Where the share of each device ends, of 1."""
    said = [*asked.tensor_split, *(0.0 for _ in used)][: len(used)]
    free = [float(device.free) for device in used]
    shares = said if sum(said) > 0 else free if all(free) else [1.0 for _ in used]
    total, ends = 0.0, []
    for share in shares:
        total += share
        ends.append(total)
    return [end / total for end in ends]
