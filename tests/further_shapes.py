"""More models of real shapes (`real_shapes`): those to which the formula was not fitted, so that they test it."""

from __future__ import annotations

from pathlib import Path

from tests.real_shapes import attention, begin, experts, feed_forward
from tests.sparse_gguf import Hollow, Value


def gpt_oss_120b(path: Path, *, spoken: bool = False) -> Path:
    """Every other layer looks at 128 tokens; experts in MXFP4, with biases."""
    n_layer, n_embd, n_ff, n_expert = 36, 2880, 2880, 128
    file = Hollow(path, "gpt-oss", spoken=spoken)
    keys: dict[str, Value] = {
        "context_length": 131072,
        "embedding_length": n_embd,
        "block_count": n_layer,
        "feed_forward_length": n_ff,
        "expert_feed_forward_length": n_ff,
        "expert_count": n_expert,
        "expert_used_count": 4,
        "attention.head_count": 64,
        "attention.head_count_kv": 8,
        "attention.key_length": 64,
        "attention.value_length": 64,
        "attention.sliding_window": 128,
        "attention.layer_norm_rms_epsilon": 1e-5,
    }
    begin(file, keys, n_embd, 201088, "Q8_0")
    for layer in range(n_layer):
        block = attention(file, layer, n_embd, 64 * 64, 8 * 64, "Q8_0")
        file.tensor(f"{block}.post_attention_norm.weight", n_embd, kind="F32")
        file.tensor(f"{block}.attn_sinks.weight", 64, kind="F32")
        for part, length in (("attn_q", 4096), ("attn_k", 512), ("attn_v", 512), ("attn_output", n_embd)):
            file.tensor(f"{block}.{part}.bias", length, kind="F32")
        file.tensor(f"{block}.ffn_gate_inp.weight", n_embd, n_expert, kind="F32")
        file.tensor(f"{block}.ffn_gate_inp.bias", n_expert, kind="F32")
        for part, length in (("gate", n_ff), ("up", n_ff), ("down", n_embd)):
            file.tensor(f"{block}.ffn_{part}_exps.weight", n_embd, n_ff, n_expert, kind="MXFP4")
            file.tensor(f"{block}.ffn_{part}_exps.bias", length, n_expert, kind="F32")
    return file.finish()


def phi3_medium(path: Path) -> Path:
    """Queries, keys and values in one tensor, gate and up in another."""
    n_layer, n_embd, n_ff = 40, 5120, 17920
    file = Hollow(path, "phi3")
    keys: dict[str, Value] = {
        "context_length": 131072,
        "embedding_length": n_embd,
        "block_count": n_layer,
        "feed_forward_length": n_ff,
        "attention.head_count": 40,
        "attention.head_count_kv": 10,
        "attention.sliding_window": 131072,
        "attention.layer_norm_rms_epsilon": 1e-5,
        "rope.dimension_count": 128,
        "rope.scaling.original_context_length": 4096,
    }
    begin(file, keys, n_embd, 32064, "Q4_K")
    for layer in range(n_layer):
        block = f"blk.{layer}"
        file.tensor(f"{block}.attn_norm.weight", n_embd, kind="F32")
        file.tensor(f"{block}.attn_qkv.weight", n_embd, n_embd + 2 * 1280, kind="Q5_K")
        file.tensor(f"{block}.attn_output.weight", n_embd, n_embd, kind="Q4_K")
        file.tensor(f"{block}.ffn_norm.weight", n_embd, kind="F32")
        file.tensor(f"{block}.ffn_up.weight", n_embd, 2 * n_ff, kind="Q4_K")
        file.tensor(f"{block}.ffn_down.weight", n_ff, n_embd, kind="Q6_K")
    return file.finish()


def qwen3_next_80b(path: Path) -> Path:
    """A hybrid with experts: every fourth layer attends, the others keep a state."""
    n_layer, n_embd, n_ff, n_expert, state, groups, rank = 48, 2048, 512, 512, 128, 16, 32
    key, value = state * groups, state * rank
    file = Hollow(path, "qwen3next")
    keys: dict[str, Value] = {
        "context_length": 262144,
        "embedding_length": n_embd,
        "block_count": n_layer,
        "feed_forward_length": 5120,
        "expert_feed_forward_length": n_ff,
        "expert_shared_feed_forward_length": n_ff,
        "expert_count": n_expert,
        "expert_used_count": 10,
        "attention.head_count": 16,
        "attention.head_count_kv": 2,
        "attention.key_length": 256,
        "attention.value_length": 256,
        "attention.layer_norm_rms_epsilon": 1e-6,
        "rope.dimension_count": 64,
        "ssm.conv_kernel": 4,
        "ssm.inner_size": value,
        "ssm.state_size": state,
        "ssm.time_step_rank": rank,
        "ssm.group_count": groups,
        "full_attention_interval": 4,
    }
    begin(file, keys, n_embd, 151936, "Q4_K")
    for layer in range(n_layer):
        block = f"blk.{layer}"
        if layer % 4 == 3:
            attention(file, layer, n_embd, 256 * 16, 512, "Q4_K", twice_q=True)
            file.tensor(f"{block}.attn_q_norm.weight", 256, kind="F32")
            file.tensor(f"{block}.attn_k_norm.weight", 256, kind="F32")
        else:
            file.tensor(f"{block}.attn_norm.weight", n_embd, kind="F32")
            file.tensor(f"{block}.attn_qkv.weight", n_embd, 2 * key + value, kind="Q4_K")
            file.tensor(f"{block}.attn_gate.weight", n_embd, value, kind="Q4_K")
            file.tensor(f"{block}.ssm_conv1d.weight", 4, 2 * key + value, kind="F32")
            file.tensor(f"{block}.ssm_dt.bias", rank, kind="F32")
            file.tensor(f"{block}.ssm_a", rank, kind="F32")
            file.tensor(f"{block}.ssm_ba.weight", n_embd, 2 * rank, kind="Q4_K")
            file.tensor(f"{block}.ssm_norm.weight", state, kind="F32")
            file.tensor(f"{block}.ssm_out.weight", value, n_embd, kind="Q4_K")
        file.tensor(f"{block}.post_attention_norm.weight", n_embd, kind="F32")
        experts(file, block, n_embd, n_ff, n_expert, norm=False)
        file.tensor(f"{block}.ffn_gate_inp_shexp.weight", n_embd, kind="F32")
        for part, shape in (("gate", (n_embd, n_ff)), ("up", (n_embd, n_ff)), ("down", (n_ff, n_embd))):
            file.tensor(f"{block}.ffn_{part}_shexp.weight", *shape, kind="Q4_K")
    return file.finish()


def granite_4_small(path: Path) -> Path:
    """A hybrid without experts: 4 of 40 layers attend."""
    n_layer, n_embd, n_ff, state, heads = 40, 2048, 8192, 128, 64
    inner, attending = 2 * n_embd, (5, 15, 25, 35)
    file = Hollow(path, "granitehybrid")
    keys: dict[str, Value] = {
        "context_length": 131072,
        "embedding_length": n_embd,
        "block_count": n_layer,
        "feed_forward_length": n_ff,
        "attention.head_count": 32,
        "attention.head_count_kv": [8 if layer in attending else 0 for layer in range(n_layer)],
        "attention.layer_norm_rms_epsilon": 1e-5,
        "rope.dimension_count": 64,
        "ssm.conv_kernel": 4,
        "ssm.inner_size": inner,
        "ssm.state_size": state,
        "ssm.time_step_rank": heads,
        "ssm.group_count": 1,
    }
    begin(file, keys, n_embd, 100352, "Q4_K", output=False)
    for layer in range(n_layer):
        block = f"blk.{layer}"
        if layer in attending:
            attention(file, layer, n_embd, n_embd, 512, "Q4_K")
        else:
            file.tensor(f"{block}.attn_norm.weight", n_embd, kind="F32")
            file.tensor(f"{block}.ssm_in.weight", n_embd, 2 * inner + 2 * state + heads, kind="Q4_K")
            file.tensor(f"{block}.ssm_conv1d.weight", 4, inner + 2 * state, kind="F32")
            file.tensor(f"{block}.ssm_conv1d.bias", inner + 2 * state, kind="F32")
            file.tensor(f"{block}.ssm_dt.bias", heads, kind="F32")
            file.tensor(f"{block}.ssm_a", 1, heads, kind="F32")
            file.tensor(f"{block}.ssm_d", 1, heads, kind="F32")
            file.tensor(f"{block}.ssm_norm.weight", inner, 1, kind="F32")
            file.tensor(f"{block}.ssm_out.weight", inner, n_embd, kind="Q4_K")
        feed_forward(file, block, n_embd, n_ff, "Q4_K")
    return file.finish()
