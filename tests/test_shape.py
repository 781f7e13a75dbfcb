"""The shape of a model: windows, hybrids, states, and keys that are not as they should be."""

from __future__ import annotations

from pathlib import Path

import pytest

from llamarouter.core.window import windows_of
from tests import real_shapes
from tests.launches import shape_in
from tests.sparse_gguf import Hollow, Value


def windows(architecture: str, n_layer: int, **keys: tuple[int, ...]) -> tuple[int, str]:
    names = {"attention.sliding_window": "window", "attention.sliding_window_pattern": "pattern"}
    window, layers = windows_of(architecture, n_layer, lambda key: keys.get(names[key], ()))
    return window, "".join("w" if windowed else "." for windowed in layers)


@pytest.mark.parametrize(
    ("architecture", "keys", "expected"),
    [
        ("llama", {}, (0, "......")),
        ("phi3", {"window": (2048,)}, (0, "......")),  # the engine looks at everything all the same
        ("gemma3", {"window": (512,)}, (512, "wwwww.")),
        ("gemma3", {}, (0, "......")),
        ("gemma2", {}, (4096, "w.w.w.")),
        ("cohere2moe", {"window": (64,)}, (64, ".www.w")),
        ("gemma3", {"window": (512,), "pattern": (3,)}, (512, "ww.ww.")),
        ("gemma3", {"window": (512,), "pattern": (1, 0, 0, 1)}, (512, "w..w..")),
        ("novel", {"window": (64,), "pattern": (1, 0, 0, 0, 0, 1)}, (64, "w....w")),
        ("novel", {"window": (64,), "pattern": (2,)}, (0, "......")),
        ("lfm2", {"window": (64,)}, (64, "wwwwww")),
        ("exaone4", {"window": (64,)}, (0, "......")),  # only the one of 64 layers has a window
        ("llama4", {}, (8192, "www.ww")),
        ("llama4", {"window": (100,)}, (8192, "www.ww")),
        ("llama4", {"window": (0,)}, (0, "......")),
    ],
)
def test_which_layers_see_a_window(
    architecture: str, keys: dict[str, tuple[int, ...]], expected: tuple[int, str]
) -> None:
    assert windows(architecture, 6, **keys) == expected


def test_a_hybrid_attends_in_some_layers_and_keeps_a_state_in_the_others(tmp_path: Path) -> None:
    layers = shape_in(real_shapes.lfm2_1b(tmp_path / "l.gguf")).layers
    assert [index for index, layer in enumerate(layers) if layer.keys] == [2, 5, 8, 10, 12, 14]
    assert {layer.state for layer in layers if layer.keys} == {0}
    assert {layer.state for layer in layers if not layer.keys} == {2048 * 2 * 4}


def test_latent_attention_keeps_no_values(tmp_path: Path) -> None:
    layers = shape_in(real_shapes.deepseek_v3(tmp_path / "d.gguf")).layers
    assert {(layer.keys, layer.values) for layer in layers} == {(576, 0)}


def small(path: Path, architecture: str, tensors: dict[str, tuple[int, ...]], **keys: Value) -> Path:
    file = Hollow(path, architecture)
    named = {key.replace("__", "."): value for key, value in keys.items()}
    file.keys({"context_length": 64, "embedding_length": 32, "block_count": 2, "vocab_size": 10, **named})
    file.tensor("token_embd.weight", 32, 10, kind="F16")
    for name, shape in tensors.items():
        file.tensor(name, *shape, kind="F16")
    return file.finish()


@pytest.mark.parametrize(
    ("architecture", "keys", "state"),
    [
        ("rwkv6", {"wkv__head_size": 8}, 2 * 32 + 32 * 8),
        ("rwkv7", {"wkv__head_size": 8, "token_shift_count": 1}, 32 + 32 * 8),
        ("kimi-linear", {"kda__head_dim": 4, "attention__head_count": 2}, 3 * 3 * 2 * 4 + 4 * 4 * 2),
        ("kimi-linear", {"kda__head_dim": 4, "attention__head_count": 2, "ssm__conv_kernel": 3}, 2 * 24 + 32),
        (
            "mamba2",
            {"ssm__conv_kernel": 4, "ssm__inner_size": 64, "ssm__state_size": 8, "ssm__group_count": 2},
            3 * (64 + 2 * 2 * 8) + 8 * 64,
        ),
    ],
)
def test_states(tmp_path: Path, architecture: str, keys: dict[str, Value], state: int) -> None:
    path = small(tmp_path / "s.gguf", architecture, {"blk.0.ssm_in.weight": (32, 64), "blk.1.ffn_up": (1,)}, **keys)
    first, second = shape_in(path).layers
    assert (first.state, second.state) == (4 * state, 0)
    assert first.keys == first.values == 0


def test_layers_that_predict_further_tokens_are_not_loaded(tmp_path: Path) -> None:
    tensors = {"blk.0.attn_k.weight": (32, 32), "blk.1.attn_k.weight": (32, 32)}
    path = small(tmp_path / "n.gguf", "deepseek2", tensors, attention__head_count=2, nextn_predict_layers=1)
    shape = shape_in(path)
    assert len(shape.layers) == len(shape.blocks) == 1
    assert shape.weights == 640 + 2048


def test_layers_may_look_at_the_keys_of_others(tmp_path: Path) -> None:
    tensors = {"blk.0.attn_k.weight": (32, 32), "blk.1.attn_k.weight": (32, 32)}
    path = small(tmp_path / "g.gguf", "gemma4", tensors, attention__head_count=2, attention__shared_kv_layers=1)
    assert [layer.keys for layer in shape_in(path).layers] == [32, 0]
    path = small(tmp_path / "n.gguf", "gemma3n", tensors, attention__head_count=2, block_count=22)
    assert [layer.keys for layer in shape_in(path).layers[:3]] == [32, 32, 0]  # as its tensors say, of 20 at most


def test_heads_may_differ_by_layer_and_by_window(tmp_path: Path) -> None:
    tensors = {f"blk.{layer}.attn_qkv.weight": (32, 32) for layer in range(4)}
    keys: dict[str, Value] = {
        "block_count": 4,
        "attention__head_count": [4, 4, 4, 4],
        "attention__head_count_kv": [4, 2],  # too short: the last one goes on
        "attention__key_length": 8,
        "attention__value_length": 16,
        "attention__key_length_swa": 4,
        "attention__sliding_window": 16,
        "attention__sliding_window_pattern": [False, True, False, True],
    }
    path = small(tmp_path / "h.gguf", "gemma4", tensors, **keys)
    assert [(layer.keys, layer.values) for layer in shape_in(path).layers] == [(32, 64), (8, 32), (16, 32), (8, 32)]


def test_a_header_without_heads_is_a_model_without_a_cache(tmp_path: Path) -> None:
    path = small(tmp_path / "x.gguf", "llama", {"blk.0.attn_k.weight": (32, 32), "output.weight": (32, 10)})
    shape = shape_in(path)
    assert [layer.keys for layer in shape.layers] == [0, 0]
    assert not shape.tied
    assert shape.output_weights == 640
