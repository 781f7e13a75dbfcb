"""The formula on the header, against what llama-server b11434 itself reckons for the same (a recorded table).

The figures are those of its rehearsal (`--fit on --verbosity 5`, on a CPU with AVX2): MiB of weights that stay pages of
the file, of the cache, of the compute buffer. `tests/e2e/test_estimates.py` asks a live engine the same.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from llamarouter.core.asked import MIB
from llamarouter.core.cache_size import cache_by_layer
from llamarouter.core.coarse import coarse_footprint, masks
from llamarouter.core.footprint import HOST, Parts, Source
from tests import further_shapes, real_shapes
from tests.launches import asked_in, shape_in
from tests.sparse_gguf import Hollow
from tests.tiny_gguf import write_embedding_model, write_llama, write_sharded_llama

# shape, flags, MiB: mapped weights, cache, compute
RECORDED = [
    (real_shapes.llama3_8b, "-c 8192", 693, 1024, 132),
    (real_shapes.llama3_8b, "-c 32768 -np 1", 693, 4096, 156),
    (real_shapes.llama3_8b, "-c 16384 -np 4", 693, 2048, 128),
    (real_shapes.llama3_8b, "-c 8192 -ctk q8_0 -ctv q8_0", 693, 544, 132),
    (real_shapes.llama3_8b, "-c 8192 -ub 2048", 693, 1024, 528),
    (real_shapes.llama3_8b, "-c 4096 -fa off -np 2 -kvu", 693, 512, 316),
    (real_shapes.llama3_70b, "-c 8192", 1390, 2560, 256),
    (real_shapes.qwen3_235b, "-c 8192", 60231, 1504, 184),
    (real_shapes.qwen3_235b, "-c 4096 -fa off -np 2 -kvu", 60231, 752, 594),
    (real_shapes.gemma3_27b, "-c 8192", 1107, 2512, 191),
    (real_shapes.gemma3_27b, "-c 32768 -np 1", 1107, 3184, 212),
    (real_shapes.gemma3_27b, "-c 16384 -np 4", 1107, 3776, 184),
    (real_shapes.gemma3_27b, "-c 16384 --swa-full -np 2", 1107, 7936, 194),
    (real_shapes.gemma3_27b, "-c 8192 -ub 2048 -ctk q8_0 -ctv q8_0", 1107, 1666, 770),
    (real_shapes.deepseek_v3, "-c 8192", 173188, 549, 414),
    (real_shapes.deepseek_v3, "-c 8192 -ctk q8_0 -ctv q8_0", 173188, 291, 414),
    (real_shapes.mamba_2b, "-c 8192", 2973, 95, 76),
    (real_shapes.mamba_2b, "-c 8192 -np 1", 2973, 23, 75),
    (real_shapes.lfm2_1b, "-c 8192", 105, 96, 76),
    (real_shapes.lfm2_1b, "-c 16384 -np 4", 105, 192, 72),
]
# To these the formula was not fitted.
FURTHER = [
    (further_shapes.gpt_oss_120b, "-c 8192", 2346, 324, 104),
    (further_shapes.gpt_oss_120b, "-c 16384 -np 4", 2346, 684, 100),
    (further_shapes.phi3_medium, "-c 8192", 4120, 1600, 163),
    (further_shapes.qwen3_next_80b, "-c 8192", 20768, 493, 98),
    (further_shapes.qwen3_next_80b, "-c 32768 -np 1", 20768, 843, 122),
    (further_shapes.granite_4_small, "-c 8192 -ctk q8_0 -ctv q8_0", 114, 329, 77),
]


@pytest.mark.parametrize(("shape", "flags", "mapped", "cache", "compute"), FURTHER)
def test_elsewhere_only_the_compute_buffer_is_a_guess(
    tmp_path: Path, shape: Callable[[Path], Path], flags: str, mapped: int, cache: int, compute: int
) -> None:
    model = shape_in(shape(tmp_path / "m.gguf"))
    asked = asked_in(f"-m m.gguf {flags}")
    host = coarse_footprint(model, asked).needs[HOST]
    assert host.weights == model.weights
    assert host.mapped / MIB == pytest.approx(mapped, rel=0.01)
    assert (host.kv - model.n_vocab * asked.parallel * 4) / MIB == pytest.approx(cache, rel=0.01, abs=1)
    assert host.compute / MIB == pytest.approx(compute, rel=0.25)


@pytest.mark.parametrize(("shape", "flags", "mapped", "cache", "compute"), RECORDED)
def test_the_formula_is_near_the_engine(
    tmp_path: Path, shape: Callable[[Path], Path], flags: str, mapped: int, cache: int, compute: int
) -> None:
    model = shape_in(shape(tmp_path / "m.gguf"))
    asked = asked_in(f"-m m.gguf {flags}")
    footprint = coarse_footprint(model, asked)
    assert footprint.source is Source.HEADER
    host = footprint.needs[HOST]
    assert host.weights == model.weights
    assert host.mapped / MIB == pytest.approx(mapped, rel=0.01)
    logits = model.n_vocab * asked.parallel * 4  # the engine's table leaves them out, its log does not
    assert (host.kv - logits) / MIB == pytest.approx(cache, rel=0.01, abs=1)
    assert host.compute / MIB == pytest.approx(compute, rel=0.05)


def test_the_weights_are_those_of_the_file(tmp_path: Path) -> None:
    path = write_llama(tmp_path / "a.gguf", quant="Q8_0")
    header = shape_in(path)
    # The rest of the file is its header and padding.
    assert 0 < path.stat().st_size - header.weights < 20_000
    shards = write_sharded_llama(tmp_path / "b.gguf")
    assert len(shards) > 1
    assert shape_in(*shards).weights == shape_in(write_llama(tmp_path / "c.gguf")).weights


def test_a_model_that_attends_both_ways_keeps_nothing(tmp_path: Path) -> None:
    host = coarse_footprint(shape_in(write_embedding_model(tmp_path / "e.gguf")), asked_in("-m e.gguf")).needs[HOST]
    assert host.kv < 20_000  # the output alone


@pytest.fixture
def eight(tmp_path: Path) -> Path:
    return real_shapes.llama3_8b(tmp_path / "8b.gguf")


def needs(path: Path, flags: str, **gpus: int) -> dict[str, Parts]:
    return dict(coarse_footprint(shape_in(path), asked_in(f"-m m {flags}"), gpus).needs)


def test_with_a_gpu_the_host_keeps_the_input(eight: Path) -> None:
    shape = shape_in(eight)
    found = needs(eight, "-c 8192", CUDA0=0)
    assert found[HOST].weights == found[HOST].mapped == shape.input_weights
    assert found["CUDA0"].weights == shape.weights - shape.input_weights
    assert found["CUDA0"].mapped == 0
    assert found["CUDA0"].kv == 1024 * MIB
    assert found["CUDA0"].compute > found[HOST].compute > 0


def test_some_layers_on_the_gpu(eight: Path) -> None:
    shape, found = shape_in(eight), needs(eight, "-c 8192 -ngl 11", CUDA0=0)
    on_gpu = sum(block.total for block in shape.blocks[-10:]) + shape.output_weights
    assert found["CUDA0"].weights == on_gpu
    assert found["CUDA0"].kv == 320 * MIB
    assert needs(eight, "-c 8192 -ngl 11 --no-kv-offload", CUDA0=0)["CUDA0"].kv == 0
    assert found[HOST].mapped == found[HOST].weights  # beside a GPU nothing is laid out anew
    idle = needs(eight, "-ngl 0", CUDA0=0)
    assert idle.keys() == {HOST}
    assert idle[HOST].mapped == shape.weights


def test_tied_embeddings_lie_on_the_gpu_again(tmp_path: Path) -> None:
    path = real_shapes.gemma3_27b(tmp_path / "g.gguf")
    shape, found = shape_in(path), needs(path, "-c 8192", CUDA0=0)
    assert shape.tied
    assert found["CUDA0"].weights == shape.weights


def test_experts_and_feed_forward_parts_may_stay_on_the_host(tmp_path: Path, eight: Path) -> None:
    path = real_shapes.qwen3_235b(tmp_path / "q.gguf")
    shape = shape_in(path)
    every = sum(block.experts for block in shape.blocks)
    found = needs(path, "-c 8192 --cpu-moe", CUDA0=0)
    assert found[HOST].weights == shape.input_weights + every
    assert every > 0.9 * shape.weights
    some = needs(path, "-c 8192 --n-cpu-moe 3", CUDA0=0)
    assert some[HOST].weights == shape.input_weights + sum(block.experts for block in shape.blocks[:3])
    dense = needs(eight, "-c 8192 --n-cpu-ffn 2", CUDA0=0)
    assert dense[HOST].weights - shape_in(eight).input_weights == 2 * shape_in(eight).blocks[0].dense > 0


def test_weights_that_are_laid_out_anew_or_read_are_no_pages_of_the_file(eight: Path) -> None:
    assert 0 < needs(eight, "-c 8192")[HOST].mapped < 0.2 * needs(eight, "-c 8192")[HOST].weights
    assert needs(eight, "-c 8192 --no-repack")[HOST].mapped == shape_in(eight).weights
    assert needs(eight, "-c 8192 --load-mode none")[HOST].mapped == 0


def test_without_flash_attention_values_are_as_wide_as_the_widest_and_masks_are_floats_too(tmp_path: Path) -> None:
    path = two_layers(tmp_path / "v.gguf")
    shape = shape_in(path)
    assert [layer.values for layer in shape.layers] == [32, 64]
    plain, transposed = (asked_in(f"-m m -c 256 -np 1 -fa {fa}") for fa in ("on", "off"))
    assert cache_by_layer(shape, plain) == [256 * 2 * (32 + 32), 256 * 2 * (64 + 64)]
    assert cache_by_layer(shape, transposed) == [256 * 2 * (32 + 64), 256 * 2 * (64 + 64)]
    assert masks(shape, plain) == 256 * 256 * 2
    assert masks(shape, transposed) == 256 * 256 * 6


def two_layers(path: Path) -> Path:
    """The second one has twice the heads."""
    file = Hollow(path, "llama")
    file.keys({"context_length": 64, "embedding_length": 32, "block_count": 2, "vocab_size": 10})
    file.keys({"attention.head_count": [2, 4], "attention.head_count_kv": [2, 4]})
    file.keys({"attention.key_length": 16, "attention.value_length": 16})
    file.tensor("token_embd.weight", 32, 10, kind="F16")
    for layer in range(2):
        file.tensor(f"blk.{layer}.attn_k.weight", 32, 32, kind="F16")
    return file.finish()


def test_what_is_not_counted_is_said(tmp_path: Path, eight: Path) -> None:
    (doubt,) = coarse_footprint(shape_in(eight), asked_in("-m m -ot exps=CPU")).doubts
    assert "--override-tensor" in doubt
    path = write_llama(tmp_path / "a.gguf")
    content = path.read_bytes()
    at = content.index(b"output.weight") + len("output.weight") + 4 + 16
    path.write_bytes(content[:at] + (99).to_bytes(4, "little") + content[at + 4 :])
    (doubt,) = coarse_footprint(shape_in(path), asked_in("-m m")).doubts
    assert "type 99" in doubt
