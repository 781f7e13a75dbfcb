"""What `llama-fit-params` prints, and what a llama-server does differently."""

from __future__ import annotations

from pathlib import Path

import pytest

from llamarouter.core.asked import MIB
from llamarouter.core.fit_output import FitUnreadable, Printed, engine_footprint, parse_fit, told_slots
from llamarouter.core.footprint import HOST, Source
from tests import real_shapes
from tests.launches import asked_in, shape_in

HALF = MIB // 2


def test_the_lines_by_device() -> None:
    found = parse_fit("some noise\nCUDA0 4100 1024 298 \nCUDA1 0 0 0 \nHost 281 0 24 \n")
    assert list(found) == ["CUDA0", "CUDA1", HOST]
    assert found["CUDA0"] == Printed(4100 * MIB + HALF, 1024 * MIB + HALF, 298 * MIB + HALF)
    assert found["CUDA1"] == Printed(0, 0, 0)
    assert found[HOST].context == 0


@pytest.mark.parametrize("text", ["", "-c 8192 -ngl 99\n", "CUDA0 1 2 3 \n", "Host 1 2 3 \nCUDA0 1 2 3\n"])
def test_anything_else_is_no_estimate(text: str) -> None:
    with pytest.raises(FitUnreadable, match="no line for the host"):
        parse_fit(text)


def test_it_is_told_of_one_slot_where_all_share_a_cache() -> None:
    assert told_slots(asked_in("-m m")) == 1
    assert told_slots(asked_in("-m m -np 3")) == 3
    assert told_slots(asked_in("-m m -np 3 -kvu")) == 1


@pytest.fixture
def eight(tmp_path: Path) -> Path:
    return real_shapes.llama3_8b(tmp_path / "8b.gguf")


# What it printed for these shapes, and what the server reckoned in its rehearsal (MiB: cache, compute).
@pytest.mark.parametrize(
    ("shape", "flags", "printed", "cache", "compute"),
    [
        (real_shapes.llama3_8b, "-c 8192", "Host 693 1024 298 \n", 1024, 132),
        (real_shapes.llama3_70b, "-c 8192", "Host 1390 2560 338 \n", 2560, 256),
        (real_shapes.qwen3_235b, "-c 8192", "Host 60231 1504 344 \n", 1504, 184),
        (real_shapes.gemma3_27b, "-c 8192", "Host 1107 1264 574 \n", 2512, 191),
        (real_shapes.deepseek_v3, "-c 8192", "Host 173188 549 414 \n", 549, 414),
        (real_shapes.mamba_2b, "-c 8192", "Host 2973 23 123 \n", 95, 76),
        (real_shapes.lfm2_1b, "-c 8192", "Host 105 96 156 \n", 96, 76),
    ],
)
def test_a_server_of_four_slots_on_a_cpu(
    tmp_path: Path, shape: object, flags: str, printed: str, cache: int, compute: int
) -> None:
    assert callable(shape)
    model = shape_in(shape(tmp_path / "m.gguf"))
    asked = asked_in(f"-m m {flags}")
    footprint = engine_footprint(parse_fit(printed), model, asked)
    assert footprint.source is Source.ENGINE
    assert footprint.prompt_cache_limit == 8192 * MIB
    host = footprint.needs[HOST]
    assert host.weights == pytest.approx(model.weights, rel=0.001)  # what is laid out anew is not lost
    assert host.mapped == parse_fit(printed)[HOST].weights
    logits = model.n_vocab * 4 * 4
    assert (host.kv - logits) / MIB == pytest.approx(cache, abs=1.5)
    assert host.compute / MIB == pytest.approx(compute, abs=2)


def test_on_a_gpu_the_head_is_corrected_where_it_lies(eight: Path) -> None:
    model = shape_in(eight)
    printed = parse_fit("CUDA0 4155 1024 298 \nHost 281 0 16 \n")
    asked = asked_in("-m m -c 8192")
    needs = engine_footprint(printed, model, asked).needs
    assert needs["CUDA0"].weights == printed["CUDA0"].weights
    assert needs["CUDA0"].kv == printed["CUDA0"].context
    assert needs["CUDA0"].compute / MIB == pytest.approx(132, abs=1)
    assert needs[HOST].compute == printed[HOST].compute
    assert needs[HOST].weights == printed[HOST].weights == needs[HOST].mapped
    assert needs[HOST].kv == model.n_vocab * 4 * 4
    # All logits are wanted for embeddings: nothing to correct.
    pooled = engine_footprint(printed, model, asked_in("-m m -c 8192 --embeddings")).needs
    assert pooled["CUDA0"].compute == printed["CUDA0"].compute


def test_of_two_gpus_the_last_has_the_head_and_an_empty_one_stays_empty(eight: Path) -> None:
    model = shape_in(eight)
    printed = parse_fit("CUDA0 2000 512 132 \nCUDA1 2155 512 298 \nCUDA2 0 0 0 \nHost 281 0 16 \n")
    needs = engine_footprint(printed, model, asked_in("-m m -c 8192")).needs
    assert needs["CUDA0"].compute == printed["CUDA0"].compute
    assert needs["CUDA1"].compute < printed["CUDA1"].compute
    assert needs["CUDA2"].total == 0


def test_layers_of_the_host_that_are_laid_out_anew_are_seen_behind_an_input_that_is_there_twice(tmp_path: Path) -> None:
    model = shape_in(real_shapes.gemma3_27b(tmp_path / "g.gguf"))
    layers = sum(block.total for block in model.blocks)
    on_gpu = (model.weights - layers // 2) // MIB
    printed = parse_fit(f"CUDA0 {on_gpu} 948 132 \nHost {model.input_weights // MIB} 316 30 \n")
    host = engine_footprint(printed, model, asked_in("-m m -c 8192")).needs[HOST]
    assert host.weights - host.mapped == pytest.approx(layers // 2, abs=2 * MIB)


def test_more_slots_of_a_windowed_model_are_shared_out_as_the_cache_is(tmp_path: Path) -> None:
    model = shape_in(real_shapes.gemma3_27b(tmp_path / "g.gguf"))
    printed = parse_fit("CUDA0 7000 948 132 \nCUDA1 7000 316 574 \nHost 1107 0 30 \n")
    needs = engine_footprint(printed, model, asked_in("-m m -c 8192")).needs
    assert (needs["CUDA0"].kv + needs["CUDA1"].kv) / MIB == pytest.approx(2512, abs=2)
    assert needs["CUDA0"].kv == pytest.approx(3 * needs["CUDA1"].kv, rel=0.01)


def test_a_model_without_a_cache(tmp_path: Path, eight: Path) -> None:
    needs = engine_footprint(parse_fit("Host 693 0 0 \n"), shape_in(eight), asked_in("-m m --load-mode none")).needs
    assert needs[HOST].compute == 0
    assert needs[HOST].mapped == 0
