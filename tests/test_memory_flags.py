"""Which flags matter to memory, what they mean in numbers, and what of them another program is told."""

from __future__ import annotations

import pytest

from llamarouter.core.asked import ALL_LAYERS, MIB, Draft
from llamarouter.core.flags import OptionTable
from llamarouter.core.memory_flags import FOR_FIT, MEMORY_FLAGS, arguments_for, memory_key
from tests.engine_table import TABLE
from tests.launches import asked_in, said_in

# What an older llama-server has: other names, and one slot by default.
OLD = OptionTable.parse(
    "-m,    --model FNAME                    model path\n"
    "-c,    --ctx-size N                     size of the prompt context\n"
    "-np,   --parallel N                     number of parallel sequences to decode (default: 1)\n"
    "--mlock                                 force system to keep model in RAM\n"
    "--no-mmap                               do not memory-map model\n"
    "-nkvo, --no-kv-offload                  disable KV offload\n"
)


def test_the_engine_knows_them_all() -> None:
    """A name that no build has would be a typing error."""
    older = {"--direct-io", "--mlock", "--mmap"}
    assert {name for name in MEMORY_FLAGS if TABLE.find(name) is None} == older


@pytest.mark.parametrize(
    ("flags", "same"),
    [
        ("-c 4096 --temp 0.5 --threads 3 --alias x --metrics", True),
        ("--ctx-size 4096", True),
        ("-c 4097", False),
        ("-c 4096 -ngl 3", False),
        ("-c 4096 -ctk q8_0", False),
        ("-c 4096 --no-kv-offload", False),
        ("-c 4096 --kv-offload", False),
        ("-c 4096 --mmproj p.gguf", False),
        ("-c 4096 -cram 0", False),
    ],
)
def test_two_launches_need_the_same_where_the_flags_that_matter_agree(flags: str, same: bool) -> None:
    wanted = memory_key(said_in("-m a.gguf -c 4096"))
    assert (memory_key(said_in(f"-m a.gguf {flags}")) == wanted) is same


def test_yes_and_no_are_two_keys() -> None:
    assert memory_key(said_in("-m a --kv-offload")) != memory_key(said_in("-m a --no-kv-offload"))


def test_another_program_is_told_what_it_knows() -> None:
    said = said_in("-m a.gguf -c 4096 -nkvo -fa off -np 3 --mmproj p.gguf -ot exps=CPU --temp 1 -cram 5")
    assert arguments_for(said, TABLE) == [
        *("--ctx-size", "4096", "--flash-attn", "off", "--no-kv-offload", "--model", "a.gguf"),
        *("--override-tensor", "exps=CPU"),
    ]
    assert arguments_for(said, TABLE, without=("--model", "--override-tensor"))[-1] == "--no-kv-offload"
    # One that has another arity for it, or no word for "off", is not told.
    odd = OptionTable.parse(
        "--ctx-size                              a switch\n--kv-offload                            a switch\n"
    )
    assert arguments_for(said, odd) == []
    assert "--parallel" not in FOR_FIT


def test_a_flag_that_the_engine_does_not_have_is_not_said() -> None:
    said = said_in("-m a.gguf -c 4096 -ngl 7")
    assert said.number("--n-gpu-layers") == 7
    assert said.number("--cache-ram") is None
    assert said.number("--model") is None  # no number
    assert type(said)((value.flag for _, value in said), OLD).text("--n-gpu-layers") is None


def test_the_engines_own_defaults() -> None:
    asked = asked_in("-m a.gguf")
    assert (asked.ctx_size, asked.parallel, asked.unified) == (0, 4, True)
    assert (asked.batch, asked.ubatch, asked.outputs) == (2048, 512, 4)
    assert (asked.type_k, asked.type_v, asked.flash_attn, asked.swa_full) == ("f16", "f16", True, False)
    assert (asked.gpu_layers, asked.split_mode, asked.tensor_split) == (ALL_LAYERS, "layer", ())
    assert asked.mapped
    assert asked.cache_ram == 8192 * MIB
    assert asked.draft is None
    old = asked_in("-m a.gguf", OLD)
    assert (old.parallel, old.unified, old.cache_ram) == (1, False, 0)
    assert not asked_in("-m a.gguf --mlock", OLD).mapped


@pytest.mark.parametrize(
    ("flags", "parallel", "unified", "ctx_size"),
    [
        ("-np 2", 2, False, 0),
        ("-np 2 -kvu", 2, True, 0),
        ("-np -1 -c 512", 4, True, 512),
        ("-np 3 --kv-unified-per-slot 1000", 3, False, 3000),
        ("-np 3 --kv-unified-per-slot 1000 -c 0", 3, False, 0),
        ("-c nonsense", 4, True, 0),
    ],
)
def test_slots_and_context(flags: str, parallel: int, unified: bool, ctx_size: int) -> None:
    asked = asked_in(f"-m a.gguf {flags}")
    assert (asked.parallel, asked.unified, asked.ctx_size) == (parallel, unified, ctx_size)


@pytest.mark.parametrize(
    ("flags", "outputs"),
    [
        ("-np 2", 2),
        ("-np 2 --embeddings", 2048),
        ("-np 2 --rerank -b 100", 100),
        ("-np 2 --pooling mean", 2048),
        ("-np 2 --pooling none", 2),
        ("-np 2 -md d.gguf", 8),
        ("-np 2 --spec-type draft-mtp --spec-draft-n-max 5", 12),
        ("-np 2 --spec-type none --spec-draft-n-max 5", 2),
    ],
)
def test_how_many_logits_are_wanted_at_once(flags: str, outputs: int) -> None:
    assert asked_in(f"-m a.gguf {flags}").outputs == outputs


@pytest.mark.parametrize(
    ("flags", "mapped"),
    [("--load-mode auto", True), ("--load-mode mmap", True), ("-lm mmap+mlock", False), ("-lm dio", False)],
)
def test_which_load_modes_leave_weights_in_their_file(flags: str, mapped: bool) -> None:
    assert asked_in(f"-m a.gguf {flags}").mapped is mapped


def test_layers_shares_and_caches() -> None:
    assert asked_in("-m a -ngl all").gpu_layers == ALL_LAYERS
    assert asked_in("-m a -ngl 5").gpu_layers == 5
    assert asked_in("-m a -ts 3,1").tensor_split == (3.0, 1.0)
    assert asked_in("-m a -ts 3/1").tensor_split == (3.0, 1.0)
    assert asked_in("-m a -ts x").tensor_split == ()
    assert asked_in("-m a -cram 100").cache_ram == 100 * MIB
    assert asked_in("-m a --cache-ram=-1").cache_ram is None
    assert asked_in("-m a -b 100 -ub 400").ubatch == 100


def test_what_lies_beside() -> None:
    asked = asked_in("-m a --mmproj p --no-mmproj-offload --lora x,y --lora-scaled z:0.5,w")
    assert (asked.mmproj, asked.mmproj_offload) == ("p", False)
    assert asked.loras == ("x", "y", "z", "w")
    draft = asked_in("-m a -md d -ngld 3 -ctkd q8_0 -devd CUDA1").draft
    assert draft == Draft(model="d", gpu_layers=3, type_k="q8_0", type_v="f16", device="CUDA1")
