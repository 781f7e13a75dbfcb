"""What a llama-server says of its buffers while it loads. Lines of build b11434, of a CPU and as a GPU has them."""

from __future__ import annotations

import pytest

from llamarouter.core.asked import MIB
from llamarouter.core.buffer_lines import device_of, footprint_of_log
from llamarouter.core.footprint import HOST, Parts, Source

REHEARSAL = """\
0.00.069.912 I load_tensors:          CPU model buffer size =     0.00 MiB
0.00.070.709 I llama_context:        CPU  output buffer size =     0.75 MiB
0.00.070.812 I llama_kv_cache:        CPU KV buffer size =     0.00 MiB
0.00.073.880 I sched_reserve:        CPU compute buffer size =    22.64 MiB
"""
SMOL = """\
0.00.147.723 I load_tensors:   CPU_Mapped model buffer size =    92.10 MiB
0.00.148.815 I llama_context:        CPU  output buffer size =     0.75 MiB
0.00.148.961 I llama_kv_cache:        CPU KV buffer size =   180.00 MiB
0.00.152.892 I llama_kv_cache: size =  180.00 MiB (  8192 cells,  30 layers,  4/1 seqs), K (f16):   90.00 MiB
0.00.236.291 I sched_reserve:        CPU compute buffer size =    22.64 MiB
"""
ON_A_GPU = """\
load_tensors:   CPU_Mapped model buffer size =   281.00 MiB
load_tensors:        CUDA0 model buffer size =  4155.00 MiB
llama_context:  CUDA_Host  output buffer size =     1.96 MiB
llama_kv_cache:      CUDA0 KV buffer size =   640.00 MiB
llama_kv_cache:      CUDA0 KV buffer size =  1872.00 MiB
llama_memory_recurrent:      CUDA0 RS buffer size =    10.00 MiB
sched_reserve:      CUDA0 compute buffer size =   300.00 MiB
sched_reserve:  CUDA_Host compute buffer size =    24.00 MiB
sched_reserve:      CUDA0 compute buffer size =   132.00 MiB
sched_reserve:  CUDA_Host compute buffer size =    16.00 MiB
"""


def mib(number: float) -> int:
    return round(number * MIB)


def test_a_load_on_the_cpu() -> None:
    footprint = footprint_of_log(SMOL.splitlines(), file_bytes=mib(93), prompt_cache_limit=7)
    assert footprint is not None
    weights = mib(92.1)
    assert footprint.needs == {
        HOST: Parts(weights=weights, mapped=weights, kv=mib(180) + mib(0.75), compute=mib(22.64))
    }
    assert (footprint.source, footprint.prompt_cache_limit) == (Source.LOG, 7)


def test_the_rehearsal_of_fit_is_no_load() -> None:
    with_it = footprint_of_log((REHEARSAL + SMOL).splitlines(), file_bytes=mib(93))
    assert with_it == footprint_of_log(SMOL.splitlines(), file_bytes=mib(93))
    assert footprint_of_log(REHEARSAL.splitlines(), file_bytes=mib(93)) is None


def test_a_load_on_a_gpu_counts_every_cache_and_the_last_reservation() -> None:
    footprint = footprint_of_log(ON_A_GPU.splitlines(), file_bytes=mib(4440))
    assert footprint is not None
    assert footprint.needs == {
        HOST: Parts(weights=mib(281), mapped=mib(281), kv=mib(1.96), compute=mib(16)),
        "CUDA0": Parts(weights=mib(4155), kv=mib(640 + 1872 + 10), compute=mib(132)),
    }


def test_what_is_laid_out_anew_is_not_counted_twice() -> None:
    """The mapped buffer reaches over the whole file, the other one holds most of it again."""
    lines = [
        "load_tensors:   CPU_Mapped model buffer size =   634.25 MiB",
        "load_tensors:   CPU_REPACK model buffer size =   555.75 MiB",
        "llama_kv_cache:        CPU KV buffer size =    96.00 MiB",
    ]
    footprint = footprint_of_log(lines, file_bytes=mib(661))
    assert footprint is not None
    assert footprint.needs[HOST] == Parts(weights=mib(661), mapped=mib(661) - mib(555.75), kv=mib(96))


def test_a_second_context_of_the_same_model_adds_up() -> None:
    more = "llama_kv_cache: CUDA0 KV buffer size = 20.00 MiB\nsched_reserve: CUDA0 compute buffer size = 30.00 MiB"
    footprint = footprint_of_log((ON_A_GPU + more).splitlines(), file_bytes=mib(4440))
    assert footprint is not None
    assert footprint.needs["CUDA0"].kv == mib(2542)
    assert footprint.needs["CUDA0"].compute == mib(162)


def test_a_draft_is_something_else_in_the_process() -> None:
    footprint = footprint_of_log((ON_A_GPU + SMOL).splitlines(), file_bytes=mib(4440))
    assert footprint is not None
    draft = mib(92.1) + mib(180) + mib(0.75) + mib(22.64)
    assert footprint.needs[HOST].other == draft
    assert footprint.needs["CUDA0"].other == 0


def test_a_projector_is_counted_once_though_it_was_rehearsed() -> None:
    clip = (
        "clip_ctx: CLIP using CUDA0 backend\n"
        "load_hparams: model size:         807.70 MiB\n"
        "reserve_compute_meta:      CUDA0 compute buffer size =   121.18 MiB\n"
        "reserve_compute_meta:        CPU compute buffer size =     9.19 MiB\n"
    )
    footprint = footprint_of_log((clip + ON_A_GPU + clip).splitlines(), file_bytes=mib(4440))
    assert footprint is not None
    assert footprint.needs["CUDA0"].projector == mib(807.7) + mib(121.18)
    assert footprint.needs[HOST].projector == mib(9.19)
    on_cpu = footprint_of_log((SMOL + clip.replace("CUDA0", "CPU")).splitlines(), file_bytes=mib(93))
    assert on_cpu is not None
    assert on_cpu.needs[HOST].projector == mib(807.7) + mib(121.18) + mib(9.19)


@pytest.mark.parametrize(
    "text",
    ["", "listening on ...", "sched_reserve: CPU compute buffer size = 3.00 MiB", SMOL.splitlines()[0]],
)
def test_a_log_that_does_not_say_it(text: str) -> None:
    assert footprint_of_log(text.splitlines(), file_bytes=1) is None


@pytest.mark.parametrize(
    ("buffer", "device"),
    [
        ("CPU", HOST),
        ("CPU_Mapped", HOST),
        ("AMX", HOST),
        ("CUDA_Host", HOST),
        ("CUDA0", "CUDA0"),
        ("CUDA_Split", "CUDA0"),
        ("MTL0_Mapped", "MTL0"),
        ("MTL0_Private", "MTL0"),
        ("Vulkan1", "Vulkan1"),
    ],
)
def test_where_a_buffer_lies(buffer: str, device: str) -> None:
    assert device_of(buffer) == device
