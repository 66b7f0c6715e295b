#!/usr/bin/env python3
"""Measures tokens per second of PyTorch's transformers on a GPU, for tests/cuda/speed.

The model is a Qwen2 of the shape of the 1.5B model with random weights in bf16, decoded greedily. The output is JSON lines
like those of `yizhai bench`. Each also contains the limit set by the GPU's memory bandwidth, if a step reads the weights
once and the keys and values of every sequence once.
"""
import argparse
import json
import statistics
import time

import torch
from transformers import Qwen2Config, Qwen2ForCausalLM

numbers = lambda text: [int(number) for number in text.split(",")]
parser = argparse.ArgumentParser()
parser.add_argument("--batch", type=numbers, default=[1, 16, 64, 256])
parser.add_argument("--prompt", type=int, default=128)
parser.add_argument("--generate", type=int, default=128)
parser.add_argument("--repeat", type=int, default=3)
args = parser.parse_args()

config = Qwen2Config(
    vocab_size=151936,
    hidden_size=1536,
    intermediate_size=8960,
    num_hidden_layers=28,
    num_attention_heads=12,
    num_key_value_heads=2,
    tie_word_embeddings=True,
)
torch.manual_seed(1)
torch.set_default_dtype(torch.bfloat16)
with torch.device("cuda"):
    model = Qwen2ForCausalLM(config).eval()
weight_bytes = sum(p.numel() * p.element_size() for p in model.parameters())
kv_bytes = 28 * 2 * 2 * 128 * 2  # per token


def copied_bytes_per_second():
    """Measures the memory bandwidth; a copy reads and writes each byte."""
    source = torch.empty(1 << 30, dtype=torch.uint8, device="cuda")
    target = torch.empty_like(source)
    times = []
    for _ in range(5):
        torch.cuda.synchronize()
        started = time.perf_counter()
        target.copy_(source)
        torch.cuda.synchronize()
        times.append(time.perf_counter() - started)
    return 2 * source.numel() / min(times)


bandwidth = copied_bytes_per_second()


@torch.inference_mode()
def measure(batch):
    ids = torch.randint(0, config.vocab_size, (batch, args.prompt), device="cuda")
    torch.cuda.synchronize()
    started = time.perf_counter()
    out = model(input_ids=ids, use_cache=True, logits_to_keep=1)
    torch.cuda.synchronize()
    read = time.perf_counter()
    for _ in range(args.generate):
        ids = out.logits[:, -1:].argmax(-1)
        out = model(input_ids=ids, past_key_values=out.past_key_values, use_cache=True)
    torch.cuda.synchronize()
    return read - started, time.perf_counter() - read


for batch in args.batch:
    measure(batch)  # warm
    runs = [measure(batch) for _ in range(args.repeat)]
    read, written = (statistics.median(times) for times in zip(*runs))
    context = args.prompt + args.generate / 2
    limit = batch / ((weight_bytes + batch * context * kv_bytes) / bandwidth)
    print(
        json.dumps(
            {
                "engine": "transformers",
                "device": torch.cuda.get_device_name(),
                "batch": batch,
                "prompt_tokens_per_second": round(batch * args.prompt / read, 2),
                "generated_tokens_per_second": round(batch * args.generate / written, 2),
                "memory_bytes_per_second": round(bandwidth),
                "weight_bytes": weight_bytes,
                "limit_of_generated_tokens_per_second": round(limit, 2),
            }
        )
    )
