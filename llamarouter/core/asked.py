"""What a launch asks of memory, in numbers: the values of its flags, and the engine's own where it says nothing.

The defaults are those of llama-server (build b11434, `common/common.h`, `tools/server/server.cpp`).
"""

from __future__ import annotations

from msgspec import Struct

from llamarouter.core.flags import boolean_of
from llamarouter.core.memory_flags import Said

_AUTO_SLOTS = 4
_CACHE_RAM_MIB = 8192
_AHEAD = 3  # tokens that a draft runs ahead
_MAPPING = frozenset({"auto", "mmap"})
MIB = 1 << 20
ALL_LAYERS = 1 << 20


class Draft(Struct, frozen=True, kw_only=True):
    """A smaller model that runs ahead in the same process."""

    model: str
    gpu_layers: int
    type_k: str
    type_v: str
    device: str | None


class Asked(Struct, frozen=True, kw_only=True):
    """What a launch asks for. Tokens, layers, bytes."""

    model: str
    ctx_size: int  # 0: what the model was trained for
    parallel: int
    unified: bool  # one cache for all slots
    batch: int
    ubatch: int
    type_k: str
    type_v: str
    flash_attn: bool
    swa_full: bool
    gpu_layers: int
    device: str | None
    split_mode: str
    main_gpu: int
    tensor_split: tuple[float, ...]
    kv_offload: bool
    mapped: bool  # weights on the host stay pages of their file
    repack: bool
    host_experts: int  # of so many layers the experts stay on the host
    host_dense: int  # the same of the dense feed-forward parts
    overrides: bool  # some tensors are put elsewhere by their names
    outputs: int  # tokens of a batch whose logits are wanted
    cache_ram: int | None  # for prompts that are kept; None: without a limit
    mmproj: str | None
    mmproj_offload: bool
    loras: tuple[str, ...]
    draft: Draft | None
    predicts: bool  # by a second context of its own, several tokens at once


def asked_of(said: Said) -> Asked:
    """The numbers of what was said; a value that is none counts as not said (the engine will complain of it)."""
    parallel, unified = _slots(said)
    per_slot = said.number("--kv-unified-per-slot") or 0
    ctx_size = said.number("--ctx-size") or (parallel * per_slot if said.text("--ctx-size") is None else 0)
    batch = said.number("--batch-size") or 2048
    ubatch = min(said.number("--ubatch-size") or 512, batch)
    return Asked(
        model=said.text("--model") or "",
        ctx_size=max(0, ctx_size),
        parallel=parallel,
        unified=unified,
        batch=batch,
        ubatch=ubatch,
        type_k=said.text("--cache-type-k") or "f16",
        type_v=said.text("--cache-type-v") or "f16",
        flash_attn=boolean_of(said.text("--flash-attn") or "on") is not False,
        swa_full=said.truth("--swa-full", False),
        gpu_layers=_gpu_layers(said.text("--n-gpu-layers")),
        device=said.text("--device"),
        split_mode=said.text("--split-mode") or "layer",
        main_gpu=said.number("--main-gpu") or 0,
        tensor_split=_split(said.text("--tensor-split")),
        kv_offload=said.truth("--kv-offload", True),
        mapped=_is_mapped(said),
        repack=said.truth("--repack", True),
        host_experts=ALL_LAYERS if said.truth("--cpu-moe", False) else said.number("--n-cpu-moe") or 0,
        host_dense=said.number("--n-cpu-ffn") or 0,
        overrides=said.text("--override-tensor") is not None,
        outputs=_outputs(said, parallel, batch),
        cache_ram=_cache_ram(said),
        mmproj=said.text("--mmproj"),
        mmproj_offload=said.truth("--mmproj-offload", True),
        loras=_loras(said),
        draft=_draft(said),
        predicts="draft-mtp" in (said.text("--spec-type") or ""),
    )


def _slots(said: Said) -> tuple[int, bool]:
    unified = said.truth("--kv-unified", False)
    parallel = said.number("--parallel")
    if parallel is not None and parallel > 0:
        return parallel, unified
    match = said.table.find("--parallel")
    # Builds before the automatic choice have one slot.
    auto = match is not None and "auto" in match.option.help
    return (_AUTO_SLOTS, True) if auto else (1, unified)


def _gpu_layers(text: str | None) -> int:
    try:
        number = int(text or "auto")
    except ValueError:
        return ALL_LAYERS  # auto, all
    return number if number >= 0 else ALL_LAYERS


def _split(text: str | None) -> tuple[float, ...]:
    try:
        return tuple(float(word) for word in (text or "").replace("/", ",").split(",") if word.strip())
    except ValueError:
        return ()


def _is_mapped(said: Said) -> bool:
    mode = said.text("--load-mode")
    if mode is not None:
        return mode in _MAPPING
    return said.truth("--mmap", True) and not said.truth("--mlock", False) and not said.truth("--direct-io", False)


def _outputs(said: Said, parallel: int, batch: int) -> int:
    """`server_output_limits`: every token where embeddings are made, else one for each slot, and those of its draft."""
    pooled = said.text("--pooling") not in (None, "none")
    if pooled or said.truth("--embeddings", False) or said.truth("--reranking", False):
        return batch
    drafts = said.text("--spec-draft-model") is not None or said.text("--spec-type") not in (None, "none")
    ahead = said.number("--spec-draft-n-max") if drafts else 0
    return min(batch, parallel * (1 + (_AHEAD if ahead is None else ahead)))


def _cache_ram(said: Said) -> int | None:
    number = said.number("--cache-ram")
    if number is None:
        known = said.table.find("--cache-ram") is not None
        return _CACHE_RAM_MIB * MIB if known else 0
    return number * MIB if number >= 0 else None


def _loras(said: Said) -> tuple[str, ...]:
    plain = (said.text("--lora") or "").split(",")
    scaled = [word.rpartition(":")[0] or word for word in (said.text("--lora-scaled") or "").split(",")]
    return tuple(path for path in (*plain, *scaled) if path)


def _draft(said: Said) -> Draft | None:
    model = said.text("--spec-draft-model")
    if model is None:
        return None
    return Draft(
        model=model,
        gpu_layers=_gpu_layers(said.text("--spec-draft-ngl")),
        type_k=said.text("--spec-draft-type-k") or "f16",
        type_v=said.text("--spec-draft-type-v") or "f16",
        device=said.text("--spec-draft-device"),
    )
