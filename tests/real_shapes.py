"""Models of real shapes without weights (`sparse_gguf`), by what is told of them in their cards and converters.

Every block has the tensors that the engine (build b11434, `src/models/*.cpp`) asks for, in a quantisation that such
files have; biases and norms alone are left out where it does not insist.
"""

from __future__ import annotations

from pathlib import Path

from tests.sparse_gguf import Hollow, Value


def llama3_8b(path: Path, *, quant: str = "Q4_K", spoken: bool = False) -> Path:
    return _llama(path, n_layer=32, n_embd=4096, n_head=32, n_head_kv=8, n_ff=14336, quant=quant, spoken=spoken)


def llama3_70b(path: Path, *, spoken: bool = False) -> Path:
    return _llama(path, n_layer=80, n_embd=8192, n_head=64, n_head_kv=8, n_ff=28672, quant="Q4_K", spoken=spoken)


def qwen3_235b(path: Path) -> Path:
    """Qwen3-235B-A22B: 128 experts, 8 of them for each token."""
    n_layer, n_embd, n_ff, n_expert, n_vocab = 94, 4096, 1536, 128, 151936
    file = Hollow(path, "qwen3moe")
    keys: dict[str, Value] = {
        "context_length": 40960,
        "embedding_length": n_embd,
        "block_count": n_layer,
        "feed_forward_length": 12288,
        "expert_feed_forward_length": n_ff,
        "expert_count": n_expert,
        "expert_used_count": 8,
        "attention.head_count": 64,
        "attention.head_count_kv": 4,
        "attention.key_length": 128,
        "attention.value_length": 128,
        "attention.layer_norm_rms_epsilon": 1e-6,
    }
    begin(file, keys, n_embd, n_vocab, "Q4_K")
    for layer in range(n_layer):
        block = attention(file, layer, n_embd, 64 * 128, 4 * 128, "Q4_K")
        file.tensor(f"{block}.attn_q_norm.weight", 128, kind="F32")
        file.tensor(f"{block}.attn_k_norm.weight", 128, kind="F32")
        experts(file, block, n_embd, n_ff, n_expert)
    return file.finish()


def gemma3_27b(path: Path, *, spoken: bool = False) -> Path:
    """Five of six layers look at a window of 1,024 tokens; the embeddings serve as the output, too."""
    n_layer, n_embd, n_ff = 62, 5376, 21504
    file = Hollow(path, "gemma3", spoken=spoken)
    keys: dict[str, Value] = {
        "context_length": 131072,
        "embedding_length": n_embd,
        "block_count": n_layer,
        "feed_forward_length": n_ff,
        "attention.head_count": 32,
        "attention.head_count_kv": 16,
        "attention.key_length": 128,
        "attention.value_length": 128,
        "attention.sliding_window": 1024,
        "attention.layer_norm_rms_epsilon": 1e-6,
    }
    begin(file, keys, n_embd, 262144, "Q6_K", output=False)
    for layer in range(n_layer):
        block = attention(file, layer, n_embd, 32 * 128, 16 * 128, "Q4_0")
        for norm, length in (("attn_q", 128), ("attn_k", 128), ("post_attention", n_embd), ("post_ffw", n_embd)):
            file.tensor(f"{block}.{norm}_norm.weight", length, kind="F32")
        feed_forward(file, block, n_embd, n_ff, "Q4_0")
    return file.finish()


def deepseek_v3(path: Path) -> Path:
    """DeepSeek V3, 671B: the keys and values of all heads are one short vector."""
    n_layer, n_embd, n_head, q_rank, kv_rank, rope = 61, 7168, 128, 1536, 512, 64
    file = Hollow(path, "deepseek2")
    keys: dict[str, Value] = {
        "context_length": 163840,
        "embedding_length": n_embd,
        "block_count": n_layer,
        "feed_forward_length": 18432,
        "expert_feed_forward_length": 2048,
        "expert_count": 256,
        "expert_used_count": 8,
        "expert_shared_count": 1,
        "expert_weights_scale": 2.5,
        "expert_weights_norm": True,
        "expert_gating_func": 2,
        "leading_dense_block_count": 3,
        "attention.head_count": n_head,
        "attention.head_count_kv": 1,
        "attention.q_lora_rank": q_rank,
        "attention.kv_lora_rank": kv_rank,
        "attention.key_length": kv_rank + rope,
        "attention.value_length": kv_rank,
        "attention.key_length_mla": 192,
        "attention.value_length_mla": 128,
        "attention.layer_norm_rms_epsilon": 1e-6,
        "rope.dimension_count": rope,
    }
    begin(file, keys, n_embd, 129280, "Q4_K")
    for layer in range(n_layer):
        block = f"blk.{layer}"
        for norm, length in (("attn", n_embd), ("attn_q_a", q_rank), ("attn_kv_a", kv_rank)):
            file.tensor(f"{block}.{norm}_norm.weight", length, kind="F32")
        file.tensor(f"{block}.attn_q_a.weight", n_embd, q_rank, kind="Q4_K")
        file.tensor(f"{block}.attn_q_b.weight", q_rank, n_head * 192, kind="Q4_K")
        file.tensor(f"{block}.attn_kv_a_mqa.weight", n_embd, kv_rank + rope, kind="Q4_K")
        file.tensor(f"{block}.attn_k_b.weight", 128, kv_rank, n_head, kind="Q8_0")
        file.tensor(f"{block}.attn_v_b.weight", kv_rank, 128, n_head, kind="Q8_0")
        file.tensor(f"{block}.attn_output.weight", n_head * 128, n_embd, kind="Q4_K")
        if layer < 3:
            feed_forward(file, block, n_embd, 18432, "Q4_K")
        else:
            experts(file, block, n_embd, 2048, 256)
            for part, shape in (("gate", (n_embd, 2048)), ("up", (n_embd, 2048)), ("down", (2048, n_embd))):
                file.tensor(f"{block}.ffn_{part}_shexp.weight", *shape, kind="Q4_K")
    return file.finish()


def mamba_2b(path: Path, *, spoken: bool = False) -> Path:
    """A state of a fixed size for each slot, and no cache that grows with the context."""
    n_layer, n_embd, inner, state, rank = 64, 2560, 5120, 16, 160
    file = Hollow(path, "mamba", spoken=spoken)
    keys: dict[str, Value] = {
        "context_length": 1048576,
        "embedding_length": n_embd,
        "block_count": n_layer,
        "feed_forward_length": 0,
        "attention.head_count": 0,
        "attention.layer_norm_rms_epsilon": 1e-5,
        "ssm.conv_kernel": 4,
        "ssm.inner_size": inner,
        "ssm.state_size": state,
        "ssm.time_step_rank": rank,
    }
    begin(file, keys, n_embd, 50280, "Q8_0", output=False)
    for layer in range(n_layer):
        block = f"blk.{layer}"
        file.tensor(f"{block}.attn_norm.weight", n_embd, kind="F32")
        file.tensor(f"{block}.ssm_in.weight", n_embd, 2 * inner, kind="Q8_0")
        file.tensor(f"{block}.ssm_conv1d.weight", 4, inner, kind="F32")
        file.tensor(f"{block}.ssm_conv1d.bias", inner, kind="F32")
        file.tensor(f"{block}.ssm_x.weight", inner, rank + 2 * state, kind="Q8_0")
        file.tensor(f"{block}.ssm_dt.weight", rank, inner, kind="F32")
        file.tensor(f"{block}.ssm_dt.bias", inner, kind="F32")
        file.tensor(f"{block}.ssm_a", state, inner, kind="F32")
        file.tensor(f"{block}.ssm_d", inner, kind="F32")
        file.tensor(f"{block}.ssm_out.weight", inner, n_embd, kind="Q8_0")
    return file.finish()


def lfm2_1b(path: Path, *, spoken: bool = False) -> Path:
    """A hybrid: 6 of 16 layers look at keys and values, the others keep a short state."""
    n_layer, n_embd, n_ff, attending = 16, 2048, 8192, (2, 5, 8, 10, 12, 14)
    heads = [8 if layer in attending else 0 for layer in range(n_layer)]
    file = Hollow(path, "lfm2", spoken=spoken)
    keys: dict[str, Value] = {
        "context_length": 128000,
        "embedding_length": n_embd,
        "block_count": n_layer,
        "feed_forward_length": n_ff,
        "attention.head_count": 32,
        "attention.head_count_kv": heads,
        "attention.layer_norm_rms_epsilon": 1e-5,
        "shortconv.l_cache": 3,
    }
    begin(file, keys, n_embd, 65536, "Q6_K", output=False, norm="token_embd_norm")
    for layer in range(n_layer):
        block = f"blk.{layer}"
        if layer in attending:
            attention(file, layer, n_embd, n_embd, 512, "Q4_K")
            file.tensor(f"{block}.attn_q_norm.weight", 64, kind="F32")
            file.tensor(f"{block}.attn_k_norm.weight", 64, kind="F32")
        else:
            file.tensor(f"{block}.attn_norm.weight", n_embd, kind="F32")
            file.tensor(f"{block}.shortconv.conv.weight", 3, n_embd, kind="F32")
            file.tensor(f"{block}.shortconv.in_proj.weight", n_embd, 3 * n_embd, kind="Q4_K")
            file.tensor(f"{block}.shortconv.out_proj.weight", n_embd, n_embd, kind="Q4_K")
        feed_forward(file, block, n_embd, n_ff, "Q4_K")
    return file.finish()


def gemma3_projector(path: Path) -> Path:
    """The vision tower of Gemma 3 (SigLIP, 896 by 896), to go with a 27B."""
    n_layer, n_embd, n_ff, n_out = 27, 1152, 4304, 5376
    file = Hollow(path, "clip")
    file.writer.add_type("mmproj")
    file.writer.add_file_type(1)
    file.writer.add_bool("clip.has_vision_encoder", True)
    file.writer.add_string("clip.projector_type", "gemma3")
    numbers: dict[str, Value] = {
        "vision.image_size": 896,
        "vision.patch_size": 14,
        "vision.embedding_length": n_embd,
        "vision.feed_forward_length": n_ff,
        "vision.block_count": n_layer,
        "vision.attention.head_count": 16,
        "vision.projection_dim": n_out,
        "vision.attention.layer_norm_epsilon": 1e-6,
        "use_gelu": True,
    }
    file.keys(numbers)
    file.writer.add_array("clip.vision.image_mean", [0.5, 0.5, 0.5])
    file.writer.add_array("clip.vision.image_std", [0.5, 0.5, 0.5])
    file.tensor("v.patch_embd.weight", 14, 14, 3, n_embd, kind="F16")
    file.tensor("v.patch_embd.bias", n_embd, kind="F32")
    file.tensor("v.position_embd.weight", n_embd, 4096, kind="F16")
    for layer in range(n_layer):
        block = f"v.blk.{layer}"
        for part in ("attn_q", "attn_k", "attn_v", "attn_out"):
            _biased(file, f"{block}.{part}", n_embd, n_embd)
        _biased(file, f"{block}.ffn_up", n_embd, n_ff)
        _biased(file, f"{block}.ffn_down", n_ff, n_embd)
        for norm in ("ln1", "ln2"):
            file.tensor(f"{block}.{norm}.weight", n_embd, kind="F32")
            file.tensor(f"{block}.{norm}.bias", n_embd, kind="F32")
    for part in ("weight", "bias"):
        file.tensor(f"v.post_ln.{part}", n_embd, kind="F32")
    file.tensor("mm.input_projection.weight", n_out, n_embd, kind="F16")
    file.tensor("mm.soft_emb_norm.weight", n_embd, kind="F32")
    return file.finish()


def _llama(
    path: Path, *, n_layer: int, n_embd: int, n_head: int, n_head_kv: int, n_ff: int, quant: str, spoken: bool
) -> Path:
    file = Hollow(path, "llama", spoken=spoken)
    keys: dict[str, Value] = {
        "context_length": 131072,
        "embedding_length": n_embd,
        "block_count": n_layer,
        "feed_forward_length": n_ff,
        "attention.head_count": n_head,
        "attention.head_count_kv": n_head_kv,
        "attention.layer_norm_rms_epsilon": 1e-5,
        "rope.dimension_count": n_embd // n_head,
    }
    begin(file, keys, n_embd, 128256, quant)
    for layer in range(n_layer):
        block = attention(file, layer, n_embd, n_embd, n_embd // n_head * n_head_kv, quant)
        feed_forward(file, block, n_embd, n_ff, quant)
    return file.finish()


def begin(
    file: Hollow,
    keys: dict[str, Value],
    n_embd: int,
    n_vocab: int,
    quant: str,
    *,
    output: bool = True,
    norm: str = "output_norm",
) -> None:
    file.keys(keys)
    file.vocabulary(n_vocab)
    file.tensor("token_embd.weight", n_embd, n_vocab, kind=quant)
    file.tensor(f"{norm}.weight", n_embd, kind="F32")
    if output:
        file.tensor("output.weight", n_embd, n_vocab, kind="Q6_K" if quant == "Q4_K" else quant)


def attention(file: Hollow, layer: int, n_embd: int, n_q: int, n_kv: int, quant: str, *, twice_q: bool = False) -> str:
    """`twice_q`: with a gate in the tensor of the queries."""
    block = f"blk.{layer}"
    file.tensor(f"{block}.attn_norm.weight", n_embd, kind="F32")
    file.tensor(f"{block}.attn_q.weight", n_embd, n_q * (2 if twice_q else 1), kind=quant)
    file.tensor(f"{block}.attn_k.weight", n_embd, n_kv, kind=quant)
    file.tensor(f"{block}.attn_v.weight", n_embd, n_kv, kind=quant)
    file.tensor(f"{block}.attn_output.weight", n_q, n_embd, kind=quant)
    return block


def feed_forward(file: Hollow, block: str, n_embd: int, n_ff: int, quant: str) -> None:
    file.tensor(f"{block}.ffn_norm.weight", n_embd, kind="F32")
    file.tensor(f"{block}.ffn_gate.weight", n_embd, n_ff, kind=quant)
    file.tensor(f"{block}.ffn_up.weight", n_embd, n_ff, kind=quant)
    file.tensor(f"{block}.ffn_down.weight", n_ff, n_embd, kind=quant)


def experts(file: Hollow, block: str, n_embd: int, n_ff: int, n_expert: int, *, norm: bool = True) -> None:
    if norm:
        file.tensor(f"{block}.ffn_norm.weight", n_embd, kind="F32")
    file.tensor(f"{block}.ffn_gate_inp.weight", n_embd, n_expert, kind="F32")
    file.tensor(f"{block}.ffn_gate_exps.weight", n_embd, n_ff, n_expert, kind="Q4_K")
    file.tensor(f"{block}.ffn_up_exps.weight", n_embd, n_ff, n_expert, kind="Q4_K")
    file.tensor(f"{block}.ffn_down_exps.weight", n_ff, n_embd, n_expert, kind="Q6_K")


def _biased(file: Hollow, name: str, inputs: int, outputs: int) -> None:
    file.tensor(f"{name}.weight", inputs, outputs, kind="F16")
    file.tensor(f"{name}.bias", outputs, kind="F32")
