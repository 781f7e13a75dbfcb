"""What `llama-fit-params --fit-print on` prints, and what that means for a llama-server.

    CUDA0 4100 1024 298        device, weights, context, compute: whole MiB, rounded down
    Host 281 0 24              the machine's memory, always last

It reckons with the engine's own code, and still not with a server's habits (build b11434, `common/fit.cpp`):
- it has no word for one cache for all slots: it is told of one slot then, and what more slots add is reckoned here;
- it takes it that the logits of every token of a batch are wanted: a server wants one row for each slot;
- weights that a CPU build lays out anew (`CPU_REPACK`) are on no device that it knows: what is missing is there.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from msgspec import Struct
from msgspec.structs import replace

from llamarouter.core.asked import MIB, Asked
from llamarouter.core.cache_size import cache_by_layer
from llamarouter.core.coarse import compute_on, output_buffer
from llamarouter.core.footprint import HOST, Footprint, Parts, Source
from llamarouter.core.layer_map import LayerMap, layer_map
from llamarouter.core.shape import Shape

_LINE = re.compile(r"(\S+) (\d+) (\d+) (\d+) ?")
# Less than this part of the weights is no sign of weights laid out anew.
_SIGN = 0.01


class FitUnreadable(Exception):
    """What was printed is no estimate. One line."""


class Printed(Struct, frozen=True):
    """One line: bytes on a device."""

    weights: int
    context: int
    compute: int


def parse_fit(text: str) -> dict[str, Printed]:
    """The lines by device, in their order, the host last. Raises FitUnreadable."""
    found: dict[str, Printed] = {}
    for line in text.splitlines():
        if (match := _LINE.fullmatch(line)) is not None:
            name, *numbers = match.groups()
            found[name] = Printed(*(_bytes(int(number)) for number in numbers))
    if next(reversed(found), None) != HOST:
        raise FitUnreadable("it printed no line for the host")
    return found


def _bytes(mebibytes: int) -> int:
    """In the middle of what was rounded down; nothing stays nothing."""
    return mebibytes * MIB + MIB // 2 if mebibytes else 0


def told_slots(asked: Asked) -> int:
    """The slots that it is told of."""
    return 1 if asked.unified else asked.parallel


def engine_footprint(printed: Mapping[str, Printed], shape: Shape, asked: Asked) -> Footprint:
    """The footprint of a llama-server that was asked the same."""
    told = replace(asked, parallel=told_slots(asked), outputs=asked.batch)
    where = _layers_of(printed, shape, asked)
    more_cache = sum(cache_by_layer(shape, asked)) - sum(cache_by_layer(shape, told))
    all_cache = sum(line.context for line in printed.values())
    needs = {}
    for name, line in printed.items():
        share = line.context / all_cache if all_cache else float(name == HOST)
        compute = line.compute + compute_on(name, shape, asked, where) - compute_on(name, shape, told, where)
        needs[name] = Parts(
            weights=line.weights,
            kv=line.context + round(more_cache * share),
            compute=max(0, compute) if line.compute else 0,
        )
    host = needs[HOST]
    needs[HOST] = replace(
        host,
        weights=host.weights + _laid_out_anew(printed, shape, where),
        kv=host.kv + output_buffer(shape, asked),
        mapped=host.weights if asked.mapped else 0,
    )
    return Footprint(needs=needs, source=Source.ENGINE, prompt_cache_limit=asked.cache_ram)


def _layers_of(printed: Mapping[str, Printed], shape: Shape, asked: Asked) -> LayerMap:
    """By the usual rule, without devices that were left empty."""
    used = {name: line.weights for name, line in printed.items() if name != HOST and line.weights}
    return layer_map(len(shape.blocks), replace(asked, device=None, split_mode="layer"), used)


def _laid_out_anew(printed: Mapping[str, Printed], shape: Shape, where: LayerMap) -> int:
    again = shape.input_weights if shape.tied and where.output != HOST else 0
    missing = shape.weights + again - sum(line.weights for line in printed.values())
    return missing if missing > _SIGN * shape.weights else 0
