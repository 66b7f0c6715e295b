#!/usr/bin/env python3
"""Writes a tiny random model of each family as a GGUF file with two adapters (LoRA), and the logits that PyTorch's
transformers computes with it, for tests/families.rs. The reference for an adapter is the model with merged weights,
W + alpha / rank * B A.

    pip install torch transformers gguf numpy
    tiny_models.py tests/data/families

The values of matrices are representable in half precision, so that both sides compute with the same weights.
"""
import json
import sys
from pathlib import Path

import gguf
import numpy as np
import torch
import transformers as hf

VOCAB, PROMPT = 64, 40
ROWS = [0, 7, 8, 20, 39]
SIZES = dict(
    vocab_size=VOCAB, hidden_size=32, intermediate_size=48, num_attention_heads=4, num_key_value_heads=2, head_dim=16,
    max_position_embeddings=128, tie_word_embeddings=False, attention_bias=False, pad_token_id=0, bos_token_id=1,
    eos_token_id=2, initializer_range=0.15, rms_norm_eps=1e-6,
)
LLAMA3_ROPE = dict(
    rope_type="llama3", rope_theta=10_000.0, factor=8.0, low_freq_factor=1.0, high_freq_factor=4.0,
    original_max_position_embeddings=32,
)
CONFIGS = {
    "qwen2": hf.Qwen2Config(**SIZES, num_hidden_layers=2, rope_parameters=dict(rope_type="default", rope_theta=5e5)),
    "qwen3": hf.Qwen3Config(**SIZES, num_hidden_layers=2, rope_parameters=dict(rope_type="default", rope_theta=1e6)),
    "llama": hf.LlamaConfig(**SIZES, num_hidden_layers=2, rope_parameters=LLAMA3_ROPE),
    "gemma3": hf.Gemma3TextConfig(
        **SIZES | dict(tie_word_embeddings=True), num_hidden_layers=7, sliding_window=8, query_pre_attn_scalar=16,
        rope_parameters=dict(
            full_attention=dict(rope_type="default", rope_theta=1e6),
            sliding_attention=dict(rope_type="default", rope_theta=1e4),
        ),
    ),
}
# The rank, alpha and layers of each adapter: the first updates every matrix, the second one only some.
ADAPTERS = {
    "a": dict(rank=4, alpha=8.0, dtype=np.float16, keep=lambda name: ".layers." in name),
    "b": dict(rank=3, alpha=1.5, dtype=np.float32, keep=lambda name: "q_proj" in name or "down_proj" in name or "lm_head" in name),
}
NAMES = {
    "model.embed_tokens": "token_embd", "model.norm": "output_norm", "lm_head": "output",
    "self_attn.q_proj": "attn_q", "self_attn.k_proj": "attn_k", "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output", "self_attn.q_norm": "attn_q_norm", "self_attn.k_norm": "attn_k_norm",
    "mlp.gate_proj": "ffn_gate", "mlp.up_proj": "ffn_up", "mlp.down_proj": "ffn_down",
    "input_layernorm": "attn_norm", "post_attention_layernorm": "ffn_norm",
}
GEMMA_NAMES = {
    "post_attention_layernorm": "post_attention_norm", "pre_feedforward_layernorm": "ffn_norm",
    "post_feedforward_layernorm": "post_ffw_norm",
}


def random_weights(model):
    generator = torch.Generator().manual_seed(7)
    with torch.no_grad():
        for name, weight in model.named_parameters():
            noise = torch.randn(weight.shape, generator=generator)
            if "norm" in name:
                weight += 0.2 * noise
            elif weight.dim() == 1:
                weight.copy_(0.5 * noise)
            else:
                weight.copy_((0.15 * noise).half().float())


def gguf_name(name, arch):
    name, kind = name.rsplit(".", 1)
    names = NAMES | (GEMMA_NAMES if arch == "gemma3" else {})
    if name.startswith("model.layers."):
        _, _, layer, rest = name.split(".", 3)
        return f"blk.{layer}.{names[rest]}.{kind}"
    return f"{names[name]}.{kind}"


def neighbours(weight, heads):
    """Reorders the rows of queries and keys as in GGUF files of Llama, where the elements of a rotated pair are adjacent."""
    return weight.reshape(heads, 2, weight.shape[0] // heads // 2, -1).swapaxes(1, 2).reshape(weight.shape)


def write(path, arch, model):
    config = model.config
    writer = gguf.GGUFWriter(path, arch)
    writer.add_context_length(config.max_position_embeddings)
    writer.add_embedding_length(config.hidden_size)
    writer.add_block_count(config.num_hidden_layers)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(config.num_attention_heads)
    writer.add_head_count_kv(config.num_key_value_heads)
    writer.add_key_length(config.head_dim)
    writer.add_value_length(config.head_dim)
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    rope = config.rope_parameters
    writer.add_rope_freq_base(rope.get("full_attention", rope)["rope_theta"])
    if arch == "gemma3":
        writer.add_sliding_window(config.sliding_window)
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("qwen2")
    writer.add_token_list([f"t{n}" for n in range(VOCAB)])
    if rope.get("rope_type") == "llama3":
        plain = rope["rope_theta"] ** (-np.arange(0, config.head_dim, 2) / config.head_dim)
        writer.add_tensor("rope_freqs.weight", (plain / model.model.rotary_emb.inv_freq.numpy()).astype(np.float32))
    for name, weight in model.named_parameters():
        data = weight.detach().numpy()
        if arch == "gemma3" and "norm" in name:
            data = data + 1
        data = in_gguf_order(name, arch, config, data)
        writer.add_tensor(gguf_name(name, arch), data.astype(np.float16 if data.ndim == 2 else np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def in_gguf_order(name, arch, config, rows):
    """Reorders the output rows of a weight, or of the matrix B of its update, as in the GGUF file."""
    if arch == "llama" and ("q_proj" in name or "k_proj" in name):
        heads = config.num_attention_heads if "q_proj" in name else config.num_key_value_heads
        return neighbours(rows, heads)
    return rows


def random_updates(model, rank, keep, seed, **_):
    generator = torch.Generator().manual_seed(seed)
    updates = {}
    for name, weight in model.named_parameters():
        if weight.dim() == 2 and "embed" not in name and keep(name):
            a = 0.2 * torch.randn((rank, weight.shape[1]), generator=generator)
            b = 0.2 * torch.randn((weight.shape[0], rank), generator=generator)
            updates[name] = (a.half().float(), b.half().float())
    return updates


def write_adapter(path, arch, config, updates, rank, alpha, dtype, **_):
    writer = gguf.GGUFWriter(path, arch)
    writer.add_type("adapter")
    writer.add_string("adapter.type", "lora")
    writer.add_float32("adapter.lora.alpha", alpha)
    writer.add_name(f"tiny {path.stem}")
    for name, (a, b) in updates.items():
        writer.add_tensor(gguf_name(name, arch) + ".lora_a", a.numpy().astype(dtype))
        writer.add_tensor(gguf_name(name, arch) + ".lora_b", in_gguf_order(name, arch, config, b.numpy()).astype(dtype))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def merged_logits(model, updates, prompt, rank, alpha, **_):
    with torch.no_grad():
        weights = dict(model.named_parameters())
        for name, (a, b) in updates.items():
            weights[name] += alpha / rank * (b @ a)
        logits = model(torch.tensor([prompt])).logits[0]
        for name, (a, b) in updates.items():
            weights[name] -= alpha / rank * (b @ a)
    return [[round(float(x), 5) for x in logits[row]] for row in ROWS]


out = Path(sys.argv[1])
out.mkdir(parents=True, exist_ok=True)
prompt = [(n * 29 + 3) % VOCAB for n in range(PROMPT)]
reference = {"from": f"transformers {hf.__version__}", "prompt": prompt, "rows": ROWS, "logits": {}, "adapters": {}}
for arch, config in CONFIGS.items():
    model = hf.AutoModelForCausalLM.from_config(config, attn_implementation="eager").float().eval()
    random_weights(model)
    write(out / f"{arch}.gguf", arch, model)
    with torch.no_grad():
        logits = model(torch.tensor([prompt])).logits[0]
    reference["logits"][arch] = [[round(float(x), 5) for x in logits[row]] for row in ROWS]
    reference["adapters"][arch] = {}
    for seed, (name, adapter) in enumerate(ADAPTERS.items()):
        updates = random_updates(model, seed=seed, **adapter)
        write_adapter(out / f"{arch}.{name}.lora.gguf", arch, config, updates, **adapter)
        reference["adapters"][arch][name] = merged_logits(model, updates, prompt, **adapter)
    print(arch, float(logits.std()), file=sys.stderr)
(out / "logits.json").write_text(json.dumps(reference).replace("]], ", "]],\n").replace("], [", "],\n[") + "\n")
