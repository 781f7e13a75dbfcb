"""What a llama-server says of its buffers while it loads, as a footprint.

    load_tensors:   CPU_Mapped model buffer size =    92.10 MiB       llama_kv_cache: CUDA0 KV buffer size = 180.00 MiB
    llama_context:  CUDA_Host  output buffer size =     0.75 MiB      llama_memory_recurrent: CUDA0 RS buffer size = ...
    sched_reserve:      CUDA0 compute buffer size =    22.64 MiB      reserve_compute_meta: CUDA0 compute buffer ...
    clip_ctx: CLIP using CUDA0 backend                                load_hparams: model size:         807.70 MiB

Build b11434 says it from `--verbosity 4` on. A load begins with its model's buffers; one whose model takes nothing is
the rehearsal of `--fit`. The first real one is the model, later ones are drafts. The projector comes last; what it
said before was a rehearsal, too.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping

from msgspec import Struct, field

from llamarouter.core.asked import MIB
from llamarouter.core.footprint import HOST, Footprint, Parts, Source, together

_BUFFER = re.compile(r"(\w+): +(\S+) +(model|KV|RS|output|compute) buffer size *= *([0-9.]+) MiB")
_CLIP_DEVICE = re.compile(r"CLIP using (\S+) backend")
_CLIP_SIZE = re.compile(r"load_hparams: model size: +([0-9.]+) MiB")
# Who reserves the compute buffers of a model; others speak for the projector.
_OF_MODEL = frozenset({"sched_reserve", "llama_context", "llama_init_from_model", "llama_new_context_with_model"})


class _Load(Struct):
    """The buffers of one model: bytes by buffer."""

    weights: dict[str, int] = field(default_factory=dict)
    cache: dict[str, int] = field(default_factory=dict)
    compute: dict[str, int] = field(default_factory=dict)  # of contexts before this one
    reserving: dict[str, int] = field(default_factory=dict)  # of this one; it may reserve twice, the last one holds

    def next_context(self) -> None:
        """A model may have a second context, which predicts several tokens at once."""
        for buffer, size in self.reserving.items():
            self.compute[buffer] = self.compute.get(buffer, 0) + size
        self.reserving = {}


class _Reader:
    def __init__(self) -> None:
        self.loads: list[_Load] = []
        self.projector: dict[str, int] = {}
        self.clip = HOST

    def take(self, line: str) -> None:
        if (match := _BUFFER.search(line)) is not None:
            speaker, buffer, kind, size = match.groups()
            self._buffer(speaker, buffer, kind, round(float(size) * MIB))
        elif (match := _CLIP_DEVICE.search(line)) is not None:
            self.clip = device_of(match[1])
        elif (match := _CLIP_SIZE.search(line)) is not None:
            self.projector[self.clip] = self.projector.get(self.clip, 0) + round(float(match[1]) * MIB)

    def _buffer(self, speaker: str, buffer: str, kind: str, size: int) -> None:
        if kind == "compute" and speaker not in _OF_MODEL:
            device = device_of(buffer)
            self.projector[device] = self.projector.get(device, 0) + size
            return
        if kind == "model" and (not self.loads or self.loads[-1].cache or self.loads[-1].reserving):
            self.loads.append(_Load())
            self.projector = {}
        if not self.loads:
            return
        load = self.loads[-1]
        if kind == "compute":
            load.reserving[buffer] = size
            return
        if load.reserving:
            load.next_context()
        held = load.weights if kind == "model" else load.cache
        held[buffer] = held.get(buffer, 0) + size


def footprint_of_log(lines: Iterable[str], *, file_bytes: int, prompt_cache_limit: int = 0) -> Footprint | None:
    """The footprint of the load that these lines tell of, from the spawn to `ready`; None where they do not say.

    `file_bytes`: of the model's files. A mapped buffer reaches from its first tensor to its last, over those that lie
    elsewhere: what is elsewhere is taken off.
    """
    reader = _Reader()
    for line in lines:
        reader.take(line)
    real = [load for load in reader.loads if sum(load.weights.values())]
    if not real or not (real[0].cache or real[0].compute or real[0].reserving):
        return None
    for load in real:
        load.next_context()
    drafts = [_as_other(_parts_of(load, sum(load.weights.values()))) for load in real[1:]]
    projector = {device: Parts(projector=size) for device, size in reader.projector.items()}
    needs = together(_parts_of(real[0], file_bytes), projector, *drafts)
    return Footprint(needs=needs, source=Source.LOG, prompt_cache_limit=prompt_cache_limit)


def device_of(buffer: str) -> str:
    """The device on which a buffer of this name lies."""
    if buffer.startswith(("CPU", "AMX", "BLAS")) or buffer.endswith("_Host"):
        return HOST
    name = re.sub(r"_(?:Mapped|Private|Shared)\Z", "", buffer)
    # Rows over all devices of a kind; the first stands for them.
    return re.sub(r"_Split\Z", "0", name)


def _parts_of(load: _Load, file_bytes: int) -> dict[str, Parts]:
    elsewhere = sum(size for buffer, size in load.weights.items() if not _is_mapped(buffer))
    mapped = min(sum(size for buffer, size in load.weights.items() if _is_mapped(buffer)), file_bytes - elsewhere)
    needs = {HOST: Parts(weights=max(0, mapped), mapped=max(0, mapped))}
    for buffer, size in load.weights.items():
        if not _is_mapped(buffer):
            needs = together(needs, {device_of(buffer): Parts(weights=size)})
    for buffer, size in load.cache.items():
        needs = together(needs, {device_of(buffer): Parts(kv=size)})
    for buffer, size in load.compute.items():
        needs = together(needs, {device_of(buffer): Parts(compute=size)})
    return needs


def _is_mapped(buffer: str) -> bool:
    return buffer == "CPU_Mapped"


def _as_other(needs: Mapping[str, Parts]) -> dict[str, Parts]:
    return {device: parts.as_other() for device, parts in needs.items()}
